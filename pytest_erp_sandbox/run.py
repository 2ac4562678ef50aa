"""What one pytest run knows: its settings, its name, what its summary will say."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .progress import Progress
    from .sandbox import Sandbox
    from .settings import Settings

__all__ = ["FAILED", "REHEARSED", "RUN", "SETTINGS", "SUMMARY", "note", "once_a_run", "progress", "worker_input"]

SETTINGS: pytest.StashKey[Settings | None] = pytest.StashKey()
"""The settings; None where there are none, and the plugin does nothing."""

RUN = pytest.StashKey[str]()
"""Names the run; its pytest-xdist workers share it."""

SUMMARY = pytest.StashKey[dict[str, str]]()
"""What the summary at the end says, by subject."""

FAILED = pytest.StashKey[bool]()
"""On a test: whether it failed, in its setup or its steps."""

REHEARSED: pytest.StashKey[Sandbox] = pytest.StashKey()
"""On a test: its sandbox."""


def note(config: pytest.Config, subject: str, text: str) -> None:
    """Have the summary say ``text``, unless it says something of this subject already."""
    config.stash[SUMMARY].setdefault(subject, text)


def worker_input(config: pytest.Config) -> dict[str, Any]:
    """What pytest-xdist tells its workers; empty in any other process."""
    return getattr(config, "workerinput", {})


def once_a_run(
    config: pytest.Config, tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[], str]
) -> str:
    """What ``make`` gives, made by the first of the run's processes that asks for it."""
    base = tmp_path_factory.getbasetemp()
    if not worker_input(config):
        return make()
    from filelock import FileLock

    file = base.parent / f"erp-sandbox-{name}-{config.stash[RUN]}"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            file.write_text(make(), encoding="utf-8")
        return file.read_text(encoding="utf-8")


def progress(config: pytest.Config) -> Progress:
    """How this run tells of long work: live on a terminal, in lines elsewhere, not at all with -q or in a worker."""
    from .progress import Lines, Live, Progress, is_terminal

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or worker_input(config) or config.get_verbosity() < 0:
        return Progress()
    capture = config.pluginmanager.get_plugin("capturemanager")

    def uncaptured() -> AbstractContextManager[None]:
        return nullcontext() if capture is None else capture.global_and_fixture_disabled()

    @contextmanager
    def uncovered() -> Generator[None]:
        with uncaptured():
            # Whatever pytest has begun on this line, it begins again afterwards.
            reporter.ensure_newline()
            yield

    def write(line: str) -> None:
        with uncovered():
            reporter.write_line(line)

    with uncaptured():  # while pytest captures, standard error is a file
        on_terminal = is_terminal()
    return Live(uncovered) if on_terminal else Lines(write)
