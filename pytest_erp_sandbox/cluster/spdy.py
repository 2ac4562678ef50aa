"""SPDY/3.1, as much of it as a command in a pod takes: for servers that hand frames on as they are.

A websocket's are taken apart by the container runtime then, byte by byte: containerd 1.6 spends 13 s of a processor on
a gigabyte that is sent, and 3 s where it comes as SPDY. No library speaks it.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections import deque
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import urllib3

from .api import Cluster, PodReference
from .wire import STATUS, STDERR, STDIN, STDOUT, Wire

__all__ = ["SpdyWire", "open_spdy"]

_UPGRADE = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
_SWITCHED = 101
_TIMEOUT = urllib3.Timeout(connect=10, read=20)
"""Seconds for the answer: there is another way where it does not come."""

_STREAMS = {STATUS: (1, "error"), STDIN: (3, "stdin"), STDOUT: (5, "stdout"), STDERR: (7, "stderr")}
"""The number of each, odd as a client's are, and what the server knows it by."""
_CHANNELS = {number: channel for channel, (number, _) in _STREAMS.items()}

_CONTROL = 1 << 31
_SYN_STREAM, _PING = _CONTROL | 3 << 16 | 1, _CONTROL | 3 << 16 | 6
"""How control frames of version 3 begin: one that opens a stream, and a ping."""

_HEADER = struct.Struct(">II")
"""Of each frame: its stream, or what control frame it is; and, after 8 bits of flags, its length."""
_LENGTH = (1 << 24) - 1

_PIECE = 1 << 18
"""Bytes that are received at once, at most; TLS gives 16 KiB."""


class SpdyWire:
    """The streams of one command.

    Args:
        connection: has switched to SPDY.
        channels: those that are wanted.
    """

    def __init__(self, connection: socket.socket, channels: Sequence[int]) -> None:
        self.sock = connection
        self._header, self._whole = bytearray(), bytearray()  # of a frame, as far as it has come
        self._kind, self._left = 0, 0  # of that frame: what it is, and how many bytes are to come
        self._owed: deque[bytes] = deque()
        names = zlib.compressobj()  # without SPDY's dictionary, as zlib's header says
        opening = []
        for number, name in (_STREAMS[channel] for channel in channels):
            pairs = b"".join(struct.pack(">I", len(text)) + text for text in (b"streamtype", name.encode()))
            block = names.compress(struct.pack(">I", 1) + pairs) + names.flush(zlib.Z_SYNC_FLUSH)
            # No other stream is associated with it, and none comes first.
            opening.append(_frame(_SYN_STREAM, struct.pack(">IIH", number, 0, 0) + block))
        connection.sendall(b"".join(opening))

    def receive(self) -> Sequence[tuple[int, memoryview]]:
        """See ``Wire``."""
        if not (some := memoryview(self.sock.recv(_PIECE))):
            raise ConnectionError
        received: list[tuple[int, memoryview]] = []
        while some:
            if not self._left:
                missing = _HEADER.size - len(self._header)
                self._header += some[:missing]
                some = some[missing:]
                if len(self._header) == _HEADER.size:
                    self._kind, flags_and_length = _HEADER.unpack(self._header)
                    self._left = flags_and_length & _LENGTH
                    self._header.clear()
                continue
            piece, some = some[: self._left], some[self._left :]
            self._left -= len(piece)
            channel = _CHANNELS.get(self._kind)
            if channel in (STDOUT, STDERR):
                received.append((channel, piece))
                continue
            self._whole += piece
            if not self._left:
                whole = bytes(self._whole)
                self._whole.clear()
                if channel == STATUS:
                    received.append((channel, memoryview(whole)))
                elif self._kind == _PING and int.from_bytes(whole, "big") % 2 == 0:  # none of ours that comes back
                    self._owed.append(whole)
        return received

    def framed(self, data: bytes) -> bytes:
        """See ``Wire``."""
        number, _ = _STREAMS[STDIN]
        return _frame(number, data)

    def answer(self) -> None:
        """See ``Wire``."""
        while self._owed:
            self.sock.sendall(_frame(_PING, self._owed.popleft()))

    def ping(self) -> None:
        """See ``Wire``."""
        self.sock.sendall(_frame(_PING, struct.pack(">I", 1)))

    def close(self) -> None:
        """See ``Wire``."""
        self.sock.close()


def open_spdy(cluster: Cluster, pod: PodReference, command: Sequence[str], *, stdin: bool) -> Wire | None:
    """Run a command, over SPDY; None where that is not spoken, by the server or by what is in front of it.

    Nothing runs before the streams are opened, so that another way may be tried then.

    Raises:
        OSError: the connection was lost while they were.
    """
    channels = [STATUS, *([STDIN] if stdin else []), STDOUT, STDERR]
    query = [("command", each) for each in command] + [(_STREAMS[each][1], "true") for each in channels[1:]]
    if pod.container is not None:
        query.append(("container", pod.container))
    path = f"api/v1/namespaces/{quote(pod.namespace)}/pods/{quote(pod.name)}/exec?{urlencode(query)}"
    connection = _switched(cluster, path)
    return None if connection is None else SpdyWire(connection, channels)


def _switched(cluster: Cluster, path: str) -> socket.socket | None:
    """A connection that has switched to SPDY, if one does."""
    client = cluster.own_client().api_client
    headers = {each["key"]: each["value"] for each in client.configuration.auth_settings().values()}
    try:
        response = client.rest_client.pool_manager.request(
            "POST",
            f"{client.configuration.host}/{path}",
            headers={**headers, **_UPGRADE},
            preload_content=False,
            retries=False,
            redirect=False,
            timeout=_TIMEOUT,
        )
    except urllib3.exceptions.HTTPError:
        return None
    connection = None
    if response.status == _SWITCHED and response.headers.get("Upgrade", "").lower() == _UPGRADE["Upgrade"].lower():
        connection = response.connection.sock
    # Not TLS within a proxy's TLS, which can neither be waited for nor be written to in parts.
    if not isinstance(connection, socket.socket):
        response.close()
        return None
    # Taken out of the library's hands, which close it. The server is never the first to speak: no frame can have been
    # read with the answer.
    response.connection.sock = None
    return connection


def _frame(kind: int, payload: bytes) -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload
