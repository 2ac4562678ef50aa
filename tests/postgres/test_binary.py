from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import pytest_erp_sandbox.postgres.dump
from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres import binary
from pytest_erp_sandbox.postgres.amending import Amendment
from pytest_erp_sandbox.postgres.archive import Archive, read_archive
from pytest_erp_sandbox.postgres.binary import Snapshot, in_binary, snapshot_of, to_binary
from pytest_erp_sandbox.postgres.clients import installed_toolsets
from pytest_erp_sandbox.postgres.connection import SandboxConnection
from pytest_erp_sandbox.postgres.dump import OnProgress, dump_sandbox

from ..servers import Servers
from .fingerprint import fingerprint
from .pairs import Side, eventually, interrupted_when, leased, make_sandbox, put, toolset

SIGNATURE = b"PGCOPY\n\xff\r\n\0"

TYPES = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": ["'NaN'", "'-Infinity'", "1.1754944e-38", "'-0'"],
    "double precision": ["'NaN'", "'Infinity'", "0.30000000000000004", "5e-324", "'-0'"],
    "numeric": ["'NaN'", "'-Infinity'", "1e-300", "-12345678901234567890.50"],
    "numeric(24,8)": ["1234567890.12345678", "0.00000000"],
    "text": ["''", "'\\N'", "'\\.'", "E'tab\\there\\nline\\\\'", "'naïve 沙盒 🏖'", "repeat('x', 100000)"],
    "character varying(10)": ["'ten  chars'", "' '"],
    "character(8)": ["'ü'", "''"],
    "bytea": [r"'\x'", r"'\x00ff0a5c2e'"],
    "uuid": ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    "json": ["""'{"b": 1,  "a": [null, 1.0]}'"""],
    "jsonb": ["""'{"b": 1,  "a": [null, 1.0]}'""", "'null'"],
    "date": ["'infinity'", "'0044-03-15 BC'", "'5874897-12-31'"],
    "time": ["'24:00'", "'23:59:59.999999'"],
    "time with time zone": ["'12:00+15:59'", "'00:00-15:59'"],
    "timestamp": ["'-infinity'", "'294276-12-31 23:59:59.999999'", "'2026-03-29 02:30'"],
    "timestamp with time zone": ["'infinity'", "'2026-10-25 02:30+02'", "'2026-10-25 02:30+01'"],
    "interval": ["'1 mon -1 day 00:00:00.000001'", "'-178000000 years'"],
}
"""A few values of every type whose rows may be binary, as SQL."""


WORTH_IT = binary._WORTH_IT


@pytest.fixture(autouse=True)
def _every_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_WORTH_IT", 0)


def of_all_types(table: str) -> list[str]:
    columns = ", ".join(f"c{number} {each}" for number, each in enumerate(TYPES))
    rows = ["DEFAULT VALUES"] + [
        f"(c{number}) VALUES ({value})" for number, values in enumerate(TYPES.values()) for value in values
    ]
    return [f"CREATE TABLE {table} (id serial PRIMARY KEY, {columns})", *(f"INSERT INTO {table} {row}" for row in rows)]


def golden(side: Side, folder: Path, on_progress: OnProgress = lambda _done, _size: None, major: int = 0) -> Archive:
    to = folder / "golden"
    with leased(side) as lease:
        dump_sandbox(lease, to, toolset(major or side.server.version), jobs=2, on_progress=on_progress)
    return read_archive(to, installed_toolsets())


def text_only(side: Side, folder: Path) -> Archive:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(binary, "_WORTH_IT", 1 << 40)
        return golden(side, folder)


def binary_tables(archive: Archive) -> set[str]:
    """Those whose rows are binary, in the files as in the table of contents."""
    tables = {entry.name: entry for entry in archive.entries if entry.kind == "TABLE DATA"}
    found = set()
    for name, entry in tables.items():
        with gzip.open(archive.rows_file(entry)) as rows:
            if rows.read(len(SIGNATURE)) == SIGNATURE:
                found.add(name)
    assert {entry.name for entry in in_binary(archive, archive.entries)} == found
    return found


