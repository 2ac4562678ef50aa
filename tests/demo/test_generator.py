from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib.resources import files
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.demo.generator import DOLIBARR, LARGE, SMALL, census, fill
from pytest_erp_sandbox.demo.server import Server

from ..servers import Servers, connect

_NUMBERS = count(1)
MEGABYTE = 1024 * 1024

GENERATED = (
    ("llx_societe", "import_key = 'generated'"),
    ("llx_facture", "import_key = 'generated'"),
    ("llx_facturedet", "import_key = 'generated'"),
    ("llx_actioncomm", "ref LIKE 'EG%'"),
)
"""The tables that grow, and which of their rows the generator made."""


@pytest.fixture(scope="session")
def server(servers: Servers) -> Server:
    """The newest; an older one is filled by the estate's tests."""
    return servers["18"]


@pytest.fixture
def database(server: Server) -> Iterator[SecretStr]:
    """A database with the core tables and nothing else."""
    yield from _core(server)


@pytest.fixture
def second_database(server: Server) -> Iterator[SecretStr]:
    """Another one."""
    yield from _core(server)


def _core(server: Server) -> Iterator[SecretStr]:
    name = f"generated-{next(_NUMBERS)}"
    with connect(server.dsn()) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
        with connect(server.dsn(name)) as connection:
            for script in ("schema.sql", "data.sql"):
                connection.execute((files("pytest_erp_sandbox.demo") / script).read_bytes())
        yield server.dsn(name)
        admin.execute(f'DROP DATABASE "{name}" (FORCE)'.encode())


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def test_small_is_a_fresh_dolibarr_in_shape_and_size(database: SecretStr) -> None:
    with connect(database) as connection:
        fill(connection, **SMALL)
        assert census(connection) == DOLIBARR
        size = _one(connection, "SELECT pg_database_size(current_database())") / MEGABYTE
        assert 20 < size < 28
        without_key = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND NOT EXISTS"
            " (SELECT FROM pg_constraint WHERE conrelid = pg_class.oid AND contype = 'p') ORDER BY relname"
        ).fetchall()
    assert [name for (name,) in without_key] == ["llx_category_bankline", "llx_holiday_users", "llx_user_param"]


def test_keys_triggers_and_names_are_as_in_dolibarr(database: SecretStr) -> None:
    with connect(database) as connection:
        fill(connection)
        foreign_keys = "SELECT DISTINCT condeferrable, condeferred FROM pg_constraint WHERE contype = 'f'"
        triggers = (
            "SELECT DISTINCT tgfoid::regproc::text, pg_get_triggerdef(oid) LIKE '% BEFORE UPDATE ON %'"
            " FROM pg_trigger WHERE NOT tgisinternal"
        )
        others = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'llx\\_%'"
        assert connection.execute(foreign_keys.encode()).fetchall() == [(True, False)]
        assert connection.execute(triggers.encode()).fetchall() == [("update_modified_column_tms", True)]
        assert _one(connection, others) == 0


def test_the_shape_is_right_whatever_the_core_holds(database: SecretStr) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TABLE llx_accounting_line (rowid serial PRIMARY KEY, fk_soc integer)")
        connection.execute("ALTER TABLE llx_accounting_line ADD FOREIGN KEY (fk_soc) REFERENCES llx_societe")
        connection.execute("CREATE TABLE llx_holiday_users (fk_user integer)")
        connection.execute("CREATE FUNCTION year(date) RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        fill(connection)
        assert census(connection) == DOLIBARR
        assert _one(connection, "SELECT year(current_date)") == 1


def test_rows_are_added_and_spread(database: SecretStr) -> None:
    grown = (
        "SELECT (SELECT count(*) FROM llx_societe), (SELECT count(*) FROM llx_facture),"
        " (SELECT count(*) FROM llx_facturedet), (SELECT count(*) FROM llx_actioncomm)"
    )
    with connect(database) as connection:
        before = _one(connection, grown)
        fill(connection, parties=20, invoices=100, lines=500, events=70)
        after = _one(connection, grown)
        assert [new - old for new, old in zip(after, before, strict=True)] == [20, 100, 500, 70]
        for (table, generated), parent in zip(GENERATED[1:], ("fk_soc", "fk_facture", "fk_soc"), strict=True):
            counts = f"SELECT count(*) AS number FROM {table} WHERE {generated} GROUP BY {parent}"
            assert _one(connection, f"SELECT max(number) - min(number) <= 1 FROM ({counts}) AS spread")


def test_large_has_the_size_of_a_real_one(database: SecretStr) -> None:
    with connect(database) as connection:
        fill(connection)
        size = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r'"
        before = _one(connection, size)
        hundredth = {rows: number // 100 for rows, number in LARGE.items()}  # type: ignore[operator]
        fill(connection, **hundredth)
        grown = (_one(connection, size) - before) * 100 / MEGABYTE
    assert grown == pytest.approx(531 - 24, rel=0.15)


def _dump(server: Server, dsn: SecretStr) -> str:
    parts = urlsplit(dsn.get_secret_value())
    place = [f"--host={parts.hostname}", f"--port={parts.port}", f"--username={parts.username}"]
    dumped = subprocess.run(
        [server.programs / "pg_dump", *place, "--schema-only", f"--dbname={parts.path.removeprefix('/')}"],
        env={"PGPASSWORD": parts.password or ""},
        capture_output=True,
        text=True,
        check=True,
    )
    # Newer programs guard a dump with a random key.
    return "\n".join(line for line in dumped.stdout.splitlines() if not line.startswith("\\"))


def test_twice_the_same_gives_the_same(server: Server, database: SecretStr, second_database: SecretStr) -> None:
    seen = []
    for dsn in (database, second_database):
        with connect(dsn) as connection:
            fill(connection, parties=10, invoices=20, lines=40, events=30)
            rows = [
                _one(
                    connection, f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} AS t WHERE {mine}"
                )
                for table, mine in {
                    "llx_societe": "import_key = 'generated'",
                    "llx_facture": "import_key = 'generated'",
                    "llx_facturedet": "import_key = 'generated'",
                    "llx_actioncomm": "ref LIKE 'EG%'",
                }.items()
            ]
        seen.append((_dump(server, dsn), rows))
    assert seen[0] == seen[1]


def test_dolibarrs_helper_functions_work(database: SecretStr) -> None:
    with connect(database) as connection:
        fill(connection)
        asked = (
            "SELECT year(date '2026-03-04'), month(timestamp '2026-03-04 05:06'), day(timestamptz '2026-03-04 12:00'),"
            " date_format(timestamp '2026-03-04', '%Y-%m-%d'), unix_timestamp(timestamp '1970-01-02')"
        )
        assert _one(connection, asked) == (2026, 3, 4, "2026-03-04", 86400)
        assert _one(connection, "SELECT dol_util_rebuild_sequences()") == DOLIBARR.sequences
        connection.execute("INSERT INTO llx_societe (nom) VALUES ('after the rebuilding')")
        assert _one(connection, "SELECT dol_util_triggerall(false)") == DOLIBARR.tables
        assert _one(connection, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'") == 0
