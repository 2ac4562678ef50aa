"""A town: prod and a sandbox in a cluster, each with a database, an ERP and documents."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import client
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.resource import Resource
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from pytest_erp_sandbox.cluster.api import PodReference
from pytest_erp_sandbox.cluster.exec import run_in_pod
from pytest_erp_sandbox.cluster.forward import forwarded
from pytest_erp_sandbox.cluster.workload import Workload, await_ready, ready_pod
from pytest_erp_sandbox.demo.estate import Estate, build_estate

from ..estates import toml
from .kubernetes import DEPLOY, IMAGE, KUBECONFIG, Kubernetes, until
from .test_workload import SOON

needs_this_machine = pytest.mark.skipif(
    bool(KUBECONFIG) and not IMAGE.startswith("local/"),
    reason="the pods of this test run this checkout's Python: their node must be this machine",
)

REPOSITORY = Path(__file__).parents[2]
RIGHTS = ["societe.*", "produit.lire", "facture.lire", "facture.creer", "facture.invoice_advance.validate"]
AGENT = [sys.executable, "{project}/features/agent.py"]

AUTHORITY = "authority"
ACCOUNT: list[Any] = [
    {"serviceAccountToken": {"path": "token"}},
    {"configMap": {"name": AUTHORITY}},
    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
]
"""A pod's service account, as clusters mount it by themselves where they know their own certificate's authority."""

ERP = """
import os, signal
from pydantic import SecretStr
from pytest_erp_sandbox.demo import erp
erp.HOST = "0.0.0.0"
erp.Erp(SecretStr(os.environ["DSN"]), SecretStr(os.environ["UNIQUE_ID"]), int(os.environ["PORT"])).start()
# At once: its pod is gone from the API by now, and another one may be asked for on the same port.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.pause()
"""


class ServerInPod:
    """A PostgreSQL server in the cluster, as the demo's estate wants one."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def dsn(self, database: str = "postgres", user: str = "postgres", password: SecretStr | None = None) -> SecretStr:
        said = "admin" if password is None else password.get_secret_value()
        return SecretStr(make_conninfo(host=self.host, port=self.port, dbname=database, user=user, password=said))


def python_of_this_checkout() -> tuple[list[Any], list[Any]]:
    """Volumes and mounts with which a pod on this machine runs the same Python."""
    folders = dict.fromkeys([sys.base_prefix, sys.prefix, str(REPOSITORY)])
    volumes = [{"name": f"host-{n}", "hostPath": {"path": folder}} for n, folder in enumerate(folders)]
    mounts = [{"name": f"host-{n}", "mountPath": folder, "readOnly": True} for n, folder in enumerate(folders)]
    return volumes, mounts


