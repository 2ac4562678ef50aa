"""SPDY, as draft-mbelshe-httpbis-spdy-00 has it: frames, however they are cut on their way, and how it is refused.

The servers here stand for API servers, and for what is in front of them, that a test cannot make fail.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import urllib3
from kubernetes import client

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster import exec as exec_
from pytest_erp_sandbox.cluster import spdy
from pytest_erp_sandbox.cluster.api import Cluster, PodReference
from pytest_erp_sandbox.cluster.exec import Exec, run_in_pod
from pytest_erp_sandbox.cluster.spdy import SpdyWire, open_spdy
from pytest_erp_sandbox.cluster.wire import STATUS, STDERR, STDIN, STDOUT

FIN = 1 << 24

POD = PodReference("erp-sandbox", "web")


def data(stream: int, content: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", stream, flags | len(content)) + content


def control(kind: int, content: bytes) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, len(content)) + content


def ping(number: int) -> bytes:
    return control(6, struct.pack(">I", number))


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
            ping(2),
            ping(1),
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
    assert far.recv(1 << 16) == ping(2) + b"no more"  # not the one that came back


def test_an_end_without_a_status_is_a_lost_connection(ends: tuple[SpdyWire, socket.socket]) -> None:
    wire, far = ends
    far.close()
    with pytest.raises(ConnectionError):
        wire.receive()


def received(far: socket.socket, size: int) -> bytes:
    taken = bytearray()
    while len(taken) < size:
        taken += far.recv(min(1 << 12, size - len(taken)))
    return bytes(taken)


def test_a_ping_that_comes_while_something_is_written_is_answered_behind_it(
    ends: tuple[SpdyWire, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, far = ends
    monkeypatch.setattr(exec_, "_open", lambda *_, **__: wire)
    running = Exec(Cluster(client.Configuration(host="http://127.0.0.1:9")), POD, ["true"], stdin=True)
    written = bytes(range(256)) * 4096  # more than a socket holds: it is sent in parts
    writing = threading.Thread(target=running.write, args=(written,), daemon=True)
    writing.start()
    begun = received(far, 1 << 12)
    far.sendall(ping(2) + data(5, b"output"))
    whole = data(3, written) + ping(2)
    assert begun + received(far, len(whole) - len(begun)) == whole
    writing.join(10)
    assert running.said_so_far == "output"


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server that answers each request with the same bytes, and closes; without any, it never answers."""
    answer: bytes | None = request.param
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            held = []
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.recv(1 << 16)
                if answer is None:
                    held.append(connection)
                    continue
                connection.sendall(answer)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield Cluster(client.Configuration(host=f"http://127.0.0.1:{server.getsockname()[1]}"))
        server.shutdown(socket.SHUT_RDWR)


def http(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


SWITCHED = http("101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1")


@pytest.mark.parametrize(
    "answering",
    [
        b"",
        b"?\r\n",
        None,
        http("200 OK", "Content-Length: 0"),
        http("307 Temporary Redirect", "Location: /elsewhere", "Content-Length: 0"),
        http("403 Forbidden", "Content-Length: 0"),
        http("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"),
    ],
    ids=["closed", "garbage", "nothing", "200", "307", "403", "another protocol"],
    indirect=True,
)
def test_where_it_is_not_spoken_nothing_has_run(answering: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdy, "_TIMEOUT", urllib3.Timeout(connect=5, read=0.5))
    assert open_spdy(answering, POD, ["true"], stdin=False) is None


@pytest.mark.parametrize("answering", [SWITCHED], indirect=True)
def test_a_connection_that_ends_right_after_it_has_switched_is_lost_and_not_tried_in_another_way(
    answering: Cluster,
) -> None:
    answering.hands_frames_on = True
    with pytest.raises(ClusterError, match="lost"):
        run_in_pod(answering, POD, ["true"], doing="the test")


@pytest.mark.parametrize(
    "answering",
    [http("403 Forbidden", "Content-Length: 0"), http("200 OK", "Content-Type: application/json", "", "null"), b""],
    ids=["403", "null", "closed"],
    indirect=True,
)
def test_a_server_that_does_not_say_its_version_is_taken_for_a_new_one(answering: Cluster) -> None:
    assert answering.hands_frames_on is False
