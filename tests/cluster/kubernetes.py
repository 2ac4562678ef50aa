"""A real Kubernetes for the tests: the one that ``ERP_SANDBOX_TEST_KUBECONFIG`` leads to."""

from __future__ import annotations

import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, utils
from kubernetes.client import ApiException

from pytest_erp_sandbox.cluster.api import Cluster, PodReference, connect_cluster
from pytest_erp_sandbox.cluster.exec import run_in_pod
from pytest_erp_sandbox.cluster.workload import Workload, await_ready

KUBECONFIG = os.environ.get("ERP_SANDBOX_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("ERP_SANDBOX_TEST_IMAGE", "local/debian:1")
"""With GNU tar and PostgreSQL, server and client programs."""
BUSYBOX = os.environ.get("ERP_SANDBOX_TEST_BUSYBOX", "local/busybox:1")
WEBSOCKETS = bool(os.environ.get("ERP_SANDBOX_TEST_WEBSOCKETS"))
"""Whether pods are reached as in Kubernetes from 1.30 on, where this one is older."""

DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"

PATIENCE = 60.0


@dataclass
class Kubernetes:
    """A cluster, and two namespaces of this test run's own."""

    cluster: Cluster
    prod: str
    sandbox: str
    applied: list[Any] = field(default_factory=list)

    def spoken_to(self, *, spdy: bool) -> Kubernetes:
        """The same, spoken to as if it handed streams' frames on, or did not."""
        cluster = connect_cluster(Path(KUBECONFIG))
        cluster.hands_frames_on = spdy
        return replace(self, cluster=cluster)

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

    def claim(self, name: str, *, mode: str = "777", **spec: Any) -> str:
        """A claim in the sandbox's namespace, whose folder anybody may write, as with drivers that know fsGroup."""
        body: Any = {
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}, **spec},
        }
        self.cluster.core.create_namespaced_persistent_volume_claim(self.sandbox, body)
        volume = {"name": "cache", "persistentVolumeClaim": {"claimName": name}}
        mounts = [{"name": "cache", "mountPath": "/cache"}]
        pod = self.pod(self.sandbox, f"prepares-{name}", BUSYBOX, volumes=[volume], volumeMounts=mounts)
        reference = PodReference(self.sandbox, pod)
        run_in_pod(self.cluster, reference, ["chmod", mode, "/cache"], doing="preparing the volume")
        return name

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
        return self._create(Workload(kind, namespace, name), body)

    def _create(self, workload: Workload, body: Any) -> Workload:
        if workload.kind == "Deployment":
            self.cluster.apps.create_namespaced_deployment(workload.namespace, body)
        else:
            body["spec"]["serviceName"] = workload.name
            self.cluster.apps.create_namespaced_stateful_set(workload.namespace, body)
        return workload

    def postgres(
        self, namespace: str, name: str, passwords: Mapping[str, str], *, kind: str = "Deployment"
    ) -> Workload:
        """A PostgreSQL server in a workload, with these logins' passwords; ``postgres`` is its superuser."""
        script = f"""
            set -e
            mkdir -p /data && chown postgres /data
            export PGDATA=/data
            as() {{ su postgres -s /bin/sh -c "$1"; }}
            printf %s {shlex.quote(passwords["postgres"])} >/data/../pw && chown postgres /pw
            as "PATH=$PATH initdb --pwfile=/pw --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --locale=C.UTF-8"
            echo 'host all all all scram-sha-256' >>/data/pg_hba.conf
            exec su postgres -s /bin/sh -c "PATH=$PATH exec postgres -D /data -c listen_addresses='*' -c fsync=off"
        """
        container = {
            "name": "postgres",
            "image": IMAGE,
            "command": ["sh", "-c", script],
            "readinessProbe": {
                "exec": {"command": ["pg_isready", "-h", "127.0.0.1"]},
                "periodSeconds": 1,
            },
        }
        body: Any = {
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
                },
            },
        }
        workload = self._create(Workload(kind, namespace, name), body)
        await_ready(self.cluster, workload, timedelta(seconds=PATIENCE))
        return workload

    def deploy(self, *names: str) -> None:
        """Apply files of ``deploy/kubernetes``, with the namespaces of this run."""
        for name in names:
            text = (DEPLOY / f"{name}.yaml").read_text(encoding="utf-8")
            for body in yaml.safe_load_all(text):
                for part in (body["metadata"], *body.get("subjects", ())):
                    part["namespace"] = {"erp": self.prod, "erp-sandbox": self.sandbox}[part["namespace"]]
                self.applied.append(body)
                utils.create_from_dict(self.cluster.core.api_client, body)  # type: ignore[no-untyped-call]

    def account_named(self, name: str) -> None:
        """Make a service account of the sandbox's namespace, if it is not there."""
        core: Any = self.cluster.core
        if name not in [each.metadata.name for each in core.list_namespaced_service_account(self.sandbox).items]:
            core.create_namespaced_service_account(self.sandbox, {"metadata": {"name": name}})

    def bind(self, account: str, namespace: str, *roles: str) -> None:
        """Bind Roles of ``namespace`` to a service account of the sandbox's, which is made if it is not there."""
        self.account_named(account)
        rbac = client.RbacAuthorizationV1Api(self.cluster.core.api_client)
        for role in roles:
            body: Any = {
                "metadata": {"name": f"{account}-{role}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.sandbox}],
            }
            rbac.create_namespaced_role_binding(namespace, body)

    def kubeconfig_of(self, name: str) -> str:
        """A kubeconfig's text, with which one is a service account of the sandbox's namespace."""
        core: Any = self.cluster.core
        body = {"spec": {"expirationSeconds": 3600}}
        token = core.create_namespaced_service_account_token(name, self.sandbox, body).status.token
        content = yaml.safe_load(Path(KUBECONFIG).read_text(encoding="utf-8"))
        content["users"] = [{"name": user["name"], "user": {"token": token}} for user in content["users"]]
        return str(yaml.safe_dump(content))

    def account(self, name: str) -> Cluster:
        """The cluster, as a service account of the sandbox's namespace."""
        with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig") as file:
            file.write(self.kubeconfig_of(name))
            file.flush()
            return connect_cluster(Path(file.name))

    def secret(self, namespace: str, name: str, values: Mapping[str, str]) -> None:
        body: Any = {"metadata": {"name": name}, "stringData": dict(values)}
        self.cluster.core.create_namespaced_secret(namespace, body)

    def pods(self, namespace: str, selector: str) -> list[str]:
        found: Any = self.cluster.core.list_namespaced_pod(namespace, label_selector=selector)
        return [pod.metadata.name for pod in found.items]


@contextmanager
def running_kubernetes(prod: str = "", sandbox: str = "") -> Iterator[Kubernetes]:
    """The cluster, with two namespaces that are removed at the end.

    Args:
        prod: the name of prod's; without one, a name that nobody else has.
        sandbox: the name of the sandbox's.
    """
    if not KUBECONFIG:
        pytest.skip("ERP_SANDBOX_TEST_KUBECONFIG does not say where a Kubernetes is (see CONTRIBUTING.md)")
    cluster = connect_cluster(Path(KUBECONFIG))
    if WEBSOCKETS:
        cluster.hands_frames_on = False
    mark = secrets.token_hex(3)
    kubernetes = Kubernetes(cluster, prod or f"erp-{mark}-prod", sandbox or f"erp-{mark}-sandbox")
    made = []
    try:
        for name in (kubernetes.prod, kubernetes.sandbox):
            _make_namespace(cluster, name)
            made.append(name)
            until(lambda name=name: _takes_pods(cluster, name), f"pods can be made in namespace {name}")  # type: ignore[misc]
        yield kubernetes
    finally:
        for name in made:
            cluster.core.delete_namespace(name, body=client.V1DeleteOptions(grace_period_seconds=0))


def _make_namespace(cluster: Cluster, name: str) -> None:
    """Make a namespace; one of this name that is being removed is awaited, any other is let alone."""

    def phases() -> list[str]:
        found: Any = cluster.core.list_namespace(field_selector=f"metadata.name={name}")
        return [each.status.phase for each in found.items]

    until(lambda: phases() != ["Terminating"], f"namespace {name} is gone")
    if phases():
        pytest.skip(f"this cluster has a namespace {name}, which is not this test's: remove it if nobody needs it")
    body: Any = {"metadata": {"name": name}}
    cluster.core.create_namespace(body)


def _takes_pods(cluster: Cluster, namespace: str) -> bool:
    """Whether a pod would be admitted: for a moment a new namespace has no service account, or one without a token."""
    body: Any = {"metadata": {"name": "first"}, "spec": {"containers": [{"name": "main", "image": IMAGE}]}}
    try:
        cluster.core.create_namespaced_pod(namespace, body, dry_run="All")
    except ApiException as error:
        if error.status not in (403, 500):
            raise
        return False
    return True


def until(is_so: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s in vain: {what}"
        time.sleep(0.1)
