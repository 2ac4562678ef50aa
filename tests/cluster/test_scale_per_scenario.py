"""An ERP in the cluster, that is down while its sandbox is restored, where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_erp_sandbox import NotASandboxError
from pytest_erp_sandbox.cluster.workload import Workload, await_ready
from pytest_erp_sandbox.reach import erp_down
from pytest_erp_sandbox.settings import Settings

from ..dolibarr.answers import answering
from ..estates import BuiltEstate
from ..runs import Runs
from .kubernetes import KUBECONFIG, Kubernetes
from .test_workload import SOON, state


@pytest.fixture(scope="module")
def erp(kubernetes: Kubernetes) -> Workload:
    """Pods that stand for the ERP's: what they serve is not asked for."""
    workload = kubernetes.workload(kubernetes.sandbox, "scaled", replicas=2)
    await_ready(kubernetes.cluster, workload, SOON)
    return workload


@pytest.mark.parametrize(
    ("scale", "strategy", "stay"),
    [(True, "restore", False), (False, "restore", True), (True, "rewind", True)],
    ids=["a restore scales", "unless it is not asked for", "a rewind never does"],
)
def test_the_erp_is_down_while_its_sandbox_is_restored(
    estate: BuiltEstate, kubernetes: Kubernetes, erp: Workload, tmp_path: Path, scale: bool, strategy: str, stay: bool
) -> None:
    settings = estate.settings(strategy=strategy, journal=True, cluster={"kubeconfig": Path(KUBECONFIG)})
    settings["prod"]["namespace"] = kubernetes.prod
    (place,) = settings["sandboxes"]
    place["namespace"] = kubernetes.sandbox
    place["erp"] |= {"workload": "deployment/scaled", "scale-per-scenario": scale}
    runs = Runs(tmp_path / "project", settings)
    golden = runs.golden()
    with runs.sandbox() as sandbox:
        sandbox.reset(golden)  # makes the baseline that is rewound to
        before = kubernetes.pods(kubernetes.sandbox, "app=scaled")
        sandbox.reset(golden)
        assert sandbox.last_reset is not None
        assert sandbox.last_reset.strategy == strategy
    after = kubernetes.pods(kubernetes.sandbox, "app=scaled")
    assert len(after) == 2
    assert (set(after) == set(before), bool(set(after) & set(before))) == (stay, stay)
    assert state(kubernetes, erp) == (2, None)


def settings_of(prod: str, sandbox: str, url: str) -> Settings:
    """An ERP that is in the sandbox's namespace."""
    erp = {"url": url, "workload": "deployment/scaled"}
    return Settings.model_validate(
        {
            "prod": {"dsn": "host=prod dbname=erp", "namespace": prod},
            "sandbox": {"dsn": "host=sandbox dbname=erp", "namespace": sandbox, "erp": erp},
            "cluster": {"kubeconfig": KUBECONFIG},
        }
    )


def test_an_erp_that_the_settings_have_in_prods_namespace_is_refused(kubernetes: Kubernetes, erp: Workload) -> None:
    settings = settings_of(kubernetes.sandbox, kubernetes.sandbox, "http://127.0.0.1:1")
    with (
        pytest.raises(NotASandboxError, match=r"Deployment .*/scaled is in prod's namespace"),
        erp_down(settings, settings.all_sandboxes[0], lambda _: None),
    ):
        pytest.fail("it is down")
    assert state(kubernetes, erp) == (2, None)


@pytest.mark.parametrize(("answered", "waits"), [(200, True), (503, False)], ids=["that answered", "that did not"])
def test_an_erp_is_back_when_it_answers_as_it_did(
    kubernetes: Kubernetes, erp: Workload, answered: int, waits: bool
) -> None:
    """The server stands for an Ingress, which learns of the new pods a moment after they are ready."""
    told = list[str]()

    def listen(said: str) -> None:
        told.append(said)
        if "to answer" in said:
            ingress.status = 200

    with answering(answered) as ingress:
        settings = settings_of(kubernetes.prod, kubernetes.sandbox, ingress.url)
        with erp_down(settings, settings.all_sandboxes[0], listen):
            assert state(kubernetes, erp) == (0, "2")
            ingress.status = 503
        assert state(kubernetes, erp) == (2, None)
    assert (f"waiting for the ERP at {ingress.url} to answer" in told) == waits
