"""A prod and a sandbox in a cluster, rehearsed on from outside with a kubeconfig, and from inside as Jobs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from pytest_erp_sandbox.cluster.exec import PodReference, run_in_pod
from pytest_erp_sandbox.cluster.forward import forwarded
from pytest_erp_sandbox.cluster.workload import Workload, await_ready, ready_pod
from pytest_erp_sandbox.demo.estate import Estate, build_estate

from ..estates import toml
from .kubernetes import DEPLOY, IMAGE, KUBECONFIG, Kubernetes, running_kubernetes, until
from .test_workload import SOON, state

pytestmark = pytest.mark.skipif(
    bool(KUBECONFIG) and not IMAGE.startswith("local/"),
    reason="the pods of this test run this checkout's Python: their node must be this machine",
)

REPOSITORY = Path(__file__).parents[2]
ERP_PORT = 18081
RIGHTS = ["societe.*", "produit.lire", "facture.lire", "facture.creer", "facture.invoice_advance.validate"]

ERP = """
import os, signal
from pydantic import SecretStr
from pytest_erp_sandbox.demo import erp
erp.HOST = "0.0.0.0"
erp.Erp(SecretStr(os.environ["DSN"]), SecretStr(os.environ["UNIQUE_ID"]), int(os.environ["PORT"])).start()
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
    project: Path

    def settings(self) -> dict[str, Any]:
        """Those of somebody outside of the cluster."""
        prod, sandbox = self.kubernetes.prod, self.kubernetes.sandbox
        return {
            "journal": True,
            "prod": {
                "namespace": prod,
                "secret": f"{prod}/erp-dump",
                "forward": "deployment/postgres",
                "documents": {"workload": "dolibarr"},
            },
            "sandbox": {
                "namespace": sandbox,
                "secret": f"{sandbox}/erp-sandbox-db",
                "forward": "deployment/postgres",
                "documents": {},
                "erp": {
                    "url": f"http://127.0.0.1:{ERP_PORT}",
                    "workload": "deployment/dolibarr",
                    "instance-unique-id": self.estate.sandboxes[0].unique_id,
                },
            },
            "cluster": {"kubeconfig": KUBECONFIG},
            "golden": {"path": self.project / "golden", "claim": "erp-golden", "image": IMAGE},
            "agent": {"rights": RIGHTS},
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run something of the plugin's outside, in the project."""
        return subprocess.run(self.command(*command), cwd=self.project, capture_output=True, text=True, check=False)

    def command(self, *command: str) -> list[str]:
        program, *arguments = command
        module = {"pytest": "import pytest; raise SystemExit(pytest.main())"}.get(
            program, "from pytest_erp_sandbox.command import main; main()"
        )
        return [sys.executable, "-W", "ignore", "-c", module, *arguments]

    def objects_of_prod(self) -> dict[str, str]:
        """Each object of prod's namespace, and the version that it has."""
        core, apps = self.kubernetes.cluster.core, self.kubernetes.cluster.apps
        rbac = client.RbacAuthorizationV1Api(core.api_client)
        lists: list[Any] = [
            core.list_namespaced_pod,
            core.list_namespaced_secret,
            core.list_namespaced_config_map,
            core.list_namespaced_persistent_volume_claim,
            core.list_namespaced_service_account,
            apps.list_namespaced_deployment,
            apps.list_namespaced_replica_set,
            rbac.list_namespaced_role,
            rbac.list_namespaced_role_binding,
        ]
        return {
            f"{each.__name__} {found.metadata.name}": found.metadata.resource_version
            for each in lists
            for found in each(self.kubernetes.prod).items
        }

    def objects_of_sandbox(self) -> list[str]:
        """What is in the sandbox's namespace, but for the pods of the ERP, which come and go."""
        core = self.kubernetes.cluster.core
        found: list[Any] = [
            *core.list_namespaced_secret(self.kubernetes.sandbox).items,
            *core.list_namespaced_pod(self.kubernetes.sandbox, label_selector="app!=dolibarr").items,
            *core.list_namespaced_persistent_volume_claim(self.kubernetes.sandbox).items,
        ]
        return sorted(each.metadata.name for each in found if "job-name" not in (each.metadata.labels or {}))

    def on_claim(self) -> list[str]:
        """The golden dumps on the claim."""
        pod = PodReference(self.kubernetes.sandbox, "looks-at-golden")
        return run_in_pod(self.kubernetes.cluster, pod, ["ls", "/cache"], doing="looking").split()

    def job(self, name: str, *command: str) -> tuple[bool, str]:
        """Run a Job of deploy/, with this run's names and this machine's Python; whether it succeeded, and its log."""
        body = yaml.safe_load((DEPLOY / "jobs" / f"{name}.yaml").read_text(encoding="utf-8"))
        body["metadata"] = {"name": f"{name}-{os.urandom(3).hex()}"}
        spec = body["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        volumes, mounts = python_of_this_checkout()
        spec["volumes"] += [
            *volumes,
            {"name": "project", "hostPath": {"path": str(self.project)}},
            {"name": "kubeconfig", "secret": {"secretName": "kubeconfig"}},
        ]
        container["volumeMounts"] += [
            *mounts,
            {"name": "project", "mountPath": "/project"},
            {"name": "kubeconfig", "mountPath": "/kubeconfig"},
        ]
        # This machine's Python is root's alone; and there is neither a Service nor a DNS here.
        spec["securityContext"] = {"runAsUser": 0}
        del container["securityContext"]  # without capabilities, root may not write what others own
        spec["hostNetwork"] = True
        container |= {"image": IMAGE, "imagePullPolicy": "Never", "command": self.command(*command)}
        container["env"] = [
            json.loads(json.dumps(each).replace("erp/", f"{self.kubernetes.prod}/").replace("erp-sandbox/erp", "@/erp")
                       .replace("@", self.kubernetes.sandbox))
            for each in container["env"]
        ]  # fmt: skip
        values = {
            "ERP_SANDBOX_PROD__NAMESPACE": self.kubernetes.prod,
            "ERP_SANDBOX_SANDBOX__NAMESPACE": self.kubernetes.sandbox,
            "ERP_SANDBOX_SANDBOX__ERP__URL": f"http://127.0.0.1:{ERP_PORT}",
        }
        for each in container["env"]:
            each.update({"value": values[each["name"]]} if each["name"] in values else {})
        more = {
            "KUBECONFIG": "/kubeconfig/config",
            "ERP_SANDBOX_AGENT__RIGHTS": json.dumps(RIGHTS),
            "ERP_SANDBOX_JOURNAL": "true",
        }
        container["env"] += [{"name": key, "value": value} for key, value in more.items()]
        batch = client.BatchV1Api(self.kubernetes.cluster.core.api_client)
        job = body["metadata"]["name"]
        batch.create_namespaced_job(self.kubernetes.sandbox, body)

        def status() -> Any:
            return batch.read_namespaced_job_status(job, self.kubernetes.sandbox).status

        until(lambda: bool(status().succeeded or status().failed), f"Job {job} has ended", patience=240)
        (pod,) = self.kubernetes.pods(self.kubernetes.sandbox, f"job-name={job}")
        log = str(self.kubernetes.cluster.core.read_namespaced_pod_log(pod, self.kubernetes.sandbox))
        return bool(status().succeeded), log


def pod_ip(kubernetes: Kubernetes, workload: Workload) -> str:
    pod: Any = kubernetes.cluster.core.read_namespaced_pod(ready_pod(kubernetes.cluster, workload), workload.namespace)
    return str(pod.status.pod_ip)


def database_secret(dsn: SecretStr, host: str) -> dict[str, str]:
    parts = conninfo_to_dict(dsn.get_secret_value())
    return {
        "username": str(parts["user"]),
        "password": str(parts["password"]),
        "host": host,
        "port": "5432",
        "dbname": str(parts["dbname"]),
    }


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with ExitStack() as stack:
        kubernetes = stack.enter_context(running_kubernetes())
        kubernetes.deploy("accounts", "golden", "refresh", "documents", "rehearse")
        databases = [
            kubernetes.postgres(namespace, "postgres", {"postgres": "admin"})
            for namespace in (kubernetes.prod, kubernetes.sandbox)
        ]
        servers: list[Any] = [
            ServerInPod("127.0.0.1", stack.enter_context(forwarded(kubernetes.cluster, each, 5432)))
            for each in databases
        ]
        estate = build_estate(*servers)
        (place,) = estate.sandboxes
        hosts = [pod_ip(kubernetes, each) for each in databases]
        kubernetes.secret(kubernetes.prod, "erp-dump", database_secret(estate.prod_dsn, hosts[0]))
        unique_id = {"instance-unique-id": place.unique_id.get_secret_value()}
        kubernetes.secret(kubernetes.sandbox, "erp-sandbox-db", {**database_secret(place.dsn, hosts[1]), **unique_id})
        kubernetes.secret(kubernetes.sandbox, "kubeconfig", {"config": _kubeconfig_of_a_pod()})
        project = Path(tempfile.mkdtemp(prefix="erp-sandbox-town-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, project)
        shutil.copytree(REPOSITORY / "features", project / "features", ignore=shutil.ignore_patterns("__pycache__"))
        town = Town(kubernetes, estate, _erps(kubernetes, place.dsn, hosts[1], place.unique_id), project)
        _prepare_golden(kubernetes)
        yield town


def _kubeconfig_of_a_pod() -> str:
    """The pod's own service account, by a way to the API server that is there without Services."""
    content = yaml.safe_load(Path(KUBECONFIG).read_text(encoding="utf-8"))
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    content["users"] = [{"name": user["name"], "user": {"tokenFile": token}} for user in content["users"]]
    return str(yaml.safe_dump(content))


def _erps(kubernetes: Kubernetes, dsn: SecretStr, host: str, unique_id: SecretStr) -> Workload:
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
                {"name": "PORT", "value": str(ERP_PORT)},
            ],
            "volumeMounts": [*mounts, {"name": "documents", "mountPath": "/var/www/documents"}],
        }
        if network:
            container["readinessProbe"] = {"tcpSocket": {"port": ERP_PORT}, "periodSeconds": 1}
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


@pytest.fixture
def outside(town: Town) -> Town:
    """The town, with the settings of somebody outside."""
    lines = [f"{key} = {toml(value)}\n" for key, value in town.settings().items()]
    (town.project / "erp-sandbox.toml").write_text("".join(lines))
    return town


@pytest.fixture
def inside(town: Town) -> Town:
    """The town, with no settings in the project: a Job's variables have them."""
    (town.project / "erp-sandbox.toml").unlink(missing_ok=True)
    return town


def logo_of_sandbox(town: Town) -> str:
    pod = PodReference(town.kubernetes.sandbox, ready_pod(town.kubernetes.cluster, town.erp))
    return run_in_pod(
        town.kubernetes.cluster, pod, ["cat", "/var/www/documents/mycompany/logos/logo.png"], doing="looking"
    )


def test_from_outside_the_features_are_green_and_prod_is_as_it_was(outside: Town) -> None:
    prod, sandbox = outside.objects_of_prod(), outside.objects_of_sandbox()
    done = outside.run("pytest", "--erp-sandbox-reset=scenario", "features", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert state(outside.kubernetes, outside.erp) == (1, None)
    (golden,) = [path.name for path in (outside.project / "golden").glob("2*")]
    assert golden in outside.on_claim()
    assert outside.objects_of_prod() == prod
    until(lambda: outside.objects_of_sandbox() == sandbox, "the sandbox's namespace is as it was, without a toolbox")
    password = str(conninfo_to_dict(outside.estate.prod_dsn.get_secret_value())["password"])
    assert password not in done.stdout + done.stderr


def test_from_outside_documents_are_adopted_and_synced(outside: Town) -> None:
    done = outside.run("erp-sandbox", "sync-documents")
    assert (done.returncode, "no marker" in done.stderr) == (1, True), done.stderr
    assert outside.run("erp-sandbox", "adopt", "--yes").returncode == 0
    done = outside.run("erp-sandbox", "sync-documents")
    assert done.returncode == 0, done.stderr
    assert logo_of_sandbox(outside) == "logo\n"


def test_a_refresh_that_is_killed_leaves_an_erp_that_recover_scales_back(outside: Town) -> None:
    process = subprocess.Popen(
        outside.command("erp-sandbox", "refresh-from-prod"),
        cwd=outside.project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until(lambda: state(outside.kubernetes, outside.erp) == (0, "1"), "the ERP is scaled down")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = outside.run("erp-sandbox", "recover")
    assert (done.returncode, "scaled to 1 again" in done.stdout) == (0, True), done.stdout + done.stderr
    assert state(outside.kubernetes, outside.erp) == (1, None)
    assert "nothing to recover" in outside.run("erp-sandbox", "recover").stdout


def test_inside_the_features_are_green_through_the_claim(inside: Town) -> None:
    succeeded, log = inside.job(
        "refresh", "pytest", "--erp-sandbox-reset=scenario", "features", "-p", "no:cacheprovider"
    )
    assert succeeded, log
    assert inside.on_claim()
    assert state(inside.kubernetes, inside.erp) == (1, None)


def test_inside_the_refresh_job_copies_prod_and_its_documents(inside: Town) -> None:
    succeeded, log = inside.job("refresh", "erp-sandbox", "refresh")
    assert succeeded, log
    assert "golden dump" in log
    assert "has prod's documents" in log
    assert state(inside.kubernetes, inside.erp) == (1, None)


def test_inside_the_rehearsal_is_green_without_any_of_prods_credentials(inside: Town) -> None:
    succeeded, log = inside.job(
        "rehearse", "pytest", "--erp-sandbox-reset=scenario", "features", "-k", "not prod", "-p", "no:cacheprovider"
    )
    assert succeeded, log
    assert inside.kubernetes.prod not in log
