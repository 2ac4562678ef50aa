"""What one pytest run knows: its settings, its name, what its summary will say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .progress import Progress
    from .settings import Settings

__all__ = ["FAILED", "RUN", "SETTINGS", "SUMMARY", "once_a_run", "progress", "worker_input"]

SETTINGS: pytest.StashKey[Settings | None] = pytest.StashKey()
"""The settings; None where there are none, and the plugin does nothing."""

RUN = pytest.StashKey[str]()
"""Names the run; its pytest-xdist workers share it."""

SUMMARY = pytest.StashKey[list[str]]()
"""Lines for the summary at the end."""

FAILED = pytest.StashKey[bool]()
"""On a test: whether it failed, in its setup or its steps."""


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

    file = base.parent / f"erp-sandbox-{name}"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            file.write_text(make(), encoding="utf-8")
        return file.read_text(encoding="utf-8")


def progress(config: pytest.Config) -> Progress:
    """How this run tells of long work: live on a terminal, in lines elsewhere, not at all with -q or in a worker."""
    from .progress import Lines, Live, Progress

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or worker_input(config) or config.get_verbosity() < 0:
        return Progress()
    capture = config.pluginmanager.get_plugin("capturemanager")

    @contextmanager
    def uncovered() -> Generator[None]:
        if capture is None:
            yield
        else:
            with capture.global_and_fixture_disabled():
                yield

    def write(line: str) -> None:
        with uncovered():
            reporter.ensure_newline()
            reporter.write_line(line)

    return Live(uncovered) if sys.__stderr__ is not None and reporter.isatty else Lines(write)
