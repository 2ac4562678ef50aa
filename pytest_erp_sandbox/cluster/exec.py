"""Running a command in a pod: binary streams at full speed, exit code, stderr, a lost connection noticed."""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from kubernetes.stream import stream
from websocket import ABNF, WebSocketException

from ..errors import ClusterError
from .api import Cluster, open_stream

__all__ = ["Exec", "PodReference", "kept_open", "run_in_pod"]

_STDIN, _STDOUT, _STDERR, _STATUS = range(4)

_KEPT = 20_000
"""Bytes of stderr that are kept for the error."""

_BEAT = 1.0
"""Seconds that are waited at once."""

_READ_AT_ONCE = 64
"""Pieces of output that are read before they are handed on."""

_SILENCE = 15.0
"""Seconds without a word after which the other end is asked for one (a ping)."""

_LOST = 60.0
"""Seconds without an answer after which the connection counts as lost."""

_STUCK = 600.0
"""Seconds that a command may go without reading what is written to it."""


@dataclass(frozen=True)
class PodReference:
    """A container of a pod.

    Attributes:
        namespace: where it is.
        name: the pod.
        container: which of its containers; None where it has but one.
    """

    namespace: str
    name: str
    container: str | None = None

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"


class Exec:
    """A command that runs in a pod, for as long as this context.

    The library's own reading takes time with the square of what comes (client 37), so frames are read here. All is done
    in one thread at a time: Python's TLS sockets are not for two. Another one than it reads in may close it.

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
        self._owed: deque[bytes] = deque()
        self._is_writing = False
        self._receiving, self._is_closed = threading.Lock(), False
        self._socket = _open(cluster, pod, command, stdin=stdin)
        # The library would answer a ping at once, in the middle of whatever is being written.
        self._socket.pong = self._owed.append

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
                self._socket.sock.shutdown(socket.SHUT_RDWR)  # ends what waits for the rest of a frame
            self._receiving.acquire()
        with suppress(OSError, WebSocketException):
            self._socket.close(timeout=0)
        self._receiving.release()

    def output(self) -> Iterator[memoryview]:
        """What the command writes to stdout, piece by piece, until it ends.

        Raises:
            ClusterError: the connection was lost before the command's end.
        """
        while self._code is None or self._output:
            if not self._output:
                self._receive(_BEAT)
            while self._output:
                yield self._output.popleft()

    def write(self, data: bytes) -> None:
        """Write to the command's stdin.

        It should read all of it, even when it fails: from a command that ends with stdin unread, older servers (seen
        with 1.20) never send the exit code.

        Raises:
            ClusterError: it has ended, or the connection was lost.
        """
        frame = memoryview(_frame(bytes([_STDIN]) + data))
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
        self._is_writing = False

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
                kind, frame = self._socket.recv_data_frame(control_frame=True)
            except (OSError, WebSocketException) as error:
                raise self._lost(error) from None
            self._heard, self._asked = time.monotonic(), None
            if kind == ABNF.OPCODE_CLOSE:
                raise self._lost(None)
            if kind in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and len(frame.data) > 1:
                self._take_in(frame.data[0], memoryview(frame.data)[1:])
        if not self._is_writing:
            self._keep_alive()

    def _take_in(self, channel: int, data: memoryview) -> None:
        if channel == _STDOUT:
            self._output.append(data)
        elif channel == _STDERR:
            self._listen(bytes(data))
        elif channel == _STATUS:
            self._code = _exit_code(bytes(data), self.pod)

    def _is_readable(self, patience: float) -> bool:
        connection = self._socket.sock
        # What TLS has read ahead, no poll() shows.
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        return bool(self._poll(select.POLLIN, patience) & ~select.POLLOUT)

    def _send(self, data: memoryview) -> int:
        """Send as much as can be sent now; wait a little for that."""
        connection = self._socket.sock
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
        poll.register(self._socket.sock, events)
        return next((event for _, event in poll.poll(patience * 1000)), 0)

    def _keep_alive(self) -> None:
        """Answer the other end's pings; send one where it was silent for long. Never in the middle of a frame."""
        now = time.monotonic()
        try:
            while self._owed:
                self._socket.send(self._owed.popleft(), ABNF.OPCODE_PONG)
            if self._asked is None and now - self._heard > _SILENCE:
                self._socket.ping()
                self._asked = now
        except (OSError, WebSocketException) as error:
            raise self._lost(error) from None
        if self._asked is not None and now - self._asked > _LOST:
            raise self._lost(None)

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


def _frame(payload: bytes) -> bytes:
    """A binary frame of a client's, as RFC 6455 (5.2) has it.

    Large ones are masked with zeros, that is not at all: masks keep web pages from speaking to proxies, which is
    nothing that a program inside of TLS can do, and applying them takes most of the time of sending.
    """
    if len(payload) < 1 << 16:
        return bytes(ABNF.create_frame(payload, ABNF.OPCODE_BINARY).format())
    fin_and_opcode, masked_and_64_bit_length = 0x80 | ABNF.OPCODE_BINARY, 0x80 | 127
    header = struct.pack(">BBQ4x", fin_and_opcode, masked_and_64_bit_length, len(payload))
    return header + payload


def _open(cluster: Cluster, pod: PodReference, command: Sequence[str], *, stdin: bool) -> Any:
    options: dict[str, Any] = {} if pod.container is None else {"container": pod.container}
    running = open_stream(
        lambda: stream(
            cluster.own_client().connect_get_namespaced_pod_exec,
            pod.name,
            pod.namespace,
            command=list(command),
            stdin=stdin,
            stdout=True,
            stderr=True,
            tty=False,
            binary=True,
            _preload_content=False,
            **options,
        ),
        doing=f"running a program in {pod} (verbs get and create on pods/exec)",
    )
    running.sock.settimeout(_LOST)
    return running.sock


def _exit_code(status: bytes, pod: PodReference) -> int:
    said = json.loads(status)
    if said.get("status") == "Success":
        return 0
    for cause in (said.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ClusterError(f"a program in {pod} could not be run: {said.get('message', 'no reason given')}")
