"""Commands that run in a pod, where connections fail, are closed by others, or never answer."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kubernetes import client

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster import api
from pytest_erp_sandbox.cluster.api import Cluster
from pytest_erp_sandbox.cluster.exec import Exec, PodReference, kept_open, run_in_pod

from .kubernetes import IMAGE, Kubernetes, until


@pytest.fixture(scope="module")
def pod(kubernetes: Kubernetes) -> PodReference:
    return PodReference(kubernetes.sandbox, kubernetes.pod(kubernetes.sandbox, "exec", IMAGE))


def functions(thread: threading.Thread) -> list[str]:
    """The Python functions that a thread is in."""
    names, frame = [], sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


@pytest.mark.parametrize("command", ["sleep 60", "cat /dev/zero"], ids=["silent", "speaking"])
def test_it_is_closed_only_when_no_other_thread_reads_from_it(
    kubernetes: Kubernetes, pod: PodReference, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    said: list[str] = []
    at_the_end: list[list[str]] = []

    def read() -> None:
        try:
            for _ in running.output():
                pass
        except ClusterError as error:
            said.append(str(error))

    with Exec(kubernetes.cluster, pod, ["sh", "-c", command]) as running:
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        until(lambda: "_is_readable" in functions(reader), "the thread reads")
        close = running._socket.close

        def closes(**options: Any) -> None:
            at_the_end.append(functions(reader))
            close(**options)

        monkeypatch.setattr(running._socket, "close", closes)
    assert len(at_the_end) == 1
    assert not {"_is_readable", "recv_data_frame"}.intersection(at_the_end[0])
    reader.join(10)
    assert not reader.is_alive()
    assert "was lost before the end" in said[0]
    assert run_in_pod(kubernetes.cluster, pod, ["echo", "next"], doing="the test") == "next\n"


def test_that_a_command_which_is_kept_open_has_ended_is_known(kubernetes: Kubernetes, pod: PodReference) -> None:
    waiting = Exec(kubernetes.cluster, pod, ["sh", "-c", "echo $$ >/waits; exec sleep 1000"])
    with waiting, kept_open(waiting) as still_runs:
        kill = ["sh", "-c", "until [ -s /waits ]; do sleep 0.1; done; kill $(cat /waits)"]
        assert still_runs()
        run_in_pod(kubernetes.cluster, pod, kill, doing="the test")
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
