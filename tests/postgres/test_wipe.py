from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from importlib import resources
from pathlib import Path

import psycopg
import pytest

from pytest_erp_sandbox.demo.generator import SMALL, fill
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.errors import LeaseError, NotASandboxError, PostgresError
from pytest_erp_sandbox.postgres.adoption import require_mark, write_mark
from pytest_erp_sandbox.postgres.connection import SandboxConnection, as_owner
from pytest_erp_sandbox.postgres.grants import give_grants
from pytest_erp_sandbox.postgres.locks import lock_slots, locks_to_wipe
from pytest_erp_sandbox.postgres.wipe import wipe

from ..servers import SETTINGS, Servers, connect
from .fingerprint import fingerprint
from .pairs import PATIENCE, Side, dump, leased, make_prod, make_sandbox, mark, put

TABLES = (
    "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('public') AND relkind = 'r' ORDER BY 1"
)
AT_ONCE = timedelta(milliseconds=300)


def test_everything_of_the_roles_goes_and_nothing_else(server: Server) -> None:
    sandbox = make_sandbox(
        server,
        "CREATE TABLE t (id serial PRIMARY KEY)",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE TYPE mood AS ENUM ('x')",
    )
    sandbox.administrate(
        "CREATE TABLE theirs (id integer)", "CREATE FUNCTION lookup() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )

    with leased(sandbox) as lease:
        wipe(lease, lock_timeout=PATIENCE)

    assert fingerprint(server.dsn(sandbox.name)).keys() == {
        "table public.theirs",
        "type public.theirs",
        "type public.theirs[]",
        "function public.lookup()",
        "rows of theirs",
    }


def test_a_database_that_was_not_adopted_is_left_alone(server: Server) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE precious (id integer)", adopted=False)

    with leased(sandbox) as lease, pytest.raises(NotASandboxError, match="not marked as a sandbox"):
        wipe(lease, lock_timeout=PATIENCE)

    assert sandbox.values(TABLES) == ["precious"]


def test_a_mark_that_is_taken_away_while_the_wipe_begins_stops_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE precious (id integer)")
    with leased(sandbox) as lease:
        # The last question before the transaction that wipes.
        def take_mark_away(*arguments: object) -> int:
            sandbox.administrate(f'COMMENT ON DATABASE "{sandbox.name}" IS NULL')
            return 0

        monkeypatch.setattr("pytest_erp_sandbox.postgres.wipe.locks_to_wipe", take_mark_away)
        with pytest.raises(NotASandboxError):
            wipe(lease, lock_timeout=PATIENCE)

    assert sandbox.values(TABLES) == ["precious"]


def test_a_lost_lease_stops_it(server: Server) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE precious (id integer)")
    with leased(sandbox) as lease:
        sandbox.administrate(f"SELECT pg_terminate_backend({lease.connection.info.backend_pid}, 5000)")
        with pytest.raises(LeaseError, match=f"the hold on '{sandbox.name}' at .* was lost"):
            wipe(lease, lock_timeout=PATIENCE)

    with leased(sandbox) as lease:
        lease.connection.execute("SELECT pg_advisory_unlock_all()")
        with pytest.raises(LeaseError, match="the session has no lock"):
            wipe(lease, lock_timeout=PATIENCE)

    assert sandbox.values(TABLES) == ["precious"]


def test_the_mark_says_that_there_is_no_baseline_in_the_same_transaction(server: Server) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE t (id integer)", "GRANT SELECT ON t TO PUBLIC")
    with sandbox.sandbox.connect() as connection, as_owner(connection, sandbox.role):
        write_mark(connection, require_mark(connection), baseline="whole", kept="run")

    with connect(server.dsn(sandbox.name)) as application, application.transaction():
        application.execute("LOCK TABLE t IN ACCESS SHARE MODE")
        with leased(sandbox) as lease, pytest.raises(PostgresError):
            wipe(lease, lock_timeout=AT_ONCE)
    assert "baseline=whole kept=run" in str(mark(sandbox))

    with leased(sandbox) as lease:
        wipe(lease, lock_timeout=PATIENCE)
    assert re.search(r"adopted=\S+ grants=\S+$", str(mark(sandbox)))


def test_an_open_transaction_is_named_and_the_sandbox_is_unharmed(server: Server) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE a (id integer)", "CREATE TABLE b (id integer)")
    before = fingerprint(server.dsn(sandbox.name))

    with sandbox.sandbox.connect("shop") as application, application.transaction():
        application.execute(f'SET LOCAL ROLE "{sandbox.role}"'.encode())
        application.execute("INSERT INTO b VALUES (1)")
        with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
            wipe(lease, lock_timeout=AT_ONCE)
        pid = application.info.backend_pid
        raise psycopg.Rollback

    assert f"pid {pid}, login {sandbox.login}, application shop, idle in transaction, transaction open for" in str(
        caught.value
    )
    assert str(caught.value).count("pid") == 1
    assert fingerprint(server.dsn(sandbox.name)) == before


def test_another_logins_open_transaction_is_named_although_its_details_are_hidden(server: Server) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE a (id integer)")

    with connect(server.dsn(sandbox.name)) as superuser, superuser.transaction():
        superuser.execute("SET application_name = 'a report'")
        superuser.execute("SELECT * FROM a")
        with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
            wipe(lease, lock_timeout=AT_ONCE)
        pid = superuser.info.backend_pid

    assert f"pid {pid}, login postgres, application a report, state hidden" in str(caught.value)


@pytest.mark.parametrize("batches", [False, True])
def test_who_only_has_something_of_others_open_is_not_in_the_way(
    server: Server, monkeypatch: pytest.MonkeyPatch, batches: bool
) -> None:
    sandbox = make_sandbox(server, *(f"CREATE TABLE t{n} (id serial PRIMARY KEY)" for n in range(60)))
    sandbox.administrate("CREATE TABLE theirs (id integer)")
    if batches:
        monkeypatch.setattr("pytest_erp_sandbox.postgres.wipe.lock_slots", lambda _: 1)

    with connect(server.dsn(sandbox.name)) as other, other.transaction():
        other.execute("SELECT * FROM theirs")
        with leased(sandbox) as lease:
            wipe(lease, lock_timeout=AT_ONCE)

    assert sandbox.values(TABLES) == ["theirs"]


def test_a_schema_public_that_was_the_roles_is_there_again(server: Server) -> None:
    sandbox = make_sandbox(server)
    sandbox.administrate(f'ALTER SCHEMA public OWNER TO "{sandbox.role}"', "CREATE ROLE reader_of_public")
    try:
        sandbox.execute(
            "GRANT USAGE ON SCHEMA public TO reader_of_public WITH GRANT OPTION",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC",
            "CREATE TABLE t (id integer)",
        )
        acl = sandbox.values(SCHEMA_ACL)

        with leased(sandbox) as lease:
            wipe(lease, lock_timeout=PATIENCE)
            restored_grants(lease.connection, sandbox)

        assert sandbox.values("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'") == [
            f'"{sandbox.role}"'
        ]
        assert sandbox.values(SCHEMA_ACL) == acl
        sandbox.execute("CREATE TABLE public.u (id integer)")
    finally:
        sandbox.administrate("DROP OWNED BY reader_of_public", "DROP ROLE reader_of_public")


SCHEMA_ACL = "SELECT acl::text FROM pg_namespace, unnest(nspacl) AS acl WHERE nspname = 'public' ORDER BY 1"


def restored_grants(connection: SandboxConnection, sandbox: Side) -> None:
    with as_owner(connection, sandbox.role):
        record = require_mark(connection).grants
        assert record is not None
        give_grants(connection, record)


def test_a_prepared_transaction_in_the_way_is_named_with_what_ends_it(server: Server) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE precious (id integer)")
    with connect(sandbox.server.dsn(sandbox.name)) as application:
        application.execute("BEGIN; INSERT INTO precious VALUES (1); PREPARE TRANSACTION 'of an ''app'")
        with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
            wipe(lease, lock_timeout=timedelta(milliseconds=300))
        remedy = re.search(r"ROLLBACK PREPARED '.*'(?= ends)", str(caught.value))
        assert remedy is not None, str(caught.value)
        assert str(caught.value).count("precious") == 1
        application.execute(remedy[0].encode())
    with leased(sandbox) as lease:
        wipe(lease, lock_timeout=PATIENCE)
    assert sandbox.values(TABLES) == []


def test_what_a_login_made_for_itself_is_refused_by_name_before_anything_is_dropped(server: Server) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE precious (id integer)", "CREATE SCHEMA extra")
    sandbox.administrate(f'GRANT CREATE ON SCHEMA public, extra TO "{sandbox.login}"')
    sandbox.execute(
        "CREATE TABLE stray (id serial)",
        "CREATE FUNCTION extra.stray() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        role=sandbox.login,
    )

    with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
        wipe(lease, lock_timeout=PATIENCE)

    assert f"{sandbox.login} owns function extra.stray(), " in str(caught.value)
    assert "table public.stray" in str(caught.value)
    assert sandbox.values(TABLES) == ["precious", "stray"]

    remedies = re.findall(r"(?:ALTER ROLE|REASSIGN OWNED) [^;]*;", str(caught.value))
    assert len(remedies) == 2
    sandbox.administrate(*remedies)
    with leased(sandbox) as lease:
        wipe(lease, lock_timeout=PATIENCE)
    assert sandbox.values(TABLES) == []


def test_what_administrators_and_strangers_own_is_theirs(server: Server) -> None:
    sandbox = make_sandbox(server, "CREATE TABLE t (id integer)")
    sandbox.administrate(
        "CREATE ROLE provisioner_of_wipe LOGIN CREATEROLE",
        "CREATE ROLE stranger_of_wipe LOGIN",
        f'GRANT "{sandbox.role}" TO provisioner_of_wipe',
        "GRANT CREATE ON SCHEMA public TO provisioner_of_wipe, stranger_of_wipe",
    )
    try:
        sandbox.execute("CREATE TABLE provisioned (id integer)", role="provisioner_of_wipe")
        sandbox.execute("CREATE TABLE strange (id integer)", role="stranger_of_wipe")

        with leased(sandbox) as lease:
            wipe(lease, lock_timeout=PATIENCE)

        assert sandbox.values(TABLES) == ["provisioned", "strange"]
    finally:
        sandbox.administrate(
            "DROP OWNED BY provisioner_of_wipe, stranger_of_wipe", "DROP ROLE provisioner_of_wipe, stranger_of_wipe"
        )


@pytest.fixture(scope="module", params=["15", "18"])
def narrow_server(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Server]:
    """A server with room for few locks."""
    folder = server_folder(f"erp-sandbox-tests-narrow-{request.param}-{os.getpid()}")
    settings = {**SETTINGS, "max_connections": "20", "max_locks_per_transaction": "16"}
    with Server(folder / "server", servers[request.param].programs, settings=settings) as running:
        yield running
        running.stop("immediate")
    shutil.rmtree(folder)


def test_a_server_with_too_few_lock_slots_is_wiped_and_filled_all_the_same(
    narrow_server: Server, servers: Servers, tmp_path: Path
) -> None:
    prod = make_prod(servers[str(narrow_server.version)])
    demo = resources.files("pytest_erp_sandbox.demo")
    with connect(prod.server.dsn(prod.name)) as connection:
        connection.execute(f'SET ROLE "{prod.role}"'.encode())
        connection.execute(demo.joinpath("schema.sql").read_bytes() + demo.joinpath("data.sql").read_bytes())
        partial(fill, **SMALL)(connection)
    sandbox = make_sandbox(narrow_server)

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path))
        assert fingerprint(sandbox.server.dsn(sandbox.name)) == fingerprint(prod.server.dsn(prod.name))
        assert locks_to_wipe(lease.connection, sandbox.role) > 2 * lock_slots(lease.connection)

        wipe(lease, lock_timeout=PATIENCE)

    assert fingerprint(sandbox.server.dsn(sandbox.name)) == {}


