"""Reaching what the settings name, without the rights for it."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox import ClusterError, NotASandboxError
from pytest_erp_sandbox.cluster.api import PodReference
from pytest_erp_sandbox.cluster.exec import run_in_pod
from pytest_erp_sandbox.cluster.workload import Workload, ready_pod
from pytest_erp_sandbox.postgres.connection import ProdDatabase
from pytest_erp_sandbox.preflight import Finding, Status, preflight
from pytest_erp_sandbox.preflight.access import access_findings
from pytest_erp_sandbox.preflight.invariants import prod_asks_for_a_password
from pytest_erp_sandbox.preflight.sides import ProdSide
from pytest_erp_sandbox.progress import Progress
from pytest_erp_sandbox.reach import golden_claim, lacking_rules, reached
from pytest_erp_sandbox.settings import ProdSettings, SandboxSettings, Settings

from .kubernetes import IMAGE, KUBECONFIG, Kubernetes, until
from .town import needs_this_machine, pod_ip

NO_SANDBOX: Any = None
"""Nobody asks about sandboxes where there are none."""


@pytest.fixture
def settings(kubernetes: Kubernetes, tmp_path: Path) -> Settings:
    """Those of an account that has no rights."""
    kubernetes.account_named("nobody")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubernetes.kubeconfig_of("nobody"))
    return Settings.model_validate(
        {
            "prod": {"namespace": kubernetes.prod, "secret": f"{kubernetes.prod}/erp-dump"},
            "sandbox": {
                "namespace": kubernetes.sandbox,
                "role": "erp_sandbox_role",
                "secret": f"{kubernetes.sandbox}/erp-sandbox-db",
                "forward": "statefulset/postgres",
            },
            "golden": {"claim": "erp-golden", "image": IMAGE},
            "cluster": {"kubeconfig": kubeconfig},
        }
    )


def test_every_right_that_lacks_is_named_with_its_rule_before_preflight_can(settings: Settings) -> None:
    with pytest.raises(ClusterError) as refused, reached(settings):
        pytest.fail("nothing may be read")
    said = str(refused.value)
    for rule in (
        '{apiGroups: [""], resources: ["secrets"], resourceNames: ["erp-dump"], verbs: ["get"]}',
        '{apiGroups: [""], resources: ["secrets"], resourceNames: ["erp-sandbox-db"], verbs: ["get"]}',
        '{apiGroups: [""], resources: ["pods/portforward"], verbs: ["create"]}',
        '{apiGroups: [""], resources: ["persistentvolumeclaims"], resourceNames: ["erp-golden"], verbs: ["get"]}',
    ):
        assert rule in said


def test_prod_is_left_alone_where_it_is_not_needed(kubernetes: Kubernetes, settings: Settings) -> None:
    with pytest.raises(ClusterError, match="erp-sandbox-db"), reached(settings, but_for_prod=True):
        pytest.fail("nothing may be read")


def test_no_toolbox_is_started_in_prods_namespace(kubernetes: Kubernetes, settings: Settings) -> None:
    assert settings.sandbox is not None
    there = settings.sandbox.model_copy(update={"namespace": kubernetes.prod})
    with (
        pytest.raises(NotASandboxError, match="is in prod's namespace, where nothing is ever started"),
        golden_claim(settings.model_copy(update={"sandbox": there}), Progress()),
    ):
        pytest.fail("there is no toolbox")


@pytest.fixture(scope="module")
def database(kubernetes: Kubernetes) -> str:
    """The address of a database in the cluster, which is known to this machine."""
    return pod_ip(kubernetes, kubernetes.postgres(kubernetes.sandbox, "answers", {"postgres": "geheim"}))


def with_host(kubernetes: Kubernetes, settings: Settings, host: str, port: int = 5432) -> SandboxSettings:
    """A sandbox whose Secret has that address."""
    assert settings.sandbox is not None
    name = f"at-{secrets.token_hex(3)}"
    login = {"username": "postgres", "password": "geheim", "dbname": "postgres"}
    kubernetes.secret(kubernetes.sandbox, name, {**login, "host": host, "port": str(port)})
    place = {"secret": f"{kubernetes.sandbox}/{name}", "forward": "deployment/answers"}
    return settings.sandbox.model_copy(update=place)


def as_administrator(settings: Settings, sandbox: SandboxSettings) -> Settings:
    cluster = settings.cluster.model_copy(update={"kubeconfig": Path(KUBECONFIG)})
    return settings.model_copy(update={"cluster": cluster, "sandbox": sandbox})


@needs_this_machine
def test_a_database_that_answers_is_spoken_with_directly_and_no_right_to_forward_is_asked_for(
    kubernetes: Kubernetes, settings: Settings, database: str
) -> None:
    there = as_administrator(settings, with_host(kubernetes, settings, database))
    with reached(there, but_for_prod=True) as ready:
        (place,) = ready.all_sandboxes
        assert str(place.database()) == f"'postgres' at {database}:5432"
        with place.database().connect() as connection:
            assert connection.info.host == database
        nobodys = ready.model_copy(update={"cluster": settings.cluster})
        assert not any("portforward" in rule.resource for rule in lacking_rules(nobodys))


def test_a_database_that_does_not_answer_is_reached_by_a_port_forward(
    kubernetes: Kubernetes, settings: Settings, database: str
) -> None:
    there = as_administrator(settings, with_host(kubernetes, settings, "answers.nowhere.svc"))
    with reached(there, but_for_prod=True) as ready:
        (place,) = ready.all_sandboxes
        with place.database().connect() as connection:
            assert connection.info.hostaddr == "127.0.0.1"
            # As certificates have it, and lines of passfiles.
            assert connection.info.host == "answers.nowhere.svc"
        assert str(place.database()) == f"'postgres' at Deployment {kubernetes.sandbox}/answers"
        nobodys = ready.model_copy(update={"cluster": settings.cluster})
        assert any("portforward" in rule.resource for rule in lacking_rules(nobodys))


def test_a_server_on_this_machine_is_not_taken_for_the_one_in_the_cluster(
    kubernetes: Kubernetes, settings: Settings, database: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        there = as_administrator(settings, with_host(kubernetes, settings, "localhost", port))
        with reached(there, but_for_prod=True) as ready:
            (place,) = ready.all_sandboxes
            with place.database().connect() as connection:
                assert connection.info.port != port


def test_a_prod_that_lets_port_forwards_in_without_a_password_is_warned_of(
    kubernetes: Kubernetes, settings: Settings, database: str
) -> None:
    there = as_administrator(settings, with_host(kubernetes, settings, "answers.nowhere.svc"))
    pod = PodReference(
        kubernetes.sandbox, ready_pod(kubernetes.cluster, Workload("Deployment", kubernetes.sandbox, "answers"))
    )

    def in_pg_hba(old: str, new: str) -> None:
        change = f"sed -i '/127/s/{old}/{new}/' /data/pg_hba.conf && kill -HUP $(head -n 1 /data/postmaster.pid)"
        run_in_pod(kubernetes.cluster, pod, ["sh", "-c", change], doing="the test")

    with reached(there, but_for_prod=True) as ready:
        dsn = ready.all_sandboxes[0].database().dsn
        truth = ProdDatabase(dsn, "prod.dsn", at="deployment/answers", address=("answers.nowhere.svc", "5432"))

        def asked() -> Finding:
            with ProdSide(truth) as prod:
                prod.reach()
                return prod_asks_for_a_password(prod)

        assert asked().status is Status.OK
        in_pg_hba("scram-sha-256", "trust")
        try:
            until(lambda: asked().status is Status.WARNING, "nobody is asked for a password")
            assert "superuser" in asked().detail
            report = preflight(
                truth, [], require_read_only_role=False, clients_for=NO_SANDBOX, is_quarantined=NO_SANDBOX
            )
            assert "asks for a password" in [finding.invariant for finding in report.findings]
        finally:
            in_pg_hba("trust", "scram-sha-256")


def test_where_prods_namespace_is_not_said_it_is_warned_of_or_refused_when_that_is_strict(settings: Settings) -> None:
    prod = ProdSettings(dsn=SecretStr("host=erp.example.org dbname=erp"))

    def found(**update: object) -> list[Status]:
        findings = access_findings(settings.model_copy(update={"prod": prod, **update}))
        return [finding.status for finding in findings if finding.invariant == "knows prod's namespace"]

    assert found() == [Status.WARNING]
    assert found(strict=True) == [Status.FAILURE]
    assert found(refresh="never") == []
    assert found(prod=prod.model_copy(update={"namespace": "erp"})) == []
    assert found(prod=prod.model_copy(update={"secret": "erp/erp-dump"})) == []
