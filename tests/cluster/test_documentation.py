"""The documentation's page on clusters, done word for word: its names, its manifests, kubectl."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import BatchV1Api

from ..docs.pages import PROJECT, Page, story
from ..docs.shell import Shell
from .kubernetes import DEPLOY, IMAGE, KUBECONFIG, Kubernetes, running_kubernetes, until
from .town import Town, in_documents, needs_this_machine, running_town

pytestmark = needs_this_machine


@pytest.fixture
def named_as_written() -> Iterator[Kubernetes]:
    """A cluster with the namespaces that the page names."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on the PATH")
    with running_kubernetes("erp", "erp-sandbox") as kubernetes:
        yield kubernetes


def bindings(name: str) -> str:
    """The commands that stand in ``outside/kustomization.yaml``, for somebody of this name."""
    text = (DEPLOY / "outside" / "kustomization.yaml").read_text(encoding="utf-8")
    (commands,) = re.findall(r"people, in both namespaces:\n#\n((?:#   .*\n)+)", text)
    return str(commands).replace("#   ", "").replace("NAME", name)


@story("docs/how-to/cluster.md")
def test_the_page_on_clusters(named_as_written: Kubernetes, page: Page, tmp_path: Path) -> None:
    kubectl = Shell(tmp_path, KUBECONFIG=str(Path(KUBECONFIG).absolute()))

    def deploy(kubernetes: Kubernetes) -> None:
        kubectl.run(f"cd {PROJECT}\n{page.take('sh')}")
        assert namespaces_of_overlay(page.take("yaml"), kubectl) == {"prod", "rehearsals"}
        kubectl.run(bindings(f"system:serviceaccount:{kubernetes.sandbox}:somebody"))

    with running_town(named_as_written, deploy) as town:
        kubectl.run(f"cd {PROJECT}\n{page.take('sh')}")
        for job in ("erp-sandbox-refresh", "erp-sandbox-rehearse"):
            await_image(town.kubernetes, job)
        from_ci(page, town.kubernetes, kubectl)
        from_outside(page, town)


def namespaces_of_overlay(overlay: str, kubectl: Shell) -> set[str]:
    """Every namespace that an overlay of ``deploy/kubernetes`` names."""
    shutil.copytree(DEPLOY, kubectl.folder / "deploy" / "kubernetes")
    (kubectl.folder / "kustomization.yaml").write_text(overlay)
    return set(re.findall(r"namespace: (.*)", kubectl.run("kubectl kustomize .")))


def await_image(kubernetes: Kubernetes, job: str) -> None:
    """Wait until all that a Job's pod lacks is its image, the user's own: ``Town.job`` has another."""

    def reasons() -> list[str]:
        found: Any = kubernetes.cluster.core.list_namespaced_pod(kubernetes.sandbox, label_selector=f"job-name={job}")
        states = [each.state for pod in found.items for each in pod.status.container_statuses or ()]
        return [state.waiting.reason for state in states if state.waiting]

    until(lambda: reasons() in (["ErrImagePull"], ["ImagePullBackOff"]), f"the pod of {job} waits for its image")


def from_ci(page: Page, kubernetes: Kubernetes, kubectl: Shell) -> None:
    """Do what the page says of Jobs that a CI creates; its image is one that nobody has."""
    kubectl.run("kubectl --namespace erp-sandbox delete job --all --wait")
    (kubectl.folder / "kustomization.yaml").write_text(page.take("yaml"))
    kubectl.run(page.take("sh"))
    batch: Any = BatchV1Api(kubernetes.cluster.core.api_client)
    (job,) = batch.list_namespaced_job(kubernetes.sandbox).items
    assert job.metadata.name == "erp-sandbox-refresh"
    assert job.spec.template.spec.containers[0].image == "registry.example.com/ours/erp-rehearsals:2"
    assert "timed out" in kubectl.run(page.take("sh").replace("2h", "1s"), code=1)


def from_outside(page: Page, town: Town) -> None:
    """Do what the page says of working from outside, as somebody who has the Roles that were bound."""
    settings = page.take("toml").replace("https://erp-sandbox.example.org", town.erp_url)
    (town.project / "pyproject.toml").write_text(settings)
    shell = Shell(
        town.project,
        KUBECONFIG=str(town.kubeconfig),
        XDG_CACHE_HOME=str(town.project / "cache"),
        ERP_SANDBOX_GOLDEN__IMAGE=IMAGE,
    )
    assert "No resources found" in shell.run(f"{page.take('sh')} 2>&1")
    assert "nothing to recover" in shell.run(page.take("sh"))
    assert "no marker" in shell.run("erp-sandbox refresh", code=1)
    shell.run("erp-sandbox adopt --yes")
    assert "has prod's documents" in shell.run(page.take("sh"))
    assert in_documents(town, "cat logos/logo.png") == "logo\n"
    assert "rules are granted" in " ".join(shell.run(page.take("sh")).split())
