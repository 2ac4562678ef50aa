from __future__ import annotations

import psycopg
import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.connection import as_owner
from pytest_erp_sandbox.postgres.tidy import analyze_large_tables, end_idle_sessions, vacuum_catalogue

from ..servers import connect
from .pairs import Side, make_sandbox


def test_idle_sessions_of_the_own_login_are_ended_and_the_others_named(server: Server) -> None:
    sandbox = make_sandbox(server)
    database = sandbox.sandbox
    idle, busy, ours, lease = (database.connect(name) for name in ("shop", "job", "erp-sandbox", "erp-sandbox lease 1"))
    other = connect(server.dsn(sandbox.name))
    busy.execute("BEGIN")

    with database.connect() as connection:
        left = end_idle_sessions(connection)

    with pytest.raises(psycopg.errors.AdminShutdown):
        idle.execute("SELECT 1")
    assert left == [
        f"pid {busy.info.backend_pid}, login {sandbox.login}, application job",
        f"pid {other.info.backend_pid}, login postgres, application unnamed",
    ]
    for session in (busy, ours, lease, other):
        assert session.execute("SELECT 1").fetchone() == (1,)
        session.close()


def test_large_tables_get_statistics_and_small_ones_do_not(server: Server) -> None:
    sandbox = make_sandbox(
        server,
        "CREATE TABLE \"large one\" AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 9000)",
        "CREATE TABLE small AS SELECT 1 AS one",
        'CREATE MATERIALIZED VIEW gathered AS SELECT * FROM "large one"',
    )
    sandbox.administrate('CREATE TABLE theirs AS SELECT * FROM "large one"')

    with sandbox.sandbox.connect() as connection, as_owner(connection, sandbox.role):
        analyze_large_tables(connection, sandbox.role)

    assert sandbox.values("SELECT DISTINCT tablename::text FROM pg_stats WHERE schemaname = 'public' ORDER BY 1") == [
        "gathered",
        "large one",
    ]


def catalogue_pages(sandbox: Side) -> int:
    with sandbox.sandbox.connect() as connection:
        row = connection.execute("SELECT pg_relation_size('pg_attribute') / 8192").fetchone()
    assert row is not None
    return int(row[0])


def test_a_wipe_leaves_nothing_in_the_catalogue(server: Server) -> None:
    sandbox = make_sandbox(server)
    empty = catalogue_pages(sandbox)
    sandbox.execute(*(f"CREATE TABLE t{n} AS SELECT * FROM pg_class" for n in range(100)))
    sandbox.execute(*(f"DROP TABLE t{n}" for n in range(100)))
    full = catalogue_pages(sandbox)

    with sandbox.sandbox.connect() as connection:
        vacuum_catalogue(connection, sandbox.role)
        assert connection.execute("SELECT current_user").fetchone() == (sandbox.login,)

    assert catalogue_pages(sandbox) - empty < (full - empty) / 10


def test_nothing_to_do_is_done_quietly(server: Server) -> None:
    sandbox = make_sandbox(server)
    with sandbox.sandbox.connect() as connection:
        with as_owner(connection, sandbox.role):
            analyze_large_tables(connection, sandbox.role)
        assert end_idle_sessions(connection) == []
