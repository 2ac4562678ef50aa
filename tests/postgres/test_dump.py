from __future__ import annotations

import re
import stat
import time
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres.archive import read_archive
from pytest_erp_sandbox.postgres.dump import _FORMAT, dump_sandbox
from pytest_erp_sandbox.postgres.program import run

from ..servers import Servers, connect
from .fingerprint import fingerprint
from .pairs import (
    PATIENCE,
    children,
    dump,
    eventually,
    interrupted_when,
    leased,
    make_prod,
    make_sandbox,
    put,
    toolset,
)

ONLY_READING = re.compile(
    r"BEGIN|COMMIT|ROLLBACK|SELECT\b|WITH\b|SHOW\b|SET\b|COPY [^;]* TO stdout;$"
    r"|EXECUTE\b|PREPARE \w+\([^)]*\) AS\s+(SELECT|WITH)\b"
    r"|LOCK TABLE [^;]* IN ACCESS SHARE MODE( NOWAIT)?$",
    re.IGNORECASE,
)
CALLING = re.compile(r"\b(nextval|setval|set_config|pg_terminate_backend|lo_\w+|pg_notify)\s*\(", re.IGNORECASE)


def tables(*names: str) -> list[str]:
    return [f"CREATE TABLE {name} AS SELECT n FROM generate_series(1, 1000) AS n" for name in names]


@pytest.mark.parametrize("jobs", [1, 3])
def test_prods_server_sees_nothing_but_reading(server: Server, tmp_path: Path, jobs: int) -> None:
    prod = make_prod(server, *tables("a", "b", "c"), "CREATE SEQUENCE s", "CREATE VIEW v AS SELECT * FROM a")
    before = fingerprint(server.dsn(prod.name))
    prod.administrate(f"ALTER ROLE \"{prod.login}\" SET log_statement = 'all'")
    begun = server.log.stat().st_size

    dump(prod, tmp_path, jobs=jobs)

    statements = logged_statements(server, begun)
    assert len([each for each in statements if each.startswith("COPY public.")]) == 3
    assert [each for each in statements if not ONLY_READING.match(each)] == []
    assert {found[0].lower() for each in statements if (found := CALLING.search(each))} <= {"set_config("}
    assert fingerprint(server.dsn(prod.name)) == before


def logged_statements(server: Server, begun: int) -> list[str]:
    with server.log.open("rb") as log:
        log.seek(begun)
        text = log.read().decode()
    found = re.findall(r"LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", text)
    assert found
    return [each.replace("\n\t", "\n").strip() for each in found]


def test_a_login_that_could_write_reads_in_sessions_that_cannot(server: Server, tmp_path: Path) -> None:
    prod = make_prod(server, *tables("a"))
    prod.administrate(
        f'GRANT "{prod.role}" TO "{prod.login}"', f'ALTER ROLE "{prod.login}" SET default_transaction_read_only = off'
    )
    with prod.prod.connect() as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(prod.role)))
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO a VALUES (-1)")

    dump(prod, tmp_path)

    assert prod.values("SELECT count(*) FROM a WHERE n < 0") == [0]


