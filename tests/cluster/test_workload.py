"""Exclusive access: scaled to 0, and always back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import urllib3
from kubernetes.client import ApiException

from pytest_erp_sandbox import ClusterError, NotASandboxError, SettingsError
from pytest_erp_sandbox.cluster import workload as workload_module
from pytest_erp_sandbox.cluster.workload import REPLICAS, Workload, await_ready, ready_pod, recover, scaled_down

from .kubernetes import KUBECONFIG, Kubernetes, until

SOON = timedelta(seconds=60)


def state(kubernetes: Kubernetes, workload: Workload) -> tuple[int, str | None]:
    """How many pods it should have, and what the annotation says."""
    apps = kubernetes.cluster.apps
    read: Any = apps.read_namespaced_deployment
    if workload.kind == "StatefulSet":
        read = apps.read_namespaced_stateful_set
    found = read(workload.name, workload.namespace)
    return found.spec.replicas, (found.metadata.annotations or {}).get(REPLICAS)


def ready(kubernetes: Kubernetes, workload: Workload) -> int:
    """How many of its pods are ready."""
    found: Any = kubernetes.cluster.core.list_namespaced_pod(workload.namespace, label_selector=f"app={workload.name}")
    conditions = [condition for pod in found.items for condition in pod.status.conditions or ()]
    return sum(condition.type == "Ready" and condition.status == "True" for condition in conditions)


@pytest.fixture(scope="module")
def erp(kubernetes: Kubernetes) -> Workload:
    workload = kubernetes.workload(kubernetes.sandbox, "erp", replicas=2)
    await_ready(kubernetes.cluster, workload, SOON)
    return workload


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_its_pods_are_gone_meanwhile_and_ready_again_afterwards(kubernetes: Kubernetes, kind: str) -> None:
    name = f"gone-{kind.lower()}"
    workload = kubernetes.workload(kubernetes.sandbox, name, replicas=2, kind=kind)
    await_ready(kubernetes.cluster, workload, SOON)
    with scaled_down(kubernetes.cluster, workload, prods=[kubernetes.prod]):
        assert kubernetes.pods(kubernetes.sandbox, f"app={name}") == []
        assert state(kubernetes, workload) == (0, "2")
    assert state(kubernetes, workload) == (2, None)
    assert len(kubernetes.pods(kubernetes.sandbox, f"app={name}")) == 2
    assert ready_pod(kubernetes.cluster, workload) in kubernetes.pods(kubernetes.sandbox, f"app={name}")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_it_as_it_was(kubernetes: Kubernetes, erp: Workload, error: type[BaseException]) -> None:
    with pytest.raises(error), scaled_down(kubernetes.cluster, erp, prods=[kubernetes.prod]):
        raise error
    assert state(kubernetes, erp) == (2, None)


def test_after_an_error_it_is_ready_again(kubernetes: Kubernetes) -> None:
    workload = kubernetes.workload(kubernetes.sandbox, "failing", replicas=2)
    await_ready(kubernetes.cluster, workload, SOON)
    with pytest.raises(RuntimeError, match="first"), scaled_down(kubernetes.cluster, workload, prods=[]):
        raise RuntimeError("first")
    assert ready(kubernetes, workload) == 2


def test_that_it_does_not_become_ready_hides_no_error(kubernetes: Kubernetes) -> None:
    workload = kubernetes.workload(kubernetes.sandbox, "failing-and-broken")
    await_ready(kubernetes.cluster, workload, SOON)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "local/missing:1"}]}}}}
    kubernetes.cluster.apps.patch_namespaced_deployment(workload.name, workload.namespace, image)
    told: list[str] = []
    with (
        pytest.raises(RuntimeError, match="first"),
        scaled_down(kubernetes.cluster, workload, prods=[], timeout=timedelta(seconds=8), on_wait=told.append),
    ):
        raise RuntimeError("first")
    assert "scaled back, but is not ready within 8 s: 0 of 1 pods are ready" in told[-1]
    assert state(kubernetes, workload) == (1, None)


@pytest.fixture
def fail_to_scale_back(kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Answers of a cluster that is in trouble, instead of its own, to the first writes that would scale back."""
    patch = kubernetes.cluster.apps.patch_namespaced_deployment

    def arrange(fault: BaseException, times: int) -> None:
        left = [fault] * times

        def answer(name: str, namespace: str, body: Any, **options: Any) -> Any:
            if body["spec"]["replicas"] and left:
                raise left.pop()
            return patch(name, namespace, body, **options)

        monkeypatch.setattr(kubernetes.cluster.apps, "patch_namespaced_deployment", answer)

    return arrange


BUSY, FORBIDDEN = ApiException(status=503, reason="etcd has no leader"), ApiException(status=403, reason="no")
REFUSED = urllib3.exceptions.ProtocolError("Connection refused")


