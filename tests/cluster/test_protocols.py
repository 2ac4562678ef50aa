"""Commands by either protocol of exec, over a websocket.

The server here stands for an API server of Kubernetes 1.30 or newer, which speaks the newer protocol; and for an older
one behind what does not let SPDY through. The Kubernetes of the other tests may know the older protocol alone.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client
from kubernetes.client import VersionInfo
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

import pytest_erp_sandbox.cluster.unpack
from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster.api import Cluster, PodReference
from pytest_erp_sandbox.cluster.exec import Exec, run_in_pod
from pytest_erp_sandbox.cluster.unpack import unpack

POD = PodReference("erp-sandbox", "web")
STDIN, STDOUT, STDERR, STATUS = range(4)

spoken: list[str | None] = []


def run_here(connection: ServerConnection) -> None:
    """Run the command of an exec on this machine."""
    assert connection.request is not None
    spoken.append(connection.subprotocol)
    command = parse_qs(urlsplit(connection.request.path).query)["command"]
    with Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as program:
        assert program.stdin is not None
        threading.Thread(target=tell, args=(connection, program), daemon=True).start()
        with suppress(ConnectionClosed, BrokenPipeError):
            for message in connection:
                assert isinstance(message, bytes)
                assert message[0] == STDIN  # nobody counts on closing it, which the newer protocol has a message for
                program.stdin.write(message[1:])
                program.stdin.flush()


def tell(connection: ServerConnection, program: Popen[bytes]) -> None:
    assert program.stdout is not None
    assert program.stderr is not None
    readers = [
        threading.Thread(target=pass_on, args=(connection, channel, stream))
        for channel, stream in ((STDOUT, program.stdout), (STDERR, program.stderr))
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    code = program.wait()
    failure = {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]}}
    with suppress(ConnectionClosed):
        connection.send(bytes([STATUS]) + json.dumps(failure if code else {"status": "Success"}).encode())


def pass_on(connection: ServerConnection, channel: int, stream: IO[bytes]) -> None:
    with suppress(ConnectionClosed):
        while some := os.read(stream.fileno(), 1 << 16):
            connection.send(bytes([channel]) + some)


@pytest.fixture(params=["v4.channel.k8s.io", "v5.channel.k8s.io"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def version() -> str:
    return "v1.36.1"


@pytest.fixture
def cluster(protocol: str, version: str) -> Iterator[Cluster]:
    spoken.clear()

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        if request.path != "/version/":
            return None  # it becomes a websocket
        body = dict.fromkeys(VersionInfo.attribute_map.values(), "") | {"gitVersion": version}
        response = connection.respond(HTTPStatus.OK, json.dumps(body))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    # A POST, with which SPDY begins, it refuses by itself.
    options: dict[str, Any] = {"subprotocols": [Subprotocol(protocol)], "max_size": None, "compression": None}
    with serve(run_here, "127.0.0.1", 0, process_request=answer, **options) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        yield Cluster(client.Configuration(host=f"http://127.0.0.1:{port}"))


def test_output_and_exit_code_come_back(cluster: Cluster, protocol: str) -> None:
    assert run_in_pod(cluster, POD, ["printf", r"a\0b\377"], doing="a test") == "a\0b\udcff"
    with pytest.raises(ClusterError, match=r"a test in pod erp-sandbox/web failed \(exit code 3\): no luck"):
        run_in_pod(cluster, POD, ["sh", "-c", "echo no luck >&2; exit 3"], doing="a test")
    assert spoken == [protocol] * 2


@pytest.mark.parametrize(
    ("version", "does"),
    [
        ("v1.20.2", True),
        ("v1.29.15+k3s1", True),
        ("v1.30.0", False),
        ("v1.33.4-gke.1000", False),
        ("v2.0.0", False),
        ("devel", False),
    ],
)
@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io"])
def test_a_server_hands_frames_on_if_it_is_older_than_1_30(cluster: Cluster, does: bool) -> None:
    assert cluster.hands_frames_on is does


@pytest.mark.parametrize("version", ["v1.29.1"])
@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io"])
def test_where_spdy_is_refused_a_websocket_takes_its_place(cluster: Cluster, protocol: str) -> None:
    assert cluster.hands_frames_on
    assert run_in_pod(cluster, POD, ["echo", "done"], doing="a test") == "done\n"
    assert spoken == [protocol]


def test_an_archive_is_unpacked(cluster: Cluster, protocol: str, tmp_path: Path) -> None:
    content = {f"f{size}": os.urandom(size) for size in (0, 1, 65536, 20_000_000)}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, each in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(each)
            tar.addfile(entry, io.BytesIO(each))
    sent: list[int] = []

    unpack(cluster, POD, str(tmp_path / "new"), [memoryview(archive.getvalue())], sent.append)

    assert {file.name: file.read_bytes() for file in (tmp_path / "new/tree").iterdir()} == content
    assert sent[-1] >= archive.tell()
    assert spoken == [protocol]


def test_lost_bytes_are_not_waited_for_for_ever(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that is left away stands for bytes that a network loses."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("name"))

    def write_less(self: Exec, data: bytes, write: Callable[[Exec, bytes], None] = Exec.write) -> None:
        write(self, data[:-50] if len(data) > 100 else data)

    monkeypatch.setattr(Exec, "write", write_less)
    monkeypatch.setattr(pytest_erp_sandbox.cluster.unpack, "_PATIENCE", 1.0)
    with pytest.raises(ClusterError, match=r"what arrived is not what was sent: it waits for more\n.*Run again"):
        unpack(cluster, POD, str(tmp_path / "new"), [memoryview(archive.getvalue())], lambda _: None)
