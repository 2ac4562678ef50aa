"""A port-forward to a database in the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster.forward import forwarded
from pytest_erp_sandbox.cluster.workload import Workload, await_ready, ready_pod

from .kubernetes import Kubernetes, until
from .test_workload import SOON


@pytest.fixture(scope="module")
def database(kubernetes: Kubernetes) -> Workload:
    return kubernetes.postgres(kubernetes.sandbox, "forwarded", {"postgres": "geheim"})


@pytest.fixture(scope="module")
def port(kubernetes: Kubernetes, database: Workload) -> Iterator[int]:
    with forwarded(kubernetes.cluster, database, 5432) as local:
        yield local


def connect(port: int) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host="127.0.0.1", port=port, user="postgres", password="geheim", dbname="postgres", connect_timeout=10
    )


def test_a_database_in_the_cluster_answers_behind_a_local_port(port: int) -> None:
    with connect(port) as connection:
        assert connection.execute("SELECT 1 + 1").fetchone() == (2,)


def test_much_passes_in_both_directions(port: int) -> None:
    text = "x" * 5_000_000
    with connect(port) as connection:
        assert connection.execute("SELECT %s", [text]).fetchone() == (text,)


def test_several_connections_at_once(port: int) -> None:
    def ask(number: int) -> object:
        with connect(port) as connection:
            return connection.execute("SELECT pg_sleep(0.2), %s::int", [number]).fetchall()[0][1]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == list(range(8))


def test_after_the_pod_was_replaced_new_connections_reach_the_new_one(
    kubernetes: Kubernetes, database: Workload, port: int
) -> None:
    old = ready_pod(kubernetes.cluster, database)
    kubernetes.cluster.core.delete_namespaced_pod(old, kubernetes.sandbox, grace_period_seconds=0)

    # The Deployment's status lags behind: for a while the old pod counts as ready.
    def is_replaced() -> bool:
        try:
            return ready_pod(kubernetes.cluster, database) != old
        except ClusterError:
            return False

    until(is_replaced, "another pod is ready")
    with connect(port) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_afterwards_nobody_listens(kubernetes: Kubernetes, database: Workload) -> None:
    with forwarded(kubernetes.cluster, database, 5432) as local:
        connect(local).close()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(local)


def test_without_a_ready_pod_it_is_said_at_once(kubernetes: Kubernetes) -> None:
    nobody = kubernetes.workload(kubernetes.sandbox, "nobody", replicas=0)
    with pytest.raises(ClusterError, match="has no pod that is ready"), forwarded(kubernetes.cluster, nobody, 5432):
        pytest.fail("there is no pod")


def test_why_a_connection_could_not_be_led_on_is_told(kubernetes: Kubernetes) -> None:
    workload, told = kubernetes.workload(kubernetes.sandbox, "leaves"), list[str]()
    await_ready(kubernetes.cluster, workload, SOON)
    with forwarded(kubernetes.cluster, workload, 5432, told.append) as local:
        kubernetes.cluster.apps.patch_namespaced_deployment_scale(
            "leaves", kubernetes.sandbox, {"spec": {"replicas": 0}}
        )
        until(lambda: kubernetes.pods(kubernetes.sandbox, "app=leaves") == [], "its pod is gone")
        with pytest.raises(psycopg.OperationalError):
            connect(local)
    assert "has no pod that is ready" in told[0]
