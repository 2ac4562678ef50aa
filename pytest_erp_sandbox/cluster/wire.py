"""The connection to a command that runs in a pod, in whatever frames; here, a websocket's."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from kubernetes.stream import stream
from websocket import ABNF, WebSocketException

from .api import Cluster, PodReference

__all__ = ["STATUS", "STDERR", "STDIN", "STDOUT", "WebSocketWire", "Wire", "open_websocket"]

STDIN, STDOUT, STDERR, STATUS = range(4)
"""What passes over one connection: the command's streams, and how it ended."""


class Wire(Protocol):
    """A connection to a command. All is done in one thread at a time: Python's TLS sockets are not for two."""

    @property
    def sock(self) -> socket.socket:
        """What can be waited for."""

    def receive(self) -> Sequence[tuple[int, memoryview]]:
        """Some of what has come, by channel; wait for it, if need be. What is said of the end is given as a whole.

        Raises:
            OSError: the connection was closed, or lost.
        """

    def framed(self, data: bytes) -> bytes:
        """What is to be sent so that the command reads ``data``."""

    def answer(self) -> None:
        """Answer the other end's pings. Never in the middle of a frame.

        Raises:
            OSError: the connection was lost.
        """

    def ping(self) -> None:
        """Ask the other end for a word. Never in the middle of a frame.

        Raises:
            OSError: the connection was lost.
        """

    def close(self) -> None:
        """Close the connection."""


class WebSocketWire:
    """A websocket of the library's; its own reading takes time with the square of what comes (client 37).

    Args:
        connection: opened, with one of the protocols ``v4.channel.k8s.io`` and ``v5.channel.k8s.io``.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._owed: deque[bytes] = deque()
        # The library would answer a ping at once, in the middle of whatever is being written.
        connection.pong = self._owed.append

    @property
    def sock(self) -> socket.socket:
        """See ``Wire``."""
        return self._connection.sock  # type: ignore[no-any-return]

    def receive(self) -> Sequence[tuple[int, memoryview]]:
        """See ``Wire``."""
        with _as_lost():
            kind, frame = self._connection.recv_data_frame(control_frame=True)
        if kind == ABNF.OPCODE_CLOSE:
            raise ConnectionError
        if kind not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) or len(frame.data) < 2:
            return []
        return [(frame.data[0], memoryview(frame.data)[1:])]

    def framed(self, data: bytes) -> bytes:
        """A binary frame of a client's, as RFC 6455 (5.2) has it.

        Large ones are masked with zeros, that is not at all: masks keep web pages from speaking to proxies, which is
        nothing that a program inside of TLS can do, and applying them takes most of the time of sending.
        """
        payload = bytes([STDIN]) + data
        if len(payload) < 1 << 16:
            return bytes(ABNF.create_frame(payload, ABNF.OPCODE_BINARY).format())
        fin_and_opcode, masked_and_64_bit_length = 0x80 | ABNF.OPCODE_BINARY, 0x80 | 127
        return struct.pack(">BBQ4x", fin_and_opcode, masked_and_64_bit_length, len(payload)) + payload

    def answer(self) -> None:
        """See ``Wire``."""
        with _as_lost():
            while self._owed:
                self._connection.send(self._owed.popleft(), ABNF.OPCODE_PONG)

    def ping(self) -> None:
        """See ``Wire``."""
        with _as_lost():
            self._connection.ping()

    def close(self) -> None:
        """See ``Wire``."""
        self._connection.close(timeout=0)


@contextmanager
def _as_lost() -> Iterator[None]:
    """The library's errors as those of a connection."""
    try:
        yield
    except WebSocketException as error:
        raise ConnectionError(str(error)) from None


def open_websocket(cluster: Cluster, pod: PodReference, command: Sequence[str], *, stdin: bool) -> Wire:
    """Run a command, over a websocket.

    Raises:
        ApiException: it was refused.
    """
    options: dict[str, Any] = {} if pod.container is None else {"container": pod.container}
    running = stream(
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
    )
    return WebSocketWire(running.sock)
