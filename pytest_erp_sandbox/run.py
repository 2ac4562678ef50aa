"""What one pytest run knows: its settings, its name, what its summary will say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from .record import LUGGAGE

if TYPE_CHECKING:
    from pathlib import Path

    from .asking import Asked
    from .progress import Progress
    from .sandbox import Sandbox
    from .settings import Settings

__all__ = [
    "ASKED",
    "FAILED",
    "REHEARSED",
    "RUN",
    "SETTINGS",
    "TRIAL",
    "note",
    "note_reset",
    "once_a_run",
    "progress",
    "worker_input",
]

SETTINGS: pytest.StashKey[Settings | None] = pytest.StashKey()
"""The settings; None where there are none, and the plugin does nothing."""

RUN = pytest.StashKey[str]()
"""Names the run; its pytest-xdist workers share it."""

FAILED = pytest.StashKey[bool]()
"""On a test: whether it failed, in its setup or its steps."""

REHEARSED: pytest.StashKey[Sandbox] = pytest.StashKey()
"""On a test: its sandbox."""

ASKED: pytest.StashKey[list[Asked]] = pytest.StashKey()
"""On a test: what its agent was asked and answered, in that order; without secrets."""

TRIAL = pytest.StashKey[int]()
"""On a test that is one of several trials: which one, from 1 on; set once tests are collected."""


def note(config: pytest.Config, subject: str, text: str) -> None:
    """Have the summary say ``text``, unless it says something of this subject already."""
    config.stash[LUGGAGE].notes.setdefault(subject, text)


def worker_input(config: pytest.Config) -> dict[str, Any]:
    """What pytest-xdist tells its workers; empty in any other process."""
    return getattr(config, "workerinput", {})


def once_a_run(
    config: pytest.Config, tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[], str]
) -> str:
    """What ``make`` gives, made by the first of the run's processes that asks for it."""
    if not worker_input(config):
        return make()
    from filelock import FileLock

    file = _folder_of_run(config, tmp_path_factory) / f"erp-sandbox-{name}-{config.stash[RUN]}"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            file.write_text(make(), encoding="utf-8")
        return file.read_text(encoding="utf-8")


def _folder_of_run(config: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that all of the run's processes share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if worker_input(config) else base


def note_reset(request: pytest.FixtureRequest, sandbox: Sandbox) -> None:
    """Count a reset, and have the summary say which scenario made a restore of what was to be a rewind."""
    reset = sandbox.last_reset
    assert reset is not None
    request.config.stash[LUGGAGE].resets.append(
        {"kind": reset.strategy, "seconds": reset.seconds, "reason": reset.reason}
    )
    cause = _previous_rehearsal(request, sandbox.name)
    if reset.reason:
        note(
            request.config,
            f"{sandbox.name}: restored after {cause}",
            f"{sandbox.name} was restored instead of rewound, after {cause}: {reset.reason}",
        )


def _previous_rehearsal(request: pytest.FixtureRequest, sandbox: str) -> str:
    """Which scenario was the last one in a sandbox, whichever worker it ran in; from now on it is this one."""
    folder = _folder_of_run(request.config, request.getfixturevalue("tmp_path_factory"))
    name = hashlib.sha256(sandbox.encode()).hexdigest()[:16]
    file = folder / f"erp-sandbox-{request.config.stash[RUN]}-{name}"
    # Nobody else writes there: whoever rehearses has the lease.
    previous = file.read_text(encoding="utf-8") if file.exists() else "an earlier run"
    file.write_text(request.node.nodeid or "this session", encoding="utf-8")
    return previous


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