def state(side: Side) -> dict[str, object]:
    return dict(fingerprint(side.server.dsn(side.name)))


def test_rows_of_every_plain_type_come_back_as_they_were(server: Server, tmp_path: Path) -> None:
    sandbox = make_sandbox(server, *of_all_types("t"))
    before = state(sandbox)
    archive = golden(sandbox, tmp_path)
    assert binary_tables(archive) == {"t"}

    sandbox.execute("DELETE FROM t")
    with leased(sandbox) as lease:
        put(lease, archive)

    assert state(sandbox) == before
    assert sandbox.values("SELECT count(*) FROM t") == [1 + sum(map(len, TYPES.values()))]


@pytest.mark.parametrize("sandbox_version", ["15", "18"])
def test_rows_of_an_older_server_come_back_on_any(servers: Servers, sandbox_version: str, tmp_path: Path) -> None:
    original, sandbox = make_sandbox(servers["15"], *of_all_types("t")), make_sandbox(servers[sandbox_version])

    with leased(sandbox) as lease:
        put(lease, golden(original, tmp_path))

    assert state(sandbox) == state(original)


def test_newer_programs_restore_binary_rows_into_an_older_server(servers: Servers, tmp_path: Path) -> None:
    sandbox = make_sandbox(servers["15"], *of_all_types("t"), "CREATE TABLE u AS SELECT 1 AS id, 'x'::name AS name")
    before = state(sandbox)
    archive = golden(sandbox, tmp_path, major=18)
    assert binary_tables(archive) == {"t"}

    with leased(sandbox) as lease:
        put(lease, archive, toolset(18))

    assert state(sandbox) == before