@pytest.mark.parametrize(
    ("fault", "times"), [(ApiException(status=409), 6), (ApiException(status=429), 2), (BUSY, 2), (REFUSED, 2)]
)
def test_scaling_back_is_tried_again_where_the_cluster_does_not_take_it(
    kubernetes: Kubernetes, erp: Workload, fail_to_scale_back: Callable[..., None], fault: Exception, times: int
) -> None:
    told: list[str] = []
    fail_to_scale_back(fault, times)
    with scaled_down(kubernetes.cluster, erp, prods=[], on_wait=told.append):
        pass
    assert state(kubernetes, erp) == (2, None)
    assert len([line for line in told if "cannot be scaled back yet, and it is tried again" in line]) == 1


@pytest.mark.parametrize(("fault", "patience"), [(FORBIDDEN, 60), (BUSY, 1)])
def test_that_it_cannot_be_scaled_back_is_an_error_that_says_what_to_do(
    kubernetes: Kubernetes,
    erp: Workload,
    fail_to_scale_back: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    fault: ApiException,
    patience: float,
) -> None:
    monkeypatch.setattr(workload_module, "_PATIENCE", patience)
    fail_to_scale_back(fault, 10)
    with (
        pytest.raises(ClusterError, match=rf"may still be scaled to 0: .*{fault.reason}(.|\n)*→ `erp-sandbox recover`"),
        scaled_down(kubernetes.cluster, erp, prods=[]),
    ):
        pass
    monkeypatch.undo()
    assert recover(kubernetes.cluster, erp, prods=[]) == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_that_it_cannot_be_scaled_back_hides_no_error_and_no_ctrl_c(
    kubernetes: Kubernetes,
    erp: Workload,
    fail_to_scale_back: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    told: list[str] = []
    fail_to_scale_back(FORBIDDEN, 1)
    with pytest.raises(error) as failure, scaled_down(kubernetes.cluster, erp, prods=[], on_wait=told.append):
        raise error
    (note,) = failure.value.__notes__
    assert note.endswith("`erp-sandbox recover` puts it back.")
    assert told[-1] == note
    assert recover(kubernetes.cluster, erp, prods=[]) == 2


@pytest.mark.parametrize("faults", [1, 2], ids=["once", "twice"])
def test_ctrl_c_while_it_is_scaled_back_does_not_leave_it_at_0(
    kubernetes: Kubernetes, erp: Workload, fail_to_scale_back: Callable[..., None], faults: int
) -> None:
    """A second one is somebody who will not wait, and can have it: the next run, or ``recover``, puts it back."""
    fail_to_scale_back(KeyboardInterrupt(), faults)
    with pytest.raises(KeyboardInterrupt), scaled_down(kubernetes.cluster, erp, prods=[]):
        pass
    assert state(kubernetes, erp) == ((2, None) if faults == 1 else (0, "2"))
    assert recover(kubernetes.cluster, erp, prods=[]) == (None if faults == 1 else 2)


def test_after_ctrl_c_its_pods_are_awaited_unless_there_is_another(kubernetes: Kubernetes, erp: Workload) -> None:
    """That whoever is told raises stands for the second one."""
    told: list[str] = []

    def say(said: str) -> None:
        told.append(said)
        if is_in_a_hurry and "to be ready" in said:
            raise KeyboardInterrupt("another")

    is_in_a_hurry = True
    with (
        pytest.raises(KeyboardInterrupt, match="another"),
        scaled_down(kubernetes.cluster, erp, prods=[], on_wait=say),
    ):
        raise KeyboardInterrupt
    assert told[-1] == f"waiting for {erp} to be ready (Ctrl-C ends the wait)"
    assert state(kubernetes, erp) == (2, None)
    is_in_a_hurry = False
    with pytest.raises(KeyboardInterrupt), scaled_down(kubernetes.cluster, erp, prods=[], on_wait=say):
        raise KeyboardInterrupt
    assert ready(kubernetes, erp) == 2


def test_one_that_was_at_0_stays_there(kubernetes: Kubernetes) -> None:
    workload = kubernetes.workload(kubernetes.sandbox, "asleep", replicas=0)
    with scaled_down(kubernetes.cluster, workload, prods=[kubernetes.prod]):
        assert state(kubernetes, workload) == (0, None)
    assert state(kubernetes, workload) == (0, None)


def killed_inside(workload: Workload) -> None:
    """A run that is killed with ``kill -9`` while the workload is scaled down."""
    code = f"""
from pathlib import Path
import signal, sys
from pytest_erp_sandbox.cluster.api import connect_cluster
from pytest_erp_sandbox.cluster.workload import Workload, scaled_down
with scaled_down(connect_cluster(Path({KUBECONFIG!r})), {workload!r}, prods=[]):
    print("inside", flush=True)
    signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"inside\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_recover_puts_back_what_a_killed_run_left(kubernetes: Kubernetes, erp: Workload) -> None:
    killed_inside(erp)
    assert state(kubernetes, erp) == (0, "2")
    assert recover(kubernetes.cluster, erp, prods=[kubernetes.prod]) == 2
    assert state(kubernetes, erp) == (2, None)
    assert recover(kubernetes.cluster, erp, prods=[kubernetes.prod]) is None


def test_the_next_run_puts_back_what_a_killed_run_left(kubernetes: Kubernetes, erp: Workload) -> None:
    killed_inside(erp)
    with scaled_down(kubernetes.cluster, erp, prods=[kubernetes.prod]):
        pass
    assert state(kubernetes, erp) == (2, None)


def test_prods_namespace_is_refused_before_anything_is_changed(kubernetes: Kubernetes) -> None:
    prod = kubernetes.workload(kubernetes.prod, "erp")
    with pytest.raises(NotASandboxError, match="is in prod's namespace, where nothing is ever scaled"):
        scaled_down(kubernetes.cluster, prod, prods=[kubernetes.prod]).__enter__()
    with pytest.raises(NotASandboxError, match="is in prod's namespace, where nothing is ever scaled"):
        recover(kubernetes.cluster, prod, prods=[kubernetes.prod])
    assert state(kubernetes, prod) == (1, None)


def test_pods_that_do_not_end_are_named_and_it_is_scaled_back(kubernetes: Kubernetes) -> None:
    workload = kubernetes.workload(kubernetes.sandbox, "clinging")
    await_ready(kubernetes.cluster, workload, SOON)
    name = ready_pod(kubernetes.cluster, workload)
    pods = kubernetes.cluster.core
    pods.patch_namespaced_pod(name, kubernetes.sandbox, {"metadata": {"finalizers": ["test.example/clings"]}})
    try:
        with (
            pytest.raises(ClusterError, match=f"have not ended within 2 s: {name}"),
            scaled_down(kubernetes.cluster, workload, prods=[], timeout=timedelta(seconds=2)),
        ):
            pytest.fail("its pod is still there")
    finally:
        pods.patch_namespaced_pod(name, kubernetes.sandbox, {"metadata": {"finalizers": None}})
    assert state(kubernetes, workload) == (1, None)


def test_one_that_does_not_become_ready_says_why(kubernetes: Kubernetes) -> None:
    workload = kubernetes.workload(kubernetes.sandbox, "broken", replicas=1)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "local/missing:1"}]}}}}
    kubernetes.cluster.apps.patch_namespaced_deployment("broken", kubernetes.sandbox, image)
    until(lambda: len(kubernetes.pods(kubernetes.sandbox, "app=broken")) > 0, "it has pods")
    with (
        pytest.raises(ClusterError, match=r"not ready within 8 s: 0 of 1 pods are ready \(.*(ImagePull|ErrImage)"),
        scaled_down(kubernetes.cluster, workload, prods=[], timeout=timedelta(seconds=8)),
    ):
        pass
    assert state(kubernetes, workload) == (1, None)


def test_ready_are_pods_that_are_there_and_not_those_that_were_counted_before(
    kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count stands for a controller that has not noticed yet that its former pods are gone."""
    workload = kubernetes.workload(kubernetes.sandbox, "counted", replicas=2)
    await_ready(kubernetes.cluster, workload, SOON)
    apps: Any = kubernetes.cluster.apps
    read = apps.read_namespaced_deployment

    def with_the_former_count(*arguments: Any, **options: Any) -> Any:
        found = read(*arguments, **options)
        found.status.ready_replicas = 2
        return found

    monkeypatch.setattr(apps, "read_namespaced_deployment", with_the_former_count)
    with scaled_down(kubernetes.cluster, workload, prods=[]):
        pass
    assert ready(kubernetes, workload) == 2


def test_a_write_by_somebody_else_in_between_is_not_lost(kubernetes: Kubernetes, erp: Workload) -> None:
    with scaled_down(kubernetes.cluster, erp, prods=[]):
        kubernetes.cluster.apps.patch_namespaced_deployment(
            "erp", kubernetes.sandbox, {"metadata": {"labels": {"touched": "yes"}}}
        )
    found: Any = kubernetes.cluster.apps.read_namespaced_deployment("erp", kubernetes.sandbox)
    assert found.metadata.labels["touched"] == "yes"
    assert state(kubernetes, erp) == (2, None)


def test_a_workload_that_is_not_there_is_named(kubernetes: Kubernetes) -> None:
    missing = Workload("Deployment", kubernetes.sandbox, "missing")
    with (
        pytest.raises(ClusterError, match=rf'Deployment {kubernetes.sandbox}/missing .*"missing" not found'),
        scaled_down(kubernetes.cluster, missing, prods=[]),
    ):
        pytest.fail("there is nothing to scale")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("erp", "Deployment"), ("deployment/erp", "Deployment"), ("StatefulSet/erp", "StatefulSet")],
)
def test_a_workload_is_written_as_kubectl_has_it(text: str, kind: str) -> None:
    assert Workload.parse(text, "ns", "sandbox.erp.workload") == Workload(kind, "ns", "erp")


@pytest.mark.parametrize("text", ["", "pod/erp", "deployment/", "a/b/c"])
def test_what_is_no_workload_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="neither a Deployment nor a StatefulSet"):
        Workload.parse(text, "ns", "sandbox.erp.workload")