@dataclass
class Town:
    """Prod and sandbox, each with a database, an ERP and documents."""

    kubernetes: Kubernetes
    estate: Estate
    erp: Workload
    erp_url: str
    project: Path

    @property
    def kubeconfig(self) -> Path:
        """Of somebody who has the Roles of deploy/, and no others."""
        return self.project / "kubeconfig"

    def settings(self) -> dict[str, Any]:
        """Those of somebody outside of the cluster."""
        prod, sandbox = self.kubernetes.prod, self.kubernetes.sandbox
        return {
            "journal": True,
            "prod": {
                "namespace": prod,
                "secret": f"{prod}/erp-dump",
                "forward": "statefulset/postgres",
                "documents": {"workload": "dolibarr"},
            },
            "sandbox": {
                "namespace": sandbox,
                "secret": f"{sandbox}/erp-sandbox-db",
                # It means something in the namespace alone.
                "secret-keys": {"host": "short"},
                "forward": "statefulset/postgres",
                "documents": {},
                "erp": {
                    "url": self.erp_url,
                    "workload": "deployment/dolibarr",
                },
            },
            "cluster": {"kubeconfig": self.kubeconfig},
            "golden": {"path": self.project / "golden", "claim": "erp-golden", "image": IMAGE},
            "agent": {"rights": RIGHTS, "command": AGENT},
        }

    def configure(self, settings: dict[str, Any]) -> None:
        """Write the project's settings."""
        lines = [f"{key} = {toml(value)}\n" for key, value in settings.items()]
        (self.project / "erp-sandbox.toml").write_text("".join(lines))

    @contextmanager
    def with_settings(self, **other: Any) -> Iterator[None]:
        """Other settings for a while."""
        self.configure({**self.settings(), **other})
        try:
            yield
        finally:
            self.configure(self.settings())

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run something of the plugin's outside, in the project."""
        wide = {**os.environ, "COLUMNS": "400"}
        return subprocess.run(
            self.command(*command), cwd=self.project, capture_output=True, text=True, check=False, env=wide
        )

    def command(self, *command: str) -> list[str]:
        program, *arguments = command
        module = {"pytest": "import pytest; raise SystemExit(pytest.main())"}.get(
            program, "from pytest_erp_sandbox.command import main; main()"
        )
        return [sys.executable, "-W", "ignore", "-c", module, *arguments]

    def objects_of_prod(self) -> dict[str, str]:
        """Each object of prod's namespace, and the version that it has."""
        return {name: found["resourceVersion"] for name, found in self._objects(self.kubernetes.prod).items()}

    def objects_of_sandbox(self) -> dict[str, str]:
        """Each object of the sandbox's namespace, and the version that it has, but for what comes and goes by right.

        That is: the Jobs of these tests, and the pods of the ERP. Of its Deployment, which is scaled down and back, and
        of that one's ReplicaSet, the version is left out.
        """
        versions = {}
        for name, found in self._objects(self.kubernetes.sandbox).items():
            kind, labels = name.split()[0], found.get("labels", {})
            if kind == "Job" or "job-name" in labels or (kind == "Pod" and labels.get("app") == self.erp.name):
                continue
            versions[name] = "" if kind in ("Deployment", "ReplicaSet") else found["resourceVersion"]
        return versions

    def _objects(self, namespace: str) -> dict[str, Any]:
        """The metadata of each object of a namespace, by its kind and name."""
        return {
            f"{kind.kind} {found['metadata']['name']}": found["metadata"]
            for kind in self._kinds
            for found in kind.get(namespace=namespace).to_dict()["items"]
        }

    @cached_property
    def _kinds(self) -> list[Any]:
        """Whatever a namespace can have that can be listed, but for what changes though nobody does anything.

        That is: Events are made and expire, Leases are renewed by who holds them, and pods are measured all the time.
        """
        api = DynamicClient(  # type: ignore[no-untyped-call]
            self.kubernetes.cluster.core.api_client, cache_file=str(self.project / "kinds.json")
        )
        return [
            kind
            for kind in api.resources.search(namespaced=True)
            if type(kind) is Resource and "list" in kind.verbs and kind.kind not in ("Event", "Lease", "PodMetrics")
        ]

    def toolboxes(self) -> set[str]:
        """The names of all toolboxes that were started within the last hour: for so long a cluster keeps its Events."""
        found: Any = self.kubernetes.cluster.core.list_namespaced_event(self.kubernetes.sandbox)
        names = {each.involved_object.name for each in found.items if each.involved_object.kind == "Pod"}
        return {name for name in names if name.startswith("erp-sandbox-toolbox-")}

    def on_claim(self) -> list[str]:
        """The golden dumps on the claim."""
        return self.at_claim("ls", "/cache").split()

    def at_claim(self, *command: str) -> str:
        """What a command says in a pod that has the claim, at ``/cache``, and may write there."""
        pod = PodReference(self.kubernetes.sandbox, "looks-at-golden")
        return run_in_pod(self.kubernetes.cluster, pod, command, doing="looking")

    def job(self, name: str, *command: str) -> tuple[bool, str]:
        """Run a Job of deploy/, with this run's names and this machine's Python; whether it succeeded, and its log."""
        job = self.started_job(name, self.command(*command))
        batch = client.BatchV1Api(self.kubernetes.cluster.core.api_client)

        def status() -> Any:
            return batch.read_namespaced_job_status(job, self.kubernetes.sandbox).status

        until(lambda: bool(status().succeeded or status().failed), f"Job {job} has ended", patience=240)
        (pod,) = self.kubernetes.pods(self.kubernetes.sandbox, f"job-name={job}")
        log = str(self.kubernetes.cluster.core.read_namespaced_pod_log(pod, self.kubernetes.sandbox))
        return bool(status().succeeded), log

    def started_job(self, name: str, command: Sequence[str]) -> str:
        """Start such a Job; returns its name."""
        body = yaml.safe_load((DEPLOY / "jobs" / f"{name}.yaml").read_text(encoding="utf-8"))
        body["metadata"] = {"name": f"{name}-{os.urandom(3).hex()}"}
        spec = body["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        volumes, mounts = python_of_this_checkout()
        spec["volumes"] += [
            *volumes,
            {"name": "project", "hostPath": {"path": str(self.project)}},
            {"name": "account", "projected": {"sources": ACCOUNT}},
        ]
        container["volumeMounts"] += [
            *mounts,
            {"name": "project", "mountPath": "/project"},
            {"name": "account", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True},
        ]
        spec["automountServiceAccountToken"] = False
        # This machine's Python is root's alone; and there is neither a Service nor a DNS here.
        spec["securityContext"] = {"runAsUser": 0}
        del container["securityContext"]  # without capabilities, root may not write what others own
        spec["hostNetwork"] = True
        container |= {"image": IMAGE, "imagePullPolicy": "Never", "command": list(command)}
        container["env"] = [
            json.loads(json.dumps(each).replace("erp/", f"{self.kubernetes.prod}/").replace("erp-sandbox/erp", "@/erp")
                       .replace("@", self.kubernetes.sandbox))
            for each in container["env"]
        ]  # fmt: skip
        values = {
            "ERP_SANDBOX_PROD__NAMESPACE": self.kubernetes.prod,
            "ERP_SANDBOX_SANDBOX__NAMESPACE": self.kubernetes.sandbox,
            "ERP_SANDBOX_SANDBOX__ERP__URL": self.erp_url,
        }
        for each in container["env"]:
            each.update({"value": values[each["name"]]} if each["name"] in values else {})
        server = urlsplit(self.kubernetes.cluster.core.api_client.configuration.host)
        more = {
            "KUBERNETES_SERVICE_HOST": str(server.hostname),
            "KUBERNETES_SERVICE_PORT": str(server.port or 443),
            "HOME": "/tmp",
            "PYTHONPATH": str(REPOSITORY),
            "ERP_SANDBOX_AGENT__RIGHTS": json.dumps(RIGHTS),
            "ERP_SANDBOX_AGENT__COMMAND": json.dumps(AGENT),
            "ERP_SANDBOX_JOURNAL": "true",
        }
        container["env"] += [{"name": key, "value": value} for key, value in more.items()]
        client.BatchV1Api(self.kubernetes.cluster.core.api_client).create_namespaced_job(self.kubernetes.sandbox, body)
        return str(body["metadata"]["name"])


def pod_ip(kubernetes: Kubernetes, workload: Workload) -> str:
    pod: Any = kubernetes.cluster.core.read_namespaced_pod(ready_pod(kubernetes.cluster, workload), workload.namespace)
    return str(pod.status.pod_ip)


def database_secret(dsn: SecretStr, host: str, namespace: str) -> dict[str, str]:
    parts = conninfo_to_dict(dsn.get_secret_value())
    return {
        "username": str(parts["user"]),
        "password": str(parts["password"]),
        "host": host,
        "service": f"postgres.{namespace}.svc",
        "short": "postgres",
        "port": "5432",
        "dbname": str(parts["dbname"]),
    }


@contextmanager
def running_town(kubernetes: Kubernetes, deploy: Callable[[Kubernetes], None]) -> Iterator[Town]:
    """Build a town, and have it until the end.

    Args:
        kubernetes: where; its namespaces are the town's alone.
        deploy: applies ``deploy/kubernetes``, and binds its Roles to the sandbox's service account ``somebody``.
    """
    with ExitStack() as stack:
        kubernetes.account_named("somebody")
        deploy(kubernetes)
        databases = [
            kubernetes.postgres(namespace, "postgres", {"postgres": "admin"}, kind="StatefulSet")
            for namespace in (kubernetes.prod, kubernetes.sandbox)
        ]
        servers: list[Any] = [
            ServerInPod("127.0.0.1", stack.enter_context(forwarded(kubernetes.cluster, each, 5432)))
            for each in databases
        ]
        estate = build_estate(*servers)
        (place,) = estate.sandboxes
        hosts = [pod_ip(kubernetes, each) for each in databases]
        kubernetes.secret(kubernetes.prod, "erp-dump", database_secret(estate.prod_dsn, hosts[0], kubernetes.prod))
        unique_id = {"instance-unique-id": place.unique_id.get_secret_value()}
        of_sandbox = database_secret(place.dsn, hosts[1], kubernetes.sandbox)
        kubernetes.secret(kubernetes.sandbox, "erp-sandbox-db", {**of_sandbox, **unique_id})
        authority: Any = {"metadata": {"name": AUTHORITY}, "data": {"ca.crt": _authority(kubernetes)}}
        kubernetes.cluster.core.create_namespaced_config_map(kubernetes.sandbox, authority)
        project = Path(tempfile.mkdtemp(prefix="erp-sandbox-town-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, project)
        shutil.copytree(REPOSITORY / "features", project / "features", ignore=shutil.ignore_patterns("__pycache__"))
        erp_port = _free_port()
        erp = _erps(kubernetes, place.dsn, hosts[1], place.unique_id, erp_port)
        town = Town(kubernetes, estate, erp, f"http://127.0.0.1:{erp_port}", project)
        town.kubeconfig.write_text(kubernetes.kubeconfig_of("somebody"))
        _prepare_golden(kubernetes)
        yield town


def _free_port() -> int:
    """A port of this machine, on whose network the ERP's pod is; none that others' connections take meanwhile."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", 20_000 + secrets.randbelow(10_000))) as listening:
            return int(listening.getsockname()[1])


def _authority(kubernetes: Kubernetes) -> str:
    """The certificate that the API server's is signed with; its own word for it where the kubeconfig verifies none."""
    configuration = kubernetes.cluster.core.api_client.configuration
    if configuration.ssl_ca_cert:
        return Path(configuration.ssl_ca_cert).read_text(encoding="ascii")
    server = urlsplit(configuration.host)
    said = subprocess.run(
        ["/usr/bin/openssl", "s_client", "-showcerts", "-connect", f"{server.hostname}:{server.port or 443}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    *_, last = re.findall("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", said, flags=re.DOTALL)
    return str(last)


def _erps(kubernetes: Kubernetes, dsn: SecretStr, host: str, unique_id: SecretStr, port: int) -> Workload:
    volumes, mounts = python_of_this_checkout()
    sandbox_dsn = make_conninfo(dsn.get_secret_value(), host=host, port=5432)
    for namespace, command, network in (
        (kubernetes.prod, ["sleep", "infinity"], False),
        (kubernetes.sandbox, [sys.executable, "-c", ERP], True),
    ):
        claim: Any = {
            "metadata": {"name": "documents"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        kubernetes.cluster.core.create_namespaced_persistent_volume_claim(namespace, claim)
        container: Any = {
            "name": "dolibarr",
            "image": IMAGE,
            "command": command,
            "env": [
                {"name": "DSN", "value": sandbox_dsn},
                {"name": "UNIQUE_ID", "value": unique_id.get_secret_value()},
                {"name": "PORT", "value": str(port)},
                {"name": "PYTHONPATH", "value": str(REPOSITORY)},
            ],
            "volumeMounts": [*mounts, {"name": "documents", "mountPath": "/var/www/documents"}],
        }
        if network:
            container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        spec = {
            "hostNetwork": network,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [*volumes, {"name": "documents", "persistentVolumeClaim": {"claimName": "documents"}}],
        }
        body: Any = {
            "metadata": {"name": "dolibarr"},
            "spec": {
                "selector": {"matchLabels": {"app": "dolibarr"}},
                "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": {"app": "dolibarr"}}, "spec": spec},
            },
        }
        kubernetes.cluster.apps.create_namespaced_deployment(namespace, body)
        await_ready(kubernetes.cluster, Workload("Deployment", namespace, "dolibarr"), SOON)
    prod = PodReference(
        kubernetes.prod, ready_pod(kubernetes.cluster, Workload("Deployment", kubernetes.prod, "dolibarr"))
    )
    script = "mkdir -p /var/www/documents/mycompany/logos && echo logo >/var/www/documents/mycompany/logos/logo.png"
    run_in_pod(kubernetes.cluster, prod, ["sh", "-c", script], doing="making documents")
    return Workload("Deployment", kubernetes.sandbox, "dolibarr")


def _prepare_golden(kubernetes: Kubernetes) -> None:
    volume = {"name": "cache", "persistentVolumeClaim": {"claimName": "erp-golden"}}
    mounts = [{"name": "cache", "mountPath": "/cache"}]
    pod = kubernetes.pod(kubernetes.sandbox, "looks-at-golden", volumes=[volume], volumeMounts=mounts)
    run_in_pod(kubernetes.cluster, PodReference(kubernetes.sandbox, pod), ["chmod", "777", "/cache"], doing="preparing")


@contextmanager
def small_claim(kubernetes: Kubernetes, folder: Path, *, megabytes: int) -> Iterator[str]:
    """A claim on a volume that is as small as that."""
    core: Any = kubernetes.cluster.core
    name, size = f"small-{secrets.token_hex(3)}", {"storage": f"{megabytes}Mi"}
    volume: Any = {
        "metadata": {"name": name},
        "spec": {
            "capacity": size,
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": str(folder)},
        },
    }
    spec: Any = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": size},
        "storageClassName": "",
        "volumeName": name,
    }
    folder.mkdir()
    options = f"size={megabytes}m,mode=0777"
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, name, folder], check=True)
    try:
        core.create_persistent_volume(volume)
        core.create_namespaced_persistent_volume_claim(kubernetes.sandbox, {"metadata": {"name": name}, "spec": spec})
        yield name
    finally:
        core.delete_namespaced_persistent_volume_claim(name, kubernetes.sandbox)
        core.delete_persistent_volume(name)
        subprocess.run(["/bin/umount", "--lazy", folder], check=True)


def in_documents(town: Town, script: str) -> str:
    """Run a script in the sandbox's documents."""
    pod = PodReference(town.kubernetes.sandbox, ready_pod(town.kubernetes.cluster, town.erp))
    command = ["sh", "-c", f"cd /var/www/documents/mycompany && {script}"]
    return run_in_pod(town.kubernetes.cluster, pod, command, doing="looking")