MANY = {
    "sequences": ["CREATE SEQUENCE {name}"],
    "views": ["CREATE VIEW {name} AS SELECT 1 AS one", "CREATE MATERIALIZED VIEW {name} AS SELECT 1 AS one"],
    "routines": [
        "CREATE FUNCTION {name}(text[], VARIADIC int[]) RETURNS int LANGUAGE sql AS ''SELECT 1''",
        "CREATE PROCEDURE {name}(INOUT int) LANGUAGE sql AS ''SELECT 1''",
        "CREATE AGGREGATE {name}(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = ''0'')",
    ],
    "types": [
        "CREATE DOMAIN {name} AS int",
        "CREATE TYPE {name} AS ENUM (''one'')",
        "CREATE TYPE {name} AS (one int)",
        "CREATE TYPE {name} AS RANGE (SUBTYPE = int)",
    ],
}


@pytest.mark.parametrize("kind", MANY)
def test_whatever_there_is_too_much_of_goes_in_batches(narrow_server: Server, kind: str) -> None:
    statements = MANY[kind]
    makes = " ".join(
        # Names that need quotes.
        f"EXECUTE format('{each.format(name='%1$I')}', '{number} ' || i);"
        for number, each in enumerate(statements)
    )
    sandbox = make_sandbox(
        narrow_server,
        # Not at once: to make them takes locks, too.
        f"DO $$ BEGIN FOR i IN 1..{2500 // len(statements)} LOOP {makes}"
        " IF i % 20 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    )

    with leased(sandbox) as lease:
        with pytest.raises(psycopg.errors.OutOfMemory), as_owner(lease.connection, sandbox.role):
            lease.connection.execute(f'DROP OWNED BY "{sandbox.role}"'.encode())
        wipe(lease, lock_timeout=PATIENCE)

    assert fingerprint(sandbox.server.dsn(sandbox.name)) == {}


def test_what_has_more_parts_than_there_are_lock_slots_gets_the_remedy(narrow_server: Server) -> None:
    columns = ", ".join(f"c{n} int DEFAULT 1 CHECK (c{n} > 0)" for n in range(1500))
    sandbox = make_sandbox(narrow_server, "CREATE TABLE small ()", f"CREATE TABLE broad ({columns})")

    with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
        wipe(lease, lock_timeout=PATIENCE)

    assert re.search(r"cannot be wiped: out of shared memory.*\n.*raise max_locks_per_transaction", str(caught.value))
    assert sandbox.values(TABLES) == ["broad", "small"]
