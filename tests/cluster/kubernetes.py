"""A real Kubernetes for the tests: the one that ``ERP_SANDBOX_TEST_KUBECONFIG`` leads to."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from pytest_erp_sandbox.cluster.api import Cluster, connect_cluster
from pytest_erp_sandbox.cluster.workload import Workload

KUBECONFIG = os.environ.get("ERP_SANDBOX_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("ERP_SANDBOX_TEST_IMAGE", "local/debian:1")
"""With GNU tar and PostgreSQL, server and client programs."""
BUSYBOX = os.environ.get("ERP_SANDBOX_TEST_BUSYBOX", "local/busybox:1")

PATIENCE = 60.0


@dataclass
class Kubernetes:
    """A cluster, and two namespaces of this test run's own."""

    cluster: Cluster
    prod: str
    sandbox: str

    def pod(self, namespace: str, name: str, image: str = IMAGE, volumes: Sequence[Any] = (), **spec: Any) -> str:
        """Start a pod that sleeps, and await it; ``spec`` is added to its only container's."""
        container = {"name": "main", "image": image, "command": ["sleep", "infinity"], **spec}
        body: Any = {
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [container], "volumes": list(volumes), "terminationGracePeriodSeconds": 0},
        }
        self.cluster.core.create_namespaced_pod(namespace, body)
        self.await_pod(namespace, name)
        return name

    def await_pod(self, namespace: str, name: str) -> None:
        def is_ready() -> bool:
            status: Any = self.cluster.core.read_namespaced_pod_status(name, namespace).status
            return any(each.type == "Ready" and each.status == "True" for each in status.conditions or ())

        until(is_ready, f"pod {namespace}/{name} is ready")

    def workload(self, namespace: str, name: str, *, replicas: int = 1, kind: str = "Deployment") -> Workload:
        """Make a Deployment or StatefulSet whose pods sleep."""
        body: Any = {
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{"name": "main", "image": BUSYBOX, "command": ["sleep", "infinity"]}],
                    },
                },
            },
        }
        if kind == "Deployment":
            self.cluster.apps.create_namespaced_deployment(namespace, body)
        else:
            body["spec"]["serviceName"] = name
            self.cluster.apps.create_namespaced_stateful_set(namespace, body)
        return Workload(kind, namespace, name)

    def secret(self, namespace: str, name: str, values: Mapping[str, str]) -> None:
        body: Any = {"metadata": {"name": name}, "stringData": dict(values)}
        self.cluster.core.create_namespaced_secret(namespace, body)

    def pods(self, namespace: str, selector: str) -> list[str]:
        found: Any = self.cluster.core.list_namespaced_pod(namespace, label_selector=selector)
        return [pod.metadata.name for pod in found.items]


@contextmanager
def running_kubernetes() -> Iterator[Kubernetes]:
    """The cluster, with two namespaces that are removed at the end."""
    if not KUBECONFIG:
        pytest.skip("ERP_SANDBOX_TEST_KUBECONFIG does not say where a Kubernetes is (see CONTRIBUTING.md)")
    cluster = connect_cluster(Path(KUBECONFIG))
    mark = secrets.token_hex(3)
    kubernetes = Kubernetes(cluster, f"erp-{mark}-prod", f"erp-{mark}-sandbox")
    names = (kubernetes.prod, kubernetes.sandbox)
    try:
        for name in names:
            namespace: Any = {"metadata": {"name": name}}
            cluster.core.create_namespace(namespace)
            until(lambda name=name: _has_account(cluster, name), f"namespace {name} has its service account")  # type: ignore[misc]
        yield kubernetes
    finally:
        for name in names:
            cluster.core.delete_namespace(name, body=client.V1DeleteOptions(grace_period_seconds=0))


def _has_account(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.core.read_namespaced_service_account("default", namespace)
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


def until(is_so: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain: {what}"
        time.sleep(0.1)