TABLES = {
    "many columns": (True, f"CREATE TABLE t ({', '.join(f'column_{n} integer' for n in range(1590))})"),
    "names that need quotes": (True, 'CREATE TABLE t ("Ünïque ""name""" integer, "select" text, "a, b" text)'),
    "generated columns": (True, "CREATE TABLE t (id integer, twice integer GENERATED ALWAYS AS (2) STORED)"),
    "identity": (True, "CREATE TABLE t (id integer GENERATED ALWAYS AS IDENTITY, name text)"),
    "a dropped column": (True, "CREATE TABLE t (a integer, b mood, c text); ALTER TABLE t DROP COLUMN b"),
    "a name with parentheses": (False, 'CREATE TABLE t ("a (b)" integer)'),
    "a type of its own": (False, "CREATE TABLE t (id integer, mood mood)"),
    "an array of its own type": (False, "CREATE TABLE t (id integer, moods mood[])"),
    "a domain": (False, "CREATE TABLE t (id integer, positive positive)"),
    "a number that names an object": (False, "CREATE TABLE t (id integer, of regclass DEFAULT 'pg_class')"),
    "no columns": (False, "CREATE TABLE t ()"),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_is_restored_whether_binary_or_not(server: Server, what: str, tmp_path: Path) -> None:
    is_binary, table = TABLES[what]
    types = ["CREATE TYPE mood AS ENUM ('fine', 'sad')", "CREATE DOMAIN positive AS integer CHECK (value > 0)"]
    sandbox = make_sandbox(server, *types, *table.split("; "), *["INSERT INTO t DEFAULT VALUES"] * 3)
    before = state(sandbox)
    archive = golden(sandbox, tmp_path)
    assert binary_tables(archive) == ({"t"} if is_binary else set())

    with leased(sandbox) as lease:
        put(lease, archive)

    assert state(sandbox) == before


def test_relatives_keep_their_rows_to_themselves(server: Server, tmp_path: Path) -> None:
    sandbox = make_sandbox(
        server,
        "CREATE TABLE parent (id integer)",
        "CREATE TABLE child (name text) INHERITS (parent)",
        "CREATE TABLE whole (id integer) PARTITION BY RANGE (id)",
        "CREATE TABLE part PARTITION OF whole DEFAULT",
        'CREATE TABLE "User" (id integer)',
        *(f"INSERT INTO {each} VALUES (1), (2)" for each in ("parent", "child", "whole", '"User"')),
    )
    before = state(sandbox)
    archive = golden(sandbox, tmp_path)
    assert binary_tables(archive) == {"parent", "child", "part"}

    with leased(sandbox) as lease:
        put(lease, archive)

    assert state(sandbox) == before


def test_binary_rows_are_of_the_same_moment_as_all_else(server: Server, tmp_path: Path) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE t (id integer)", "CREATE TABLE u (type name)")
    before = state(sandbox)
    written = False

    def write(_done: int, _size: int) -> None:
        nonlocal written
        if not written:
            sandbox.execute("INSERT INTO t DEFAULT VALUES", "INSERT INTO u DEFAULT VALUES")
            written = True

    archive = golden(sandbox, tmp_path, write)
    assert written

    with leased(sandbox) as lease:
        put(lease, archive)

    assert state(sandbox) == before


MEANWHILE = {
    "emptied, and filled again": ["TRUNCATE t", "INSERT INTO t SELECT generate_series(1, 1000)"],
    "rewritten": ["ALTER TABLE t ALTER id TYPE bigint"],
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_a_table_that_was_meanwhile_keeps_the_rows_that_were_dumped(
    server: Server, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ERP may be up, which nothing keeps from its tables once pg_dump has ended."""
    sandbox = make_sandbox(server, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS id")

    def first_changed(archive: Archive, snapshot: Snapshot, on_written: Callable[[], None]) -> None:
        sandbox.execute(*MEANWHILE[what])
        to_binary(archive, snapshot, on_written)

    monkeypatch.setattr(pytest_erp_sandbox.postgres.dump, "to_binary", first_changed)
    archive = golden(sandbox, tmp_path)
    assert binary_tables(archive) == set()

    with leased(sandbox) as lease:
        put(lease, archive)

    assert sandbox.values("SELECT count(*) FROM t") == [1000]


def test_nobody_empties_a_table_while_it_is_written(server: Server, tmp_path: Path) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE t AS SELECT generate_series(1, 100000) AS id")
    refused: list[bool] = []

    def empty() -> None:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            sandbox.execute("SET lock_timeout = '50ms'", "TRUNCATE t")
        refused.append(True)

    archive = text_only(sandbox, tmp_path)
    with leased(sandbox) as lease, snapshot_of(lease) as snapshot:
        to_binary(archive, snapshot, empty)

    assert refused
    assert binary_tables(archive) == {"t"}


@pytest.mark.parametrize("programs", [15, 18])
def test_a_name_that_looks_like_a_copy_is_not_taken_for_one(servers: Servers, programs: int, tmp_path: Path) -> None:
    sandbox = make_sandbox(
        servers["15"],
        "CREATE TABLE t (id integer, word text)",
        'CREATE INDEX "COPY public.t (id) FROM stdin;\n" ON t (word)',
        "INSERT INTO t VALUES (1, 'precious')",
    )
    before = state(sandbox)
    archive = golden(sandbox, tmp_path, major=programs)

    with leased(sandbox) as lease:
        put(lease, archive, toolset(programs))

    assert state(sandbox) == before


def test_types_are_those_of_the_catalogue_whatever_the_login_finds_first(server: Server, tmp_path: Path) -> None:
    sandbox = make_sandbox(
        server, "CREATE DOMAIN uuid AS text", "CREATE TABLE t (id public.uuid)", "INSERT INTO t VALUES ('x')"
    )
    sandbox.administrate(f'ALTER ROLE "{sandbox.login}" SET search_path = public, pg_catalog')

    assert binary_tables(golden(sandbox, tmp_path)) == set()


@pytest.mark.parametrize("programs", [15, 18])
def test_a_logins_time_limits_do_not_hold_for_rows(servers: Servers, programs: int, tmp_path: Path) -> None:
    rows = "SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 200000) AS n"
    sandbox = make_sandbox(servers["15"], f"CREATE TABLE t AS {rows}")
    before = state(sandbox)
    sandbox.administrate(f'ALTER ROLE "{sandbox.login}" SET statement_timeout = 60')
    archive = golden(sandbox, tmp_path, major=programs)

    with leased(sandbox) as lease:
        put(lease, archive, toolset(programs))

    assert state(sandbox) == before


@pytest.mark.parametrize("programs", [15, 18])
def test_binary_rows_can_be_amended(servers: Servers, programs: int, tmp_path: Path) -> None:
    original = make_sandbox(servers["15"], "CREATE TABLE t AS SELECT 1 AS id, 'öld'::text AS word")
    sandbox = make_sandbox(servers["15"])
    archive = golden(original, tmp_path, major=programs)

    def amend(session: SandboxConnection) -> None:
        session.execute("UPDATE public.t SET word = word || 'er'")

    with leased(sandbox) as lease:
        put(lease, archive, toolset(programs), amendment=Amendment(["t"], amend))

    assert sandbox.values("SELECT word FROM t") == ["ölder"]


def test_only_large_tables_are_binary(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_WORTH_IT", WORTH_IT)
    rows = "SELECT n AS id, md5(n::text) AS name FROM generate_series(1, {}) AS n"
    sandbox = make_sandbox(
        server, f"CREATE TABLE small AS {rows.format(1000)}", f"CREATE TABLE large AS {rows.format(100_000)}"
    )

    assert binary_tables(golden(sandbox, tmp_path)) == {"large"}


def test_rows_that_cannot_be_read_are_an_error(server: Server, tmp_path: Path) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE t (id integer)", "INSERT INTO t VALUES (1)")
    archive = text_only(sandbox, tmp_path)

    with leased(sandbox) as lease, snapshot_of(lease) as snapshot:
        sandbox.administrate(f"SELECT pg_terminate_backend({snapshot.session.info.backend_pid})")
        with pytest.raises(PostgresError, match=r"the rows of large tables cannot be dumped: .*terminat"):
            to_binary(archive, snapshot, lambda: None)


def test_what_is_written_is_told_meanwhile(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 100000) AS n"
    sandbox = make_sandbox(servers["15"], f"CREATE TABLE t AS {rows}")
    archive = text_only(sandbox, tmp_path)
    told: list[int] = []

    with leased(sandbox) as lease, snapshot_of(lease) as snapshot:
        to_binary(archive, snapshot, lambda: told.append(len(told)))

    assert len(told) > 10
    assert binary_tables(archive) == {"t"}


def test_ctrl_c_ends_the_writing_at_once(server: Server, tmp_path: Path) -> None:
    rows = "SELECT n AS id, repeat(md5(n::text), 30) AS name FROM generate_series(1, 200000) AS n"
    sandbox = make_sandbox(server, f"CREATE TABLE t AS {rows}")
    sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%binary%'"

    with interrupted_when(lambda: sandbox.values(sessions)), pytest.raises(KeyboardInterrupt):
        golden(sandbox, tmp_path)

    eventually(lambda: not sandbox.values(sessions))


@pytest.mark.parametrize("programs", [15, 18])
def test_a_refused_row_is_not_told(servers: Servers, programs: int, tmp_path: Path) -> None:
    sandbox = make_sandbox(servers["15"], "CREATE TABLE t (word text)", "INSERT INTO t VALUES ('hush-hush')")
    archive = golden(sandbox, tmp_path, major=programs)
    (entry,) = in_binary(archive, archive.entries)
    whole = gzip.decompress(archive.rows_file(entry).read_bytes())
    archive.rows_file(entry).write_bytes(gzip.compress(whole[:-4]))

    with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
        put(lease, archive, toolset(programs))

    assert "unexpected EOF" in str(caught.value)
    assert "hush-hush" not in str(caught.value)
