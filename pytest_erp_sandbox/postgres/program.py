"""Running a PostgreSQL client program: watched, limited in time, and ended with us."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO

from ..errors import PostgresError

__all__ = ["LineWatcher", "end", "run", "start"]

LineWatcher = Callable[[str], None]
"""Is called with each line that a program says on stderr (``--verbose`` makes it say what it is doing)."""

_KEPT_LINES = 40
_PATIENCE = 10.0
"""Seconds that a program has for ending after it was asked to, before it is killed."""


def start(
    command: Sequence[str | Path],
    secrets: Mapping[str, str],
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program with ``secrets`` (``PGPASSWORD``) in its environment, which no other user can read."""
    # LC_ALL: the messages are read here. The rest of the environment is libpq's and the user's own (PGPASSFILE, …).
    environment = {**os.environ, "LC_ALL": "C", **secrets}
    return subprocess.Popen(
        [str(word) for word in command], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=environment
    )


def run(
    command: Sequence[str | Path],
    secrets: Mapping[str, str],
    *,
    doing: str,
    timeout: timedelta | None = None,
    watch: LineWatcher | None = None,
) -> None:
    """Run a program to its end; whatever interrupts the wait ends the program too.

    Args:
        command: the program and its arguments, none of them secret.
        secrets: what only its environment may hold.
        doing: what it does, for the error.
        timeout: how long it may take.
        watch: is called with each line of its stderr.

    Raises:
        PostgresError: it failed, or took too long; the message has its first error.
    """
    process = start(command, secrets)
    finish([process], doing=doing, timeout=timeout, watch=watch)


def finish(
    processes: Sequence[subprocess.Popen[bytes]],
    *,
    doing: str,
    timeout: timedelta | None = None,
    watch: LineWatcher | None = None,
) -> None:
    """Await the end of one program, or of a pipeline of them; the arguments are those of ``run``."""
    said: deque[str] = deque(maxlen=_KEPT_LINES)
    errors: list[str] = []
    readers = [
        threading.Thread(target=_read, args=(process.stderr, said, errors, watch), daemon=True) for process in processes
    ]
    for reader in readers:
        reader.start()
    try:
        for process in processes:
            process.wait(None if timeout is None else timeout.total_seconds())
    except subprocess.TimeoutExpired:
        raise PostgresError(
            f"{doing} took longer than {timeout}, and was ended", hint="Find what it waits for, or raise the limit."
        ) from None
    finally:
        for process in processes:
            end(process)
        for reader in readers:
            reader.join()
    if any(process.returncode for process in processes):
        cause = errors[0] if errors else "\n".join(said) or "it gave no reason"
        codes = ", ".join(str(process.returncode) for process in processes)
        raise PostgresError(f"{doing} failed (exit code {codes}): {cause}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program that may still run, the hard way if it must be."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        process.kill()
        process.wait()


def _read(stream: IO[bytes] | None, said: deque[str], errors: list[str], watch: LineWatcher | None) -> None:
    assert stream is not None
    with stream:
        for raw in stream:
            line = raw.decode(errors="replace").rstrip()
            said.append(line)
            if errors and _continues(line):
                errors[-1] += f"\n{line}"
            elif re.search(r"\berror:|\bERROR:|\bFATAL:", line) and len(errors) < _KEPT_LINES:
                errors.append(line)
            if watch is not None:
                watch(line)


def _continues(line: str) -> bool:
    """Whether the line belongs to the error before it (``DETAIL:``, ``HINT:``, the statement)."""
    return re.match(r"(DETAIL|HINT|CONTEXT|LINE \d+|Command was|\s)", line) is not None
