"""Prod's dump, restored by the toolbox's pg_restore from the golden dumps' volume."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from pytest_erp_sandbox import ClusterError, PostgresError
from pytest_erp_sandbox.cluster.dumping import PgRestoreInToolbox, pg_dump_in_toolbox, pg_restore_in_toolbox
from pytest_erp_sandbox.cluster.toolbox import Toolbox, ToolboxFolder
from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.archive import Archive, read_archive
from pytest_erp_sandbox.postgres.clients import Toolset
from pytest_erp_sandbox.postgres.connection import ProdDatabase
from pytest_erp_sandbox.postgres.dump import OnProgress, dump_prod
from pytest_erp_sandbox.postgres.lease import Lease, take_lease
from pytest_erp_sandbox.postgres.restore import restore
from pytest_erp_sandbox.postgres.wipe import wipe

from ..postgres.pairs import (
    PASSWORD,
    PATIENCE,
    SLOW_SESSIONS,
    SLOW_TO_RESTORE,
    Side,
    leased,
    make_prod,
    make_sandbox,
)
from ..preflight.pgbouncer import pgbouncer
from ..servers import connect
from .kubernetes import Kubernetes, until
from .town import ServerInPod, needs_this_machine, pod_ip

# Pods' addresses are used from here.
pytestmark = needs_this_machine

SHOP = [
    "CREATE TABLE llx_societe (rowid serial PRIMARY KEY, nom text NOT NULL)",
    "CREATE TABLE llx_facture (rowid serial PRIMARY KEY, fk_soc integer REFERENCES llx_societe, ref text UNIQUE)",
    "CREATE TABLE llx_empty (rowid integer PRIMARY KEY)",
    "INSERT INTO llx_societe (nom) SELECT 'Société ' || n FROM generate_series(1, 50000) n",
    "INSERT INTO llx_facture (fk_soc, ref) SELECT n, 'FA' || n FROM generate_series(1, 1000) n",
    "CREATE VIEW llx_both AS SELECT * FROM llx_societe JOIN llx_facture USING (rowid)",
]


@pytest.fixture(scope="module")
def server(kubernetes: Kubernetes) -> Server:
    host = pod_ip(kubernetes, kubernetes.postgres(kubernetes.sandbox, "restored", {"postgres": "admin"}))
    return cast(Server, ServerInPod(host, 5432))


@pytest.fixture(scope="module")
def login(server: Server) -> Mapping[str, SecretStr]:
    with connect(server.dsn()) as admin:
        admin.execute(
            sql.SQL("CREATE ROLE dump LOGIN PASSWORD {} IN ROLE pg_read_all_data").format(PASSWORD.get_secret_value())
        )
    return {"PGUSER": SecretStr("dump"), "PGPASSWORD": PASSWORD}


@pytest.fixture
def sandbox(server: Server) -> Side:
    return make_sandbox(server)


def dumped(prod: Side, folder: ToolboxFolder, to: Path, programs: Toolset) -> tuple[Archive, ToolboxFolder]:
    """Prod's dump here, whose rows are there alone, and where it is there."""
    database = ProdDatabase(prod.server.dsn(prod.name, "dump", PASSWORD), "prod.dsn")
    with database.connect() as connection:
        major = programs.major
        pg_dump = pg_dump_in_toolbox(folder, database, connection, at_least=major, at_most=major)
    waits: Any = {"lock_wait_timeout": PATIENCE, "timeout": PATIENCE}
    dump_prod(database, to, pg_dump, jobs=2, on_progress=lambda _done, _size: None, **waits)
    pg_dump.fetch(to, lambda _done, _size: None)
    archive = read_archive(to, [programs])
    assert archive.without_rows is not None  # it is known from here on
    for rows in to.glob("*.dat.gz"):
        rows.unlink()
    return archive, pg_dump.place(to)


