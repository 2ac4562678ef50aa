"""Frames of SPDY, as draft-mbelshe-httpbis-spdy-00 has them, however they are cut on their way."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from pytest_erp_sandbox.cluster.spdy import SpdyWire
from pytest_erp_sandbox.cluster.wire import STATUS, STDERR, STDIN, STDOUT

FIN = 1 << 24


def data(stream: int, content: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", stream, flags | len(content)) + content


def control(kind: int, content: bytes) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, len(content)) + content


@pytest.fixture
def ends() -> Iterator[tuple[SpdyWire, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        far.settimeout(10)
        wire = SpdyWire(near, [STATUS, STDIN, STDOUT, STDERR])
        far.recv(1 << 16)  # the four streams, opened
        yield wire, far


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 100, 1 << 18])
def test_frames_that_come_in_pieces_are_put_together(ends: tuple[SpdyWire, socket.socket], size: int) -> None:
    wire, far = ends
    sent = b"".join(
        [
            control(2, struct.pack(">I", 5) + b"x" * 30),  # a stream is accepted
            data(5, b"\0\1" * 100),
            data(7, b"trouble"),
            data(5, b""),
            control(6, struct.pack(">I", 2)),
            control(6, struct.pack(">I", 1)),
            data(5, b"the end"),
            data(1, b'{"status":"Success"}', FIN),
        ]
    )
    came: dict[int, list[bytes]] = {STDOUT: [], STDERR: [], STATUS: []}
    for begin in range(0, len(sent), size):
        far.sendall(sent[begin : begin + size])
        for channel, piece in wire.receive():
            came[channel].append(bytes(piece))
    assert b"".join(came[STDOUT]) == b"\0\1" * 100 + b"the end"
    assert b"".join(came[STDERR]) == b"trouble"
    assert came[STATUS] == [b'{"status":"Success"}']  # as a whole
    wire.answer()
    wire.sock.sendall(b"no more")
    assert far.recv(1 << 16) == control(6, struct.pack(">I", 2)) + b"no more"  # not the one that came back


def test_an_end_without_a_status_is_a_lost_connection(ends: tuple[SpdyWire, socket.socket]) -> None:
    wire, far = ends
    far.close()
    with pytest.raises(ConnectionError):
        wire.receive()
