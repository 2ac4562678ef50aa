from __future__ import annotations

from functools import partial
from importlib import resources
from pathlib import Path

import psycopg
import pytest

from pytest_erp_sandbox.demo.generator import SMALL, fill
from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres.amending import Amendment
from pytest_erp_sandbox.postgres.clients import choose_clients
from pytest_erp_sandbox.postgres.connection import SandboxConnection

from ..servers import Servers
from .fingerprint import fingerprint
from .pairs import (
    SLOW_SESSIONS,
    SLOW_TO_RESTORE,
    Side,
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

NASTY = resources.files(__package__).joinpath("nasty.sql").read_text()
PAIRS = [("15", "15"), ("18", "18"), ("15", "18")]


@pytest.fixture(scope="module")
def prods(servers: Servers) -> dict[str, Side]:
    """A prod of Dolibarr's size and with objects of all sorts, on each server."""
    made = {}
    for version in ("15", "18"):
        prod = made[version] = make_prod(servers[version])
        demo = resources.files("pytest_erp_sandbox.demo")
        with psycopg.connect(prod.server.dsn(prod.name).get_secret_value()) as connection:
            connection.execute(f'SET ROLE "{prod.role}"'.encode())
            connection.execute(demo.joinpath("schema.sql").read_bytes() + demo.joinpath("data.sql").read_bytes())
            partial(fill, **SMALL)(connection)
            connection.execute(NASTY.encode())
    return made


def assert_same(copy: Side, original: Side) -> None:
    found, expected = (fingerprint(side.server.dsn(side.name)) for side in (copy, original))
    assert len(expected) > 3000
    different = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
    if copy.server.version != original.server.version:
        # The same view is written in another way.
        different -= {name for name in found.keys() & expected.keys() if name.startswith(("view ", "rule _RETURN"))}
    assert {name: (found.get(name), expected.get(name)) for name in different} == {}


@pytest.mark.parametrize(("prod_version", "sandbox_version"), PAIRS)
def test_all_of_schema_public_comes_back(
    prods: dict[str, Side], servers: Servers, prod_version: str, sandbox_version: str, tmp_path: Path
) -> None:
    prod, sandbox = prods[prod_version], make_sandbox(servers[sandbox_version])

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path))

    assert_same(sandbox, prod)


@pytest.mark.parametrize("version", ["15", "18"])
def test_tables_are_made_by_two_sessions_at_once(servers: Servers, version: str, tmp_path: Path) -> None:
    tables = [f"CREATE TABLE t{n} (id serial PRIMARY KEY)" for n in range(50)]
    prod, sandbox = make_prod(servers[version], NASTY, *tables), make_sandbox(servers[version])

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path))

    # As pg_restore makes them, each has a transaction of its own.
    assert sandbox.values("SELECT count(DISTINCT xmin::text) FROM pg_attrdef") == [2]
    keys = "SELECT count(DISTINCT xmin::text) FROM pg_constraint WHERE conname ~ '^t\\d+_pkey$'"
    assert sandbox.values(keys) == [2]
    found, expected = (fingerprint(side.server.dsn(side.name)) for side in (sandbox, prod))
    assert found == expected


def test_comments_come_back_where_no_table_has_rows(server: Server, tmp_path: Path) -> None:
    made = ["CREATE TABLE t (id serial PRIMARY KEY, u integer REFERENCES t)", "CREATE INDEX i ON t (u)"]
    objects = [
        "TABLE t",
        "COLUMN t.u",
        "CONSTRAINT t_pkey ON t",
        "CONSTRAINT t_u_fkey ON t",
        "INDEX i",
        "SEQUENCE t_id_seq",
    ]
    prod = make_prod(server, *made, *(f"COMMENT ON {each} IS 'a comment'" for each in objects))
    sandbox = make_sandbox(server)

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path))

    comments = "SELECT count(*) FROM pg_description WHERE description = 'a comment'"
    assert sandbox.values(comments) == [len(objects)]


def test_a_table_that_cannot_be_made_is_named_whatever_others_were_made(servers: Servers, tmp_path: Path) -> None:
    elsewhere = ["CREATE SCHEMA elsewhere", "CREATE TYPE elsewhere.mood AS ENUM ('fine')"]
    tables = [f"CREATE TABLE t{n} (id serial PRIMARY KEY)" for n in range(6)]
    prod = make_prod(servers["15"], *elsewhere, *tables, "CREATE TABLE u (mood elsewhere.mood)")
    sandbox = make_sandbox(servers["15"])

    with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
        put(lease, dump(prod, tmp_path))

    assert 'schema "elsewhere" does not exist' in str(caught.value)
    assert "TABLE u" in str(caught.value)


