"""Prod's dump, made by the toolbox's pg_dump."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import threading
from base64 import b64decode
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from pytest_erp_sandbox import ClusterError, PostgresError
from pytest_erp_sandbox.cluster.dumping import PgDumpInToolbox, pg_dump_in_toolbox
from pytest_erp_sandbox.cluster.toolbox import CACHE, Toolbox, ToolboxFolder, ToolboxImage, toolbox
from pytest_erp_sandbox.postgres.clients import Toolset
from pytest_erp_sandbox.postgres.connection import ProdDatabase
from pytest_erp_sandbox.postgres.dump import PgDumpHere, dump_prod

from .kubernetes import BUSYBOX, Kubernetes, until
from .town import needs_this_machine, pod_ip

# Pods' addresses are used from here.
pytestmark = needs_this_machine

PASSWORD = "geheim 'und' \"lang\" \\ $HOME %s"
PATIENCE = timedelta(seconds=60)


@pytest.fixture(scope="module")
def host(kubernetes: Kubernetes) -> str:
    return pod_ip(kubernetes, kubernetes.postgres(kubernetes.prod, "dumped", {"postgres": "admin"}))


@pytest.fixture(scope="module")
def login() -> Mapping[str, SecretStr]:
    return {"PGUSER": SecretStr("dump"), "PGPASSWORD": SecretStr(PASSWORD)}


@pytest.fixture(scope="module")
def prod(host: str) -> ProdDatabase:
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE erp")
        admin.execute(sql.SQL("CREATE ROLE dump LOGIN PASSWORD {} IN ROLE pg_read_all_data").format(PASSWORD))
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=erp", autocommit=True) as admin:
        admin.execute("CREATE TABLE llx_societe (rowid serial PRIMARY KEY, nom text)")
        admin.execute("INSERT INTO llx_societe (nom) SELECT 'Société ' || n FROM generate_series(1, 50000) n")
    return at(host)


def at(host: str, **address: Any) -> ProdDatabase:
    dsn = make_conninfo(host=host, dbname="erp", user="dump", password=PASSWORD)
    return ProdDatabase(SecretStr(dsn), "prod.dsn", **address)


@pytest.fixture
def in_toolbox(folder: ToolboxFolder, prod: ProdDatabase, programs: Toolset) -> PgDumpInToolbox:
    return found(folder, prod, programs.major)


def found(folder: ToolboxFolder, prod: ProdDatabase, major: int, *, at_most: int | None = None) -> PgDumpInToolbox:
    with prod.connect() as connection:
        return pg_dump_in_toolbox(folder, prod, connection, at_least=major, at_most=at_most or major)


def dump(prod: ProdDatabase, to: Path, pg_dump: PgDumpInToolbox | PgDumpHere, **limits: timedelta) -> list[int]:
    """Dump prod; returns the numbers of tables that were told as done."""
    told = list[int]()
    waits: Any = {"lock_wait_timeout": PATIENCE, "timeout": PATIENCE, **limits}
    dump_prod(prod, to, pg_dump, jobs=2, on_progress=lambda done, _: told.append(done), **waits)
    if isinstance(pg_dump, PgDumpInToolbox):
        brought = list[int]()
        pg_dump.fetch(to, lambda done, _: brought.append(done))
        assert brought[-1] == len(list(to.iterdir()))
    return told


def script(programs: Toolset, archive: Path) -> str:
    """The SQL of a dump, but for what names the dump itself."""
    command: list[str | Path] = [programs.program("pg_restore"), "-f", "-", archive]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(un)?restrict .*\n", "", said, flags=re.MULTILINE)


def has_session(host: str) -> bool:
    """Whether pg_dump is connected; asked in a session of its own: a transaction goes on seeing the same ones."""
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=erp") as admin:
        return admin.execute("SELECT FROM pg_stat_activity WHERE usename = 'dump'").rowcount > 0


def test_it_gives_the_very_dump_that_one_here_would(
    box: Toolbox, prod: ProdDatabase, programs: Toolset, in_toolbox: PgDumpInToolbox, tmp_path: Path
) -> None:
    dump(prod, tmp_path / "here", PgDumpHere(programs))
    assert dump(prod, tmp_path / "prod", in_toolbox)
    assert "Société 50000" in script(programs, tmp_path / "prod")
    assert script(programs, tmp_path / "prod") == script(programs, tmp_path / "here")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert in_toolbox.version.startswith(f"{programs.major}.")


def test_the_login_is_in_no_argument_no_object_no_log_no_event_and_no_repr(
    kubernetes: Kubernetes, box: Toolbox, host: str, prod: ProdDatabase, in_toolbox: PgDumpInToolbox, tmp_path: Path
) -> None:
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=erp") as other:
        other.execute("LOCK TABLE llx_societe")
        running = threading.Thread(target=dump, args=(prod, tmp_path / "prod", in_toolbox))
        running.start()
        arguments = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'"]
        until(lambda: "--lock-wait-timeout" in box.run(arguments, doing="the test"), "pg_dump runs in the toolbox")
        said = box.run(arguments, doing="the test")
        pod: Any = kubernetes.cluster.core.read_namespaced_pod(box.pod.name, box.pod.namespace)
        found: Any = kubernetes.cluster.core.list_namespaced_secret(box.pod.namespace).items
        other.rollback()
    running.join(60)
    assert (tmp_path / "prod").exists()
    assert "dbname=erp" in said
    log = kubernetes.cluster.core.read_namespaced_pod_log(box.pod.name, box.pod.namespace)
    events: Any = kubernetes.cluster.core.list_namespaced_event(box.pod.namespace)
    assert box.pod.name in str(events.to_dict())
    secrets = [str(each.to_dict()) + str([b64decode(value) for value in (each.data or {}).values()]) for each in found]
    for text in (said, str(pod.to_dict()), str(log), str(events.to_dict()), repr(in_toolbox), *secrets):
        assert "geheim" not in text


def test_a_login_that_has_changed_since_the_toolbox_was_started_is_not_used_there(
    folder: ToolboxFolder, login: Mapping[str, SecretStr], prod: ProdDatabase, programs: Toolset
) -> None:
    """A toolbox that is said to have another one stands for a Secret that was rotated."""
    earlier = dataclasses.replace(folder.toolbox, login={**login, "PGUSER": SecretStr("dump-1")})
    with pytest.raises(ClusterError, match="prod's login has changed since the toolbox was started"):
        found(ToolboxFolder(earlier, folder.path), prod, programs.major)


def test_what_pg_dump_cannot_do_is_said_and_nothing_of_it_stays(
    host: str, prod: ProdDatabase, in_toolbox: PgDumpInToolbox, tmp_path: Path
) -> None:
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=erp", autocommit=True) as admin:
        admin.execute("CREATE TABLE walled (id int); ALTER TABLE walled ENABLE ROW LEVEL SECURITY")
        try:
            with pytest.raises(
                PostgresError, match=r"in pod .* failed \(exit code 1\): .*row-level security"
            ) as refused:
                dump(prod, tmp_path / "prod", in_toolbox)
        finally:
            admin.execute("DROP TABLE walled")
    assert "BYPASSRLS" in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_who_locks_prods_tables_is_named(
    host: str, prod: ProdDatabase, in_toolbox: PgDumpInToolbox, tmp_path: Path
) -> None:
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=erp application_name=migration") as other:
        other.execute("LOCK TABLE llx_societe")
        with pytest.raises(PostgresError, match=r"others lock its tables for longer than 0:00:01\n.*migration"):
            dump(prod, tmp_path / "prod", in_toolbox, lock_wait_timeout=timedelta(seconds=1))


def test_a_dump_that_takes_too_long_is_ended_and_lets_go_of_prod(
    host: str, prod: ProdDatabase, in_toolbox: PgDumpInToolbox, tmp_path: Path
) -> None:
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=erp") as other:
        other.execute("LOCK TABLE llx_societe")
        with pytest.raises(PostgresError, match=r"took longer than 0:00:02, and was ended\n.*prod.dump-timeout"):
            dump(prod, tmp_path / "prod", in_toolbox, timeout=timedelta(seconds=2))
        until(lambda: not has_session(host), "prod has no session of it any more")


def test_a_dump_that_is_interrupted_lets_go_of_prod_at_once(
    host: str, prod: ProdDatabase, in_toolbox: PgDumpInToolbox, tmp_path: Path
) -> None:
    """That whoever listens raises stands for Ctrl-C."""

    def interrupt(_done: int, _size: int) -> None:
        raise KeyboardInterrupt

    with psycopg.connect(f"host={host} user=postgres password=admin dbname=erp") as other:
        other.execute("LOCK TABLE llx_societe")
        with pytest.raises(KeyboardInterrupt):
            dump_prod(
                prod,
                tmp_path / "prod",
                in_toolbox,
                jobs=1,
                lock_wait_timeout=PATIENCE,
                timeout=PATIENCE,
                on_progress=interrupt,
            )
        until(lambda: not has_session(host), "prod has no session of it any more", patience=10)


def test_a_pg_dump_that_does_not_heed_the_end_of_its_time_is_killed(
    box: Toolbox, host: str, prod: ProdDatabase, in_toolbox: PgDumpInToolbox, tmp_path: Path
) -> None:
    stop = """
        for each in /proc/[0-9]*; do
            if [ "$(cat $each/comm)" = pg_dump ]; then kill -STOP ${each#/proc/}; echo stopped; fi
        done
    """
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=erp") as other:
        other.execute("LOCK TABLE llx_societe")
        failures = list[PostgresError]()

        def try_it() -> None:
            with pytest.raises(PostgresError) as failure:
                dump(prod, tmp_path / "prod", in_toolbox, timeout=timedelta(seconds=5))
            failures.append(failure.value)

        running = threading.Thread(target=try_it)
        running.start()
        until(lambda: "stopped" in box.run(["sh", "-c", stop], doing="the test"), "pg_dump is stopped")
        running.join(60)
    assert "took longer than 0:00:05, and was ended" in str(failures[0])


def test_another_database_that_answers_under_prods_name_is_refused(
    host: str, prod: ProdDatabase, in_toolbox: PgDumpInToolbox
) -> None:
    with psycopg.connect(f"host={host} user=postgres password=admin dbname=postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE other")
    clients = in_toolbox.clients
    there = dataclasses.replace(clients, conninfo=make_conninfo(clients.conninfo, dbname="other"))
    with prod.connect() as connection, pytest.raises(ClusterError, match="another database than prod's answers"):
        there.require_prod(connection)


def test_a_pooler_that_drops_read_only_is_refused(prod: ProdDatabase, in_toolbox: PgDumpInToolbox) -> None:
    """That the option is left out stands for a pooler between there and the server, which drops it."""
    clients = in_toolbox.clients
    there = dataclasses.replace(clients, conninfo=make_conninfo(clients.conninfo, options=""))
    with prod.connect() as connection, pytest.raises(ClusterError, match="drops default_transaction_read_only=on"):
        there.require_prod(connection)


def test_a_pg_dump_of_another_version_than_what_restores_here_is_not_taken(
    folder: ToolboxFolder, prod: ProdDatabase, programs: Toolset
) -> None:
    for at_least, at_most in ((programs.major + 1, programs.major + 1), (programs.major - 1, programs.major - 1)):
        with pytest.raises(ClusterError, match=rf"its pg_dump is {programs.major}\..*prod's server is {at_least}"):
            found(folder, prod, at_least, at_most=at_most)


def test_an_image_without_pg_dump_is_said(kubernetes: Kubernetes, box: Toolbox, prod: ProdDatabase) -> None:
    image = ToolboxImage(BUSYBOX)
    with (
        toolbox(kubernetes.cluster, kubernetes.sandbox, box.claim, image) as other,
        pytest.raises(ClusterError, match=r"asking for PostgreSQL's programs .*pg_dump: not found"),
    ):
        found(ToolboxFolder(other, CACHE), prod, 15)


def test_a_prod_that_does_not_answer_there_is_said(
    folder: ToolboxFolder, host: str, prod: ProdDatabase, programs: Toolset
) -> None:
    for address, said in (
        (("postgres.nowhere.svc", "5432"), "could not translate host name"),
        ((host, "1"), "Connection refused"),
        (("localhost", "5432"), "no host is set by which it could reach prod"),
        (("postgres", "5432"), "no host is set by which it could reach prod, only postgres"),
        (("", "5432"), "no host is set by which it could reach prod"),
    ):
        with pytest.raises(ClusterError, match=said):
            found(folder, at(host, address=address), programs.major)