def put(
    lease: Lease,
    archive: Archive,
    programs: Toolset,
    pg_restore: PgRestoreInToolbox,
    on_progress: OnProgress = lambda _done, _size: None,
) -> None:
    wipe(lease, lock_timeout=PATIENCE)
    restore(lease, archive, programs, jobs=2, leave_out=[], on_progress=on_progress, pg_restore=pg_restore)


def content(side: Side, programs: Toolset) -> str:
    """All that is in a database, as SQL."""
    command: list[str | Path] = [programs.program("pg_dump"), "--schema=public", "--no-owner", "--no-acl", "-d"]
    dsn = side.server.dsn(side.name).get_secret_value()
    said = subprocess.run([*command, dsn], check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(un)?restrict .*\n", "", said, flags=re.MULTILINE)


def test_it_restores_what_was_dumped_beside_it_without_the_rows_coming_here(
    server: Server, sandbox: Side, folder: ToolboxFolder, programs: Toolset, tmp_path: Path
) -> None:
    prod, told = make_prod(server, *SHOP), list[int]()
    archive, there = dumped(prod, folder, tmp_path / "prod", programs)
    with leased(sandbox) as lease:
        pg_restore = pg_restore_in_toolbox(there, lease, programs)
        put(lease, archive, programs, pg_restore, lambda done, _: told.append(done))
    assert "Société 50000" in content(sandbox, programs)
    assert content(sandbox, programs) == content(prod, programs)
    assert told == list(range(1, len(told) + 1))
    assert len(told) >= len(SHOP)


def test_what_it_cannot_do_is_said(
    server: Server, sandbox: Side, folder: ToolboxFolder, programs: Toolset, tmp_path: Path
) -> None:
    archive, there = dumped(make_prod(server, *SHOP), folder, tmp_path / "prod", programs)
    (rows,) = [entry for entry in archive.entries if (entry.kind, entry.name) == ("TABLE DATA", "llx_societe")]
    spoil = f"printf x >{there.path}/{archive.rows_file(rows).name}"
    folder.toolbox.run(["sh", "-c", spoil], doing="the test")
    with leased(sandbox) as lease:
        pg_restore = pg_restore_in_toolbox(there, lease, programs)
        with pytest.raises(
            PostgresError, match=r"pg_restore into the sandbox, .*, in pod .* failed \(exit code 1\): .*error:"
        ):
            put(lease, archive, programs, pg_restore)


def test_the_login_is_in_no_argument_and_an_interrupted_one_lets_go_of_the_sandbox(
    server: Server, sandbox: Side, folder: ToolboxFolder, programs: Toolset, tmp_path: Path
) -> None:
    """That the watcher raises stands for Ctrl-C."""
    archive, there = dumped(make_prod(server, *SLOW_TO_RESTORE), folder, tmp_path / "prod", programs)
    arguments = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'"]
    said = ""

    def interrupt(_done: int, _size: int) -> None:
        nonlocal said
        said = folder.toolbox.run(arguments, doing="the test")
        if "pg_restore" in said:
            raise KeyboardInterrupt

    with leased(sandbox) as lease:
        pg_restore = pg_restore_in_toolbox(there, lease, programs)
        assert PASSWORD.get_secret_value() not in repr(pg_restore)
        with pytest.raises(KeyboardInterrupt):
            put(lease, archive, programs, pg_restore, interrupt)
        until(lambda: sandbox.values(SLOW_SESSIONS) == [], "nothing is restored any more", patience=10)
    assert PASSWORD.get_secret_value() not in said


def test_its_sessions_are_the_leases_and_end_with_the_next(
    server: Server, sandbox: Side, folder: ToolboxFolder, programs: Toolset, tmp_path: Path
) -> None:
    archive, there = dumped(make_prod(server, *SLOW_TO_RESTORE), folder, tmp_path / "prod", programs)
    failures = list[Exception]()

    def try_it(lease: Lease) -> None:
        try:
            put(lease, archive, programs, pg_restore_in_toolbox(there, lease, programs))
        except PostgresError as error:
            failures.append(error)

    with leased(sandbox) as lease:
        running = threading.Thread(target=try_it, args=[lease])
        running.start()
        until(lambda: sandbox.values(SLOW_SESSIONS) != [], "pg_restore makes the index that takes long")
    with leased(sandbox):
        assert sandbox.values(SLOW_SESSIONS) == []
    running.join(60)
    assert "terminating connection due to administrator command" in str(failures[0])


def test_another_database_that_answers_under_the_sandboxs_name_is_refused(
    server: Server, sandbox: Side, box: Toolbox, programs: Toolset
) -> None:
    other = make_sandbox(server)
    with leased(sandbox) as lease:
        clients = pg_restore_in_toolbox(ToolboxFolder(box, "nowhere"), lease, programs).clients
        there = dataclasses.replace(clients, conninfo=make_conninfo(clients.conninfo, dbname=other.name))
        with pytest.raises(ClusterError, match="another database than the sandbox answers"):
            there.require_sandbox(lease.connection)


@pytest.mark.parametrize(
    ("lines", "said"),
    [([], "unsupported startup parameter"), (["ignore_startup_parameters = options"], "drops what sessions are told")],
)
def test_a_pooler_in_between_is_noticed_before_anything_is_wiped(
    kubernetes: Kubernetes,
    server: Server,
    sandbox: Side,
    box: Toolbox,
    programs: Toolset,
    tmp_path: Path,
    lines: list[str],
    said: str,
) -> None:
    nodes: Any = kubernetes.cluster.core.list_node()
    (address,) = (each.address for each in nodes.items[0].status.addresses if each.type == "InternalIP")
    with (
        pgbouncer(tmp_path, server.dsn(sandbox.name), "transaction", "listen_addr = *", *lines) as through,
        leased(sandbox) as lease,
    ):
        clients = pg_restore_in_toolbox(ToolboxFolder(box, "nowhere"), lease, programs).clients
        port = conninfo_to_dict(through.get_secret_value())["port"]
        there = dataclasses.replace(clients, conninfo=make_conninfo(clients.conninfo, host=address, port=port))
        with pytest.raises(ClusterError, match=said):
            there.require_sandbox(lease.connection)


def test_a_login_that_ends_before_its_rows_are_restored_is_followed_by_the_one_of_the_moment(
    server: Server, sandbox: Side, folder: ToolboxFolder, programs: Toolset, tmp_path: Path
) -> None:
    prod = make_prod(server, *SHOP)
    archive, there = dumped(prod, folder, tmp_path / "prod", programs)
    login = {"user": SecretStr(sandbox.login), "password": PASSWORD}
    rotating = dataclasses.replace(sandbox.sandbox, login=lambda: login)
    with take_lease([rotating], PATIENCE) as lease:
        pg_restore = pg_restore_in_toolbox(there, lease, programs)
        of_today = f"{sandbox.login} of today"
        sandbox.administrate(
            f'CREATE ROLE "{of_today}" LOGIN PASSWORD \'of-today\' IN ROLE "{sandbox.role}"',
            f"ALTER ROLE \"{sandbox.login}\" VALID UNTIL '2020-01-01'",
        )
        login = {"user": SecretStr(of_today), "password": SecretStr("of-today")}
        put(lease, archive, programs, pg_restore)
    assert content(sandbox, programs) == content(prod, programs)


def test_one_that_does_another_thing_than_those_here_is_not_taken(
    sandbox: Side, box: Toolbox, programs: Toolset
) -> None:
    newer = dataclasses.replace(programs, major=programs.major + 1, version=f"{programs.major + 1}.0")
    with (
        leased(sandbox) as lease,
        pytest.raises(
            ClusterError, match=rf"its pg_restore is {programs.major}\..*what restores here is {newer.version}"
        ),
    ):
        pg_restore_in_toolbox(ToolboxFolder(box, "nowhere"), lease, newer)