def test_newer_programs_restore_into_an_older_server(prods: dict[str, Side], servers: Servers, tmp_path: Path) -> None:
    prod, sandbox, only = prods["15"], make_sandbox(servers["15"]), [toolset(18)]
    clients = choose_clients(only, prod=15, sandbox=15)
    assert clients.newer_than_sandbox

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path, clients.prod), clients.sandbox)

    assert_same(sandbox, prod)


# Rows that no restore can load: the function does not find its table where search_path is empty.
PICKY = [
    "CREATE FUNCTION picky(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM 1 FROM allowed; RETURN true; END'",
    "CREATE TABLE allowed (id integer)",
    "CREATE TABLE secretive (word text CHECK (picky(word)))",
    "SET search_path = public; INSERT INTO secretive VALUES ('hush-hush')",
]

AMENDED = ["llx_const", "llx_user", "nothing of that name"]


@pytest.mark.parametrize(("server_version", "programs"), [("15", 15), ("15", 18), ("18", 18)])
def test_what_is_amended_is_the_only_difference(
    prods: dict[str, Side], servers: Servers, server_version: str, programs: int, tmp_path: Path
) -> None:
    prod, sandbox = prods[server_version], make_sandbox(servers[server_version])

    def amend(connection: SandboxConnection) -> None:
        connection.execute("UPDATE public.llx_const SET value = 'crêpe' WHERE name = 'MAIN_MONNAIE'")

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path, toolset(programs)), toolset(programs), amendment=Amendment(AMENDED, amend))

    assert sandbox.values("SELECT value FROM llx_const WHERE name = 'MAIN_MONNAIE'") == ["crêpe"]
    sandbox.execute("ALTER TABLE llx_const DISABLE TRIGGER USER")
    sandbox.execute("UPDATE llx_const SET value = 'EUR' WHERE name = 'MAIN_MONNAIE'")
    sandbox.execute("ALTER TABLE llx_const ENABLE TRIGGER USER")
    assert_same(sandbox, prod)


def test_a_row_that_cannot_be_amended_is_not_told(servers: Servers, tmp_path: Path) -> None:
    prod, sandbox = make_prod(servers["15"], *PICKY), make_sandbox(servers["15"])

    with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
        put(lease, dump(prod, tmp_path), amendment=Amendment(["secretive"], lambda _: None))

    assert 'into public.secretive: relation "allowed" does not exist' in str(caught.value)
    assert "hush-hush" not in str(caught.value)


def test_what_others_own_stays_as_it_is(server: Server, tmp_path: Path) -> None:
    prod = make_prod(
        server,
        "CREATE FUNCTION lookup(text) RETURNS text LANGUAGE sql AS 'SELECT ''prod''::text'",
        "CREATE FUNCTION lookup(integer) RETURNS text LANGUAGE sql AS 'SELECT ''prod''::text'",
        "CREATE TABLE seen (id serial PRIMARY KEY, who text UNIQUE)",
        "CREATE INDEX seen_who ON seen (who)",
        "INSERT INTO seen (who) VALUES ('prod')",
        "COMMENT ON TABLE seen IS 'prod''s'",
        'CREATE TABLE "seen too" (id integer)',
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        'CREATE TRIGGER touched BEFORE UPDATE ON "seen too" FOR EACH ROW EXECUTE FUNCTION touch()',
    )
    sandbox = make_sandbox(server)
    sandbox.administrate(
        "CREATE FUNCTION lookup(text) RETURNS text LANGUAGE sql AS 'SELECT ''provisioner''::text'",
        "CREATE FUNCTION lookup(boolean) RETURNS text LANGUAGE sql AS 'SELECT ''provisioner''::text'",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TABLE seen (who text)",
        "INSERT INTO seen VALUES ('provisioner')",
    )

    with leased(sandbox) as lease:
        for _ in range(2):
            put(lease, dump(prod, tmp_path))

            assert sandbox.values("SELECT who FROM seen") == ["provisioner"]
            assert sandbox.values(
                "SELECT lookup('a'::text) UNION ALL SELECT lookup(1) UNION ALL SELECT lookup(true)"
            ) == [
                "provisioner",
                "prod",
                "provisioner",
            ]
            assert sandbox.values("SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal") == ["touched"]
            assert sandbox.values("SELECT obj_description('seen'::regclass)") == [None]
            assert sandbox.values("SELECT count(*) FROM pg_class WHERE relname LIKE 'seen%'") == [2]


