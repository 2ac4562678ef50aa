"""Commands that run in a pod, where connections fail, are closed by others, or never answer."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kubernetes import client

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster import api
from pytest_erp_sandbox.cluster import exec as exec_
from pytest_erp_sandbox.cluster.api import Cluster, PodReference
from pytest_erp_sandbox.cluster.exec import Exec, kept_open, run_in_pod

from .kubernetes import IMAGE, Kubernetes, until


@pytest.fixture(scope="module")
def pod(kubernetes: Kubernetes) -> PodReference:
    return PodReference(kubernetes.sandbox, kubernetes.pod(kubernetes.sandbox, "exec", IMAGE))


@pytest.fixture(params=["SpdyWire", "WebSocketWire"])
def cluster(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Cluster:
    """The same Kubernetes, spoken to as if it were old, or new."""
    return kubernetes.spoken_to(spdy=request.param == "SpdyWire").cluster


def test_each_wire_is_what_it_is_called(cluster: Cluster, pod: PodReference, request: pytest.FixtureRequest) -> None:
    with Exec(cluster, pod, ["true"]) as running:
        assert type(running._wire).__name__ == request.node.callspec.params["cluster"]
        assert running.wait() == 0


def test_streams_come_whole_and_apart(cluster: Cluster, pod: PodReference) -> None:
    script = r"head -c 3000000 /dev/zero; echo trouble >&2; printf '\377the end'; exit 7"
    with Exec(cluster, pod, ["sh", "-c", script]) as running:
        output = b"".join(running.output())
        assert running.wait() == 7
    assert output == bytes(3_000_000) + b"\xffthe end"
    assert running.said == "trouble\n"


@pytest.fixture(scope="module")
def pod_of_two(kubernetes: Kubernetes) -> str:
    name = "two-containers"
    containers = [
        {"name": each, "image": IMAGE, "command": ["sleep", "infinity"], "env": [{"name": "WHO", "value": each}]}
        for each in ("first", "second")
    ]
    body: Any = {"metadata": {"name": name}, "spec": {"containers": containers, "terminationGracePeriodSeconds": 0}}
    kubernetes.cluster.core.create_namespaced_pod(kubernetes.sandbox, body)
    kubernetes.await_pod(kubernetes.sandbox, name)
    return name


def test_a_container_is_chosen_by_its_name(cluster: Cluster, kubernetes: Kubernetes, pod_of_two: str) -> None:
    for each in ("first", "second"):
        pod = PodReference(kubernetes.sandbox, pod_of_two, each)
        assert run_in_pod(cluster, pod, ["sh", "-c", "echo $WHO"], doing="the test") == f"{each}\n"


def test_what_is_written_is_read_whatever_a_frame_may_hold(cluster: Cluster, pod: PodReference) -> None:
    written = os.urandom(35_000_001)
    with Exec(cluster, pod, ["sh", "-c", f"head -c {len(written)} | md5sum"], stdin=True) as running:
        running.write(written)
        said = b"".join(running.output()).decode()
        assert running.wait() == 0
    assert said.split()[0] == hashlib.md5(written, usedforsecurity=False).hexdigest()


def test_a_command_that_is_silent_for_long_is_asked_whether_it_is_there(
    cluster: Cluster, pod: PodReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_, "_SILENCE", 0.5)
    monkeypatch.setattr(exec_, "_LOST", 2.0)
    asked: list[float] = []
    with Exec(cluster, pod, ["sh", "-c", "sleep 5; exit 4"]) as running:
        ping = running._wire.ping

        def pings() -> None:
            asked.append(time.monotonic())
            ping()

        monkeypatch.setattr(running._wire, "ping", pings)
        assert running.wait() == 4
    assert len(asked) > 2  # so each was answered


def functions(thread: threading.Thread) -> list[str]:
    """The Python functions that a thread is in."""
    names, frame = [], sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


@pytest.mark.parametrize("command", ["sleep 60", "cat /dev/zero"], ids=["silent", "speaking"])
def test_it_is_closed_only_when_no_other_thread_reads_from_it(
    cluster: Cluster, pod: PodReference, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    said: list[str] = []
    at_the_end: list[list[str]] = []

    def read() -> None:
        try:
            for _ in running.output():
                pass
        except ClusterError as error:
            said.append(str(error))

    with Exec(cluster, pod, ["sh", "-c", command]) as running:
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        until(lambda: "_is_readable" in functions(reader), "the thread reads")
        close = running._wire.close

        def closes() -> None:
            at_the_end.append(functions(reader))
            close()

        monkeypatch.setattr(running._wire, "close", closes)
    assert len(at_the_end) == 1
    assert not {"_is_readable", "receive"}.intersection(at_the_end[0])
    reader.join(10)
    assert not reader.is_alive()
    assert "was lost before the end" in said[0]
    assert run_in_pod(cluster, pod, ["echo", "next"], doing="the test") == "next\n"


def test_that_a_command_which_is_kept_open_has_ended_is_known(cluster: Cluster, pod: PodReference) -> None:
    waiting = Exec(cluster, pod, ["sh", "-c", "rm -f /waits; echo $$ >/waits; exec sleep 1000"])
    with waiting, kept_open(waiting) as still_runs:
        kill = ["sh", "-c", "until [ -s /waits ]; do sleep 0.1; done; kill $(cat /waits)"]
        assert still_runs()
        run_in_pod(cluster, pod, kill, doing="the test")
        until(lambda: not still_runs(), "its end is known", patience=5)


@pytest.fixture
def mute() -> Iterator[Cluster]:
    """An API server, in place of one that hangs: it accepts connections, and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield Cluster(client.Configuration(host=f"https://127.0.0.1:{server.getsockname()[1]}"))


def test_an_api_server_that_never_answers_is_not_waited_for_for_ever(
    mute: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_OPENING", 0.5)
    with pytest.raises(ClusterError, match=r"running a program in pod erp/web.*has not answered for"):
        run_in_pod(mute, PodReference("erp", "web"), ["true"], doing="the test")
