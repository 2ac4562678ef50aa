"""Running a command in a pod: binary streams at full speed, exit code, stderr, a lost connection noticed."""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from ..errors import ClusterError
from .api import Cluster, PodReference, open_stream
from .spdy import open_spdy
from .wire import STATUS, STDERR, STDOUT, Wire, open_websocket

__all__ = ["Exec", "kept_open", "run_in_pod"]

_KEPT = 20_000
"""Bytes of stderr that are kept for the error."""

_BEAT = 1.0
"""Seconds that are waited at once."""

_READ_AT_ONCE = 64
"""Pieces of output after which no more is read before they are handed on."""

_WRITTEN_AT_ONCE = 1 << 20
"""Bytes in a frame: more than 16 MiB do not fit into SPDY's, and some servers take no more than 32 MiB as one."""

_SILENCE = 15.0
"""Seconds without a word after which the other end is asked for one (a ping)."""

_LOST = 60.0
"""Seconds without an answer after which the connection counts as lost."""

_STUCK = 600.0
"""Seconds that a command may go without reading what is written to it."""


class Exec:
    """A command that runs in a pod, for as long as this context.

    All is done in one thread at a time. Another one than it reads in may close it.

    Args:
        cluster: where the pod is.
        pod: the pod.
        command: the program and its arguments; the API server may log them, so none of them is secret.
        stdin: whether ``write`` will be called.

    Raises:
        ClusterError: the command cannot be started.
    """

    def __init__(
        self,
        cluster: Cluster,
        pod: PodReference,
        command: Sequence[str],
        *,
        stdin: bool = False,
    ) -> None:
        self.pod = pod
        self.said = ""
        self._output: deque[memoryview] = deque()
        self._code: int | None = None
        self._heard = time.monotonic()
        self._asked: float | None = None
        self._is_writing, self._is_unread = False, False
        self._receiving, self._is_closed = threading.Lock(), False
        self._wire = _open(cluster, pod, command, stdin=stdin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not under a thread that reads: the file descriptor may be another connection's the next moment, whose first
        # bytes that thread would take away. Told first: a lock alone may go to the same reader again and again.
        self._is_closed = True
        if not self._receiving.acquire(timeout=2 * _BEAT):
            with suppress(OSError):
                self._wire.sock.shutdown(socket.SHUT_RDWR)  # ends what waits for the rest of a frame
            self._receiving.acquire()
        with suppress(OSError):
            self._wire.close()
        self._receiving.release()

    def output(self) -> Iterator[memoryview]:
        """What the command writes to stdout, piece by piece, until it ends.

        Raises:
            ClusterError: the connection was lost before the command's end.
        """
        while self._code is None or self._output:
            if not self._output:
                self._receive(_BEAT)
            # Joined: looking at pieces of 7 KB costs more than reading them.
            if self._output:
                pieces = b"".join(self._output)
                self._output.clear()
                yield memoryview(pieces)

    def write(self, data: bytes) -> None:
        """Write to the command's stdin.

        It should read all of it, even when it fails: of a command that ends with stdin unread, older servers (seen with
        1.20) may never send the exit code, which ``wait`` waits for.

        Raises:
            ClusterError: it has ended, or the connection was lost.
        """
        for begin in range(0, len(data), _WRITTEN_AT_ONCE):
            self._write(self._wire.framed(data[begin : begin + _WRITTEN_AT_ONCE]))

    def _write(self, whole: bytes) -> None:
        frame = memoryview(whole)
        self._is_writing, progressed = True, time.monotonic()
        while frame:
            # Not only written: a command that ends reads nothing any more, and that must be heard.
            self._receive(0)
            if self._code is not None:
                raise ClusterError(f"a program in {self.pod} ended early, with exit code {self._code}: {self.reason}")
            if sent := self._send(frame):
                frame, progressed = frame[sent:], time.monotonic()
            elif time.monotonic() - progressed > _STUCK:
                raise self._lost(None)
        self._is_writing, self._is_unread = False, True
        self._answer()

    @property
    def said_so_far(self) -> str:
        """What of the output has come and was not asked for yet, while it is written to."""
        return b"".join(self._output).decode(errors="replace")

    def wait(self) -> int:
        """Await the end; returns the exit code, and leaves unread output.

        Raises:
            ClusterError: the connection was lost before the command's end.
        """
        while self.listen():
            self._output.clear()
        assert self._code is not None
        return self._code

    def listen(self) -> bool:
        """Take in what comes within a second; returns whether the command still runs.

        Raises:
            ClusterError: the connection was lost before the command's end.
        """
        if self._code is None:
            self._receive(_BEAT)
        return self._code is None

    @property
    def reason(self) -> str:
        """The last of what the command said on stderr, for errors."""
        return self.said.strip() or "it gave no reason"

    def _receive(self, patience: float) -> None:
        """Take in what has come; wait for the first of it, but not longer than ``patience`` (in seconds)."""
        with self._receiving:
            if self._is_closed:
                raise self._lost(None)
            self._receive_now(patience)

    def _receive_now(self, patience: float) -> None:
        self._is_readable(patience)
        while self._code is None and len(self._output) < _READ_AT_ONCE and self._is_readable(0):
            try:
                received = self._wire.receive()
            except OSError as error:
                raise self._lost(error) from None
            self._heard, self._asked, self._is_unread = time.monotonic(), None, False
            for channel, data in received:
                self._take_in(channel, data)
        if not self._is_writing:
            self._keep_alive()

    def _take_in(self, channel: int, data: memoryview) -> None:
        if channel == STDOUT:
            self._output.append(data)
        elif channel == STDERR:
            self._listen(bytes(data))
        elif channel == STATUS:
            self._code = _exit_code(bytes(data), self.pod)

    def _is_readable(self, patience: float) -> bool:
        connection = self._wire.sock
        # What TLS has read ahead, no poll() shows.
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        return bool(self._poll(select.POLLIN, patience) & ~select.POLLOUT)

    def _send(self, data: memoryview) -> int:
        """Send as much as can be sent now; wait a little for that."""
        connection = self._wire.sock
        connection.settimeout(0)
        try:
            return int(connection.send(data))
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._poll(select.POLLIN | select.POLLOUT, _BEAT)
            return 0
        except OSError as error:
            raise self._lost(error) from None
        finally:
            connection.settimeout(_LOST)

    def _poll(self, events: int, patience: float) -> int:
        poll = select.poll()
        poll.register(self._wire.sock, events)
        return next((event for _, event in poll.poll(patience * 1000)), 0)

    def _keep_alive(self) -> None:
        """Answer the other end's pings; send one where it was silent for long. Never in the middle of a frame."""
        self._answer()
        now = time.monotonic()
        try:
            if self._asked is None and now - self._heard > _SILENCE:
                self._wire.ping()
                self._asked = now
        except OSError as error:
            raise self._lost(error) from None
        # What was asked waits behind what was written.
        patience = _STUCK if self._is_unread else _LOST
        if self._asked is not None and now - self._asked > patience:
            raise self._lost(None)

    def _answer(self) -> None:
        try:
            self._wire.answer()
        except OSError as error:
            raise self._lost(error) from None

    def _listen(self, data: bytes) -> None:
        self.said = (self.said + data.decode(errors="replace"))[-_KEPT:]

    def _lost(self, error: Exception | None) -> ClusterError:
        because = f": {error}" if error is not None and str(error) else ""
        return ClusterError(
            f"the connection to {self.pod} was lost before the end of what ran there{because}",
            hint="Was the pod ended, or the network cut? Run again.",
        )


@contextmanager
def kept_open(running: Exec) -> Iterator[Callable[[], bool]]:
    """Keep a command that only waits connected while others work; nobody else may use ``running`` meanwhile.

    Returns:
        What tells whether it still runs, as far as is known.
    """
    done = threading.Event()

    def hold() -> None:
        with suppress(ClusterError):  # whoever counts on the command asks
            while not done.is_set() and running.listen():
                pass

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    try:
        yield holder.is_alive
    finally:
        done.set()
        holder.join()


def run_in_pod(cluster: Cluster, pod: PodReference, command: Sequence[str], *, doing: str) -> str:
    """Run a command to its end.

    Returns:
        What it wrote to stdout; meant for short answers.

    Raises:
        ClusterError: it failed, or could not be run.
    """
    with Exec(cluster, pod, command) as running:
        output = b"".join(bytes(piece) for piece in running.output())
        code = running.wait()
    if code:
        raise ClusterError(f"{doing} in {pod} failed (exit code {code}): {running.reason}")
    return output.decode(errors="surrogateescape")


def _open(cluster: Cluster, pod: PodReference, command: Sequence[str], *, stdin: bool) -> Wire:
    def run() -> Wire:
        wire = open_spdy(cluster, pod, command, stdin=stdin) if cluster.hands_frames_on else None
        if wire is None:
            wire = open_websocket(cluster, pod, command, stdin=stdin)
            cluster.hands_frames_on = False  # it is no use to try SPDY each time
        return wire

    wire: Wire = open_stream(run, doing=f"running a program in {pod} (verbs get and create on pods/exec)")
    wire.sock.settimeout(_LOST)
    return wire


def _exit_code(status: bytes, pod: PodReference) -> int:
    said = json.loads(status)
    if said.get("status") == "Success":
        return 0
    for cause in (said.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ClusterError(f"a program in {pod} could not be run: {said.get('message', 'no reason given')}")