SHOP = [
    "CREATE TABLE customer (id serial PRIMARY KEY, name text UNIQUE, n integer GENERATED ALWAYS AS IDENTITY)",
    "CREATE INDEX by_name ON customer (lower(name))",
    "CREATE STATISTICS customer_numbers ON id, n FROM customer",
    "CREATE TABLE invoice (id serial PRIMARY KEY, customer integer REFERENCES customer)",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE FUNCTION touch(integer[]) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER touched BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE TRIGGER touched BEFORE UPDATE ON invoice FOR EACH ROW EXECUTE FUNCTION touch()",
    "COMMENT ON TABLE customer IS 'people'",
    "COMMENT ON INDEX by_name IS 'fast'",
    "ALTER TABLE customer ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE invoice ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY mine ON customer USING (true)",
    "CREATE POLICY mine ON invoice USING (true)",
    "COMMENT ON POLICY mine ON invoice IS 'mine'",
    "INSERT INTO customer (name) VALUES ('somebody')",
]
NAMES = """
SELECT relname::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'i')
UNION ALL SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype = 'f'
UNION ALL SELECT stxname FROM pg_statistic_ext
UNION ALL SELECT tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT polrelid::regclass || ' ' || polname FROM pg_policy
UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


@pytest.mark.parametrize(
    ("leave_out", "gone"),
    [
        (
            "public.customer",
            {
                "customer",
                "customer_id_seq",
                "customer_n_seq",
                "customer_pkey",
                "customer_name_key",
                "customer_numbers",
                "by_name",
                "invoice_customer_fkey",
                "customer touched",
                "customer mine",
            },
        ),
        ("public.touch()", {"touch()", "customer touched", "invoice touched"}),
        ("public.touch(integer[])", {"touch(integer[])"}),
        ("public.touch(*", {"touch()", "touch(integer[])", "customer touched", "invoice touched"}),
        ("public.invoice mine", {"invoice mine"}),
        ("public.by_name", {"by_name"}),
        ("public.cust", set()),
    ],
)
def test_what_is_left_out_goes_with_all_its_parts(
    servers: Servers, tmp_path: Path, leave_out: str, gone: set[str]
) -> None:
    prod, sandbox = make_prod(servers["15"], *SHOP), make_sandbox(servers["15"])

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path), leave_out=[leave_out])

    assert set(prod.values(NAMES)) - set(sandbox.values(NAMES)) == gone


def test_prods_own_grants_stay_behind(server: Server, tmp_path: Path) -> None:
    prod = make_prod(
        server,
        "CREATE TABLE t (id integer)",
        "GRANT ALL ON t TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    )
    sandbox = make_sandbox(server)

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path))

    assert sandbox.values("SELECT relacl FROM pg_class WHERE relname = 't'") == [None]
    assert sandbox.values("SELECT count(*) FROM pg_default_acl") == [0]


@pytest.mark.parametrize("programs", [15, 18])
def test_a_failure_is_named_by_its_first_cause_and_tells_no_rows(
    servers: Servers, tmp_path: Path, programs: int
) -> None:
    prod, sandbox = make_prod(servers["15"], *PICKY), make_sandbox(servers["15"])

    with leased(sandbox) as lease, pytest.raises(PostgresError) as caught:
        put(lease, dump(prod, tmp_path, toolset(programs)), toolset(programs))

    message = str(caught.value)
    assert 'relation "allowed" does not exist' in message
    assert "secretive" in message
    assert "hush-hush" not in message
    assert len(message.splitlines()) < 12


@pytest.mark.parametrize("programs", [15, 18])
def test_ctrl_c_ends_the_programs_and_their_sessions(servers: Servers, tmp_path: Path, programs: int) -> None:
    prod, sandbox = make_prod(servers["15"], *SLOW_TO_RESTORE), make_sandbox(servers["15"])
    archive = dump(prod, tmp_path, toolset(programs))

    with leased(sandbox) as lease:
        with interrupted_when(lambda: bool(sandbox.values(SLOW_SESSIONS))), pytest.raises(KeyboardInterrupt):
            put(lease, archive, toolset(programs))

        eventually(lambda: not sandbox.values(SLOW_SESSIONS))
        assert children() == set()
        lease.check()