def test_a_locked_table_is_waited_for_briefly_and_its_holder_is_named(server: Server, tmp_path: Path) -> None:
    prod = make_prod(server, *tables("a", "b"))

    with connect(server.dsn(prod.name)) as migration, migration.transaction():
        migration.execute("SET LOCAL application_name = 'a migration'")
        migration.execute("LOCK TABLE b IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        with pytest.raises(PostgresError) as caught:
            dump(prod, tmp_path, lock_wait_timeout=timedelta(seconds=0.5))
        took = time.monotonic() - begun
        pid = migration.info.backend_pid
        assert prod.values("SELECT count(*) FROM pg_locks WHERE NOT granted") == [0]

    assert took < 5
    message, holder, hint = str(caught.value).split("\n")
    assert "others lock its tables for longer than 0:00:00.5" in message
    assert f"pid {pid}, login postgres, application a migration" in holder
    assert "b" in holder.rpartition(", ")[2]
    assert "prod.lock-wait-timeout" in hint


SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'erp-sandbox' AND datname = current_database()"


def test_a_time_limit_ends_the_dump_and_its_session(server: Server, tmp_path: Path) -> None:
    prod = make_prod(server, *tables("a"))
    with connect(server.dsn(prod.name)) as migration, migration.transaction():
        migration.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(PostgresError, match=r"pg_dump of prod, .* took longer than 0:00:00.6"):
            dump(prod, tmp_path, timeout=timedelta(seconds=0.6))
        assert children() == set()
        eventually(lambda: not prod.values(SESSIONS))


def test_ctrl_c_ends_the_dump_and_its_sessions(server: Server, tmp_path: Path) -> None:
    rows = "SELECT repeat(md5(n::text), 30) AS text FROM generate_series(1, 60000) AS n"
    prod = make_prod(server, *(f"CREATE TABLE t{n} AS {rows}" for n in range(3)))
    copying = f"{SESSIONS} AND query LIKE 'COPY%'"
    with interrupted_when(lambda: prod.values(copying)), pytest.raises(KeyboardInterrupt):
        dump(prod, tmp_path)

    assert children() == set()
    eventually(lambda: not prod.values(SESSIONS))


def test_row_level_security_that_hides_rows_is_refused_with_the_remedy(server: Server, tmp_path: Path) -> None:
    prod = make_prod(server, *tables("a"), "ALTER TABLE a ENABLE ROW LEVEL SECURITY")
    prod.administrate(f'ALTER ROLE "{prod.login}" NOBYPASSRLS')

    with pytest.raises(PostgresError, match=r"row-level security policy for table[\s\S]*→ Give prod's login BYPASSRLS"):
        dump(prod, tmp_path)


def test_a_missing_password_is_never_asked_for(server: Server, tmp_path: Path) -> None:
    prod = make_prod(server)
    command: list[str | Path] = [toolset(server.version).program("pg_dump"), f"--dbname={prod.prod.public_conninfo()}"]
    with pytest.raises(PostgresError, match=r"password"):
        run([*command, *_FORMAT, f"--file={tmp_path / 'dump'}"], {}, doing="a dump", timeout=PATIENCE)


def test_nobody_else_can_read_a_dump(server: Server, tmp_path: Path) -> None:
    archive = dump(make_prod(server, *tables("a")), tmp_path)

    assert stat.S_IMODE(archive.path.stat().st_mode) == 0o700


def test_progress_is_told_a_few_times_a_second_at_most(servers: Servers, tmp_path: Path) -> None:
    prod = make_prod(servers["15"], *tables(*(f"t{n}" for n in range(100))))
    told: list[tuple[int, int, float]] = []
    begun = time.monotonic()

    dump(prod, tmp_path, on_progress=lambda done, size: told.append((done, size, time.monotonic())))

    assert 0 < len(told) <= (time.monotonic() - begun) / 0.3 + 1
    assert all(0 <= done <= 100 for done, _, _ in told)


def test_progress_tells_bytes_that_grow(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_erp_sandbox.postgres.dump._BEAT", 0)  # at each line that pg_dump says
    rows = "SELECT md5(n::text) AS text FROM generate_series(1, 20000) AS n"
    prod = make_prod(servers["15"], *(f"CREATE TABLE t{n} AS {rows}" for n in range(3)))
    told: list[int] = []

    archive = dump(prod, tmp_path, jobs=1, on_progress=lambda _done, size: told.append(size))

    files = sorted(file.stat().st_size for file in archive.path.glob("*.dat.gz"))
    assert len(files) == 3
    assert told == sorted(told)
    assert told[0] < files[0]
    # When the last table's turn comes, the others are written.
    assert 2 * files[0] <= told[-1] <= sum(file.stat().st_size for file in archive.path.iterdir())


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_names_and_rows_survive_any_client_encoding(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    prod = make_prod(servers["15"], 'CREATE TABLE "ümläut €" (t text)', "INSERT INTO \"ümläut €\" VALUES ('€ 沙')")
    sandbox = make_sandbox(servers["15"])
    with monkeypatch.context() as environment:
        environment.setenv("PGCLIENTENCODING", encoding)
        with leased(sandbox) as lease:
            put(lease, dump(prod, tmp_path))

    assert fingerprint(sandbox.server.dsn(sandbox.name)) == fingerprint(prod.server.dsn(prod.name))


def test_a_sandbox_is_dumped_as_its_role(server: Server, tmp_path: Path) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE t (id integer)")
    to = tmp_path / "golden"

    with leased(sandbox) as lease:
        dump_sandbox(lease, to, toolset(18), jobs=2, on_progress=lambda _done, _size: None)

    assert [entry.name for entry in read_archive(to, [toolset(18)]).entries if entry.kind == "TABLE"] == ["t"]
