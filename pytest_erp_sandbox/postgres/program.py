"""Running a PostgreSQL client program: watched, limited in time, and ended with us."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO

from pydantic import SecretStr

from ..errors import PostgresError
from .rowless import Rowless

__all__ = ["Hearing", "LineWatcher", "ask", "finish", "reason", "run", "start", "took_too_long"]

Command = Sequence[str | Path]

LineWatcher = Callable[[str], None]
"""Is called with each line that a program says on stderr (``--verbose`` makes it say what it is doing)."""

_CONTINUATION = re.compile(
    r"DETAIL|HINT|CONTEXT|QUERY|STATEMENT|Command was|LINE \d+|COPY |SQL (statement|function) |PL/pgSQL function |\s"
)

_KEPT_LINES = 40
_LONGEST_LINE = 10_000
"""Bytes of a line that are read at once: a program that never ends its line fills no memory."""

_ASKING = (signal.SIGINT, signal.SIGTERM)
"""How a program is asked to end: psql stops what its server session is doing for the first alone."""

_PATIENCE = 5.0
"""Seconds that a program has for ending after each asking, before it is killed."""


def ask(command: Command) -> subprocess.CompletedProcess[bytes]:
    """Run a program that needs no server, and answers at once."""
    return subprocess.run(
        _words(command), capture_output=True, check=False, env=_environment({}), stdin=subprocess.DEVNULL
    )


def start(
    command: Command,
    secrets: Mapping[str, SecretStr],
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program with ``secrets`` (``PGPASSWORD``) in its environment, which no other user can read.

    Raises:
        PostgresError: it cannot be started.
    """
    try:
        return subprocess.Popen(
            _words(command),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=_environment(secrets),
            process_group=0,  # pg_dump and pg_restore have workers, which end with them
        )
    except OSError as error:
        # Not chained: the frames below hold the environment, password and all.
        reason = error.strerror
    raise PostgresError(f"{command[0]} cannot be started: {reason}")


def run(
    command: Command,
    secrets: Mapping[str, SecretStr],
    *,
    doing: str,
    timeout: timedelta | None = None,
    limit: str = "the limit",
    watch: LineWatcher | None = None,
) -> None:
    """Run a program to its end; whatever interrupts the wait ends the program too.

    Args:
        command: the program and its arguments, none of them secret.
        secrets: what only its environment may hold.
        doing: what it does, for the error.
        timeout: how long it may take.
        limit: what that is called where it is set.
        watch: is called with each line of its stderr.

    Raises:
        PostgresError: it failed, or took too long; the message has its first error.
    """
    process = start(command, secrets)
    finish([process], doing=doing, timeout=timeout, limit=limit, watch=watch)


def finish(
    processes: Sequence[subprocess.Popen[bytes]],
    *,
    doing: str,
    timeout: timedelta | None = None,
    limit: str = "the limit",
    watch: LineWatcher | None = None,
) -> None:
    """Await the end of one program, or of a pipeline of them; the arguments are those of ``run``.

    The cause of a failure is looked for in the order of ``processes``.
    """
    listeners = [_Listener(process, watch) for process in processes]
    deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
    try:
        for process in processes:
            process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise took_too_long(doing, timeout, limit) from None
    finally:
        for process, listener in zip(processes, listeners, strict=True):
            _end(process, listener)
    if any(process.returncode for process in processes):
        cause = reason(*(listener.heard for listener in listeners))
        raise PostgresError(f"{doing} failed ({', '.join(map(_ending, processes))}): {cause}")
    for listener in listeners:
        if listener.trouble is not None:
            raise listener.trouble


def _end(process: subprocess.Popen[bytes], listener: _Listener) -> None:
    """End a program that may still run, and its workers; the hard way if it must be."""
    try:
        for number in _ASKING:
            if process.poll() is None:
                _signal(process, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE)
        # Its workers outlive it for a moment, in which each asks the server to stop what it does for them.
        listener.join(_PATIENCE)
    finally:
        if process.returncode != 0:
            _signal(process, signal.SIGKILL)
            process.wait()
        listener.join()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _words(command: Command) -> list[str]:
    return [str(word) for word in command]


def _environment(secrets: Mapping[str, SecretStr]) -> dict[str, str]:
    """The user's own environment, as libpq has it (``PGPASSFILE``, …), with ``secrets``; messages are plain English."""
    revealed = {name: secret.get_secret_value() for name, secret in secrets.items()}
    return {**os.environ, "LC_ALL": "C", "PG_COLOR": "never", **revealed}


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"


def took_too_long(doing: str, timeout: timedelta | None, limit: str) -> PostgresError:
    """The error for a program that was ended when its time was over; the arguments are those of ``run``."""
    return PostgresError(
        f"{doing} took longer than {timeout}, and was ended", hint=f"Find what it waits for, or raise {limit}."
    )


class Hearing:
    """What a program has said so far: messages, not answers.

    Attributes:
        said: the last lines.
    """

    def __init__(self) -> None:
        self.said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._error: list[str] = []
        self._is_complete = False
        self._entry = ""
        self._rowless = Rowless()

    @property
    def error(self) -> str:
        """The first error, with what belongs to it; empty where there was none."""
        return "\n".join(self._error)

    def take_in(self, raw: bytes) -> str:
        """Take in a line; returns it as it may be shown."""
        line = self._rowless.shown(raw.decode(errors="replace").rstrip())
        self.said.append(line)
        self._look_for_error(line)
        return line

    def _look_for_error(self, line: str) -> None:
        if self._is_complete:
            return
        if self._error:
            self._is_complete = len(self._error) >= _KEPT_LINES or not _continues(line)
            if not self._is_complete:
                self._error.append(line)
        elif "from TOC entry" in line:
            self._entry = line.partition("; ")[2]
        elif re.search(r"\berror:|\bERROR:|\bFATAL:", line):
            self._error += [line, f"At: {self._entry}"] if self._entry else [line]


def reason(*heard: Hearing) -> str:
    """Why programs failed: the first error that any told, in this order; else all that they said last."""
    error = next((each.error for each in heard if each.error), "")
    return error or "\n".join(line for each in heard for line in each.said) or "it gave no reason"


class _Listener(threading.Thread):
    """Reads what a program says, to its end, so that it never waits for a reader.

    Attributes:
        heard: what it has said.
        trouble: what the watcher raised; it is not called again.
    """

    def __init__(self, process: subprocess.Popen[bytes], watch: LineWatcher | None) -> None:
        super().__init__(daemon=True)
        assert process.stderr is not None
        self.heard = Hearing()
        self.trouble: Exception | None = None
        self._stream = process.stderr
        self._watch = watch
        self.start()

    def run(self) -> None:
        with self._stream:
            while raw := self._stream.readline(_LONGEST_LINE):
                self._tell(self.heard.take_in(raw))

    def _tell(self, line: str) -> None:
        if self._watch is not None and self.trouble is None:
            try:
                self._watch(line)
            except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
                self.trouble = error


def _continues(line: str) -> bool:
    """Whether the line belongs to the error before it (``DETAIL:``, ``HINT:``, the statement)."""
    return re.match(_CONTINUATION, line) is not None
