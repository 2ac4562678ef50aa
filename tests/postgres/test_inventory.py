from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.inventory import (
    Owned,
    OwnedCount,
    lost_by_wipe,
    not_allowed,
    object_counts,
    owns_anything,
    summarize,
    taken_by_wipe,
)

from ..servers import connect, run

Connection = psycopg.Connection[tuple[Any, ...]]

ROLE = "inventory_role"
OTHER = "inventory_bi"
DATABASE = "inventory"


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Server]:
    """A database of the role's, with a provisioner's function and somebody else who works in it too."""
    run(
        server.dsn(),
        f"CREATE ROLE {ROLE}",
        f"CREATE ROLE {OTHER}",
        f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
    )
    run(
        server.dsn(DATABASE),
        "CREATE FUNCTION public.user_lookup(text) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT $1'",
        f"GRANT CREATE ON SCHEMA public TO {OTHER}",
    )
    yield server
    run(server.dsn(), f"DROP DATABASE {DATABASE}", f"DROP ROLE {ROLE}", f"DROP ROLE {OTHER}")


@pytest.fixture
def connection(database: Server) -> Iterator[Connection]:
    """As the superuser, in a transaction that is rolled back."""
    with connect(database.dsn(DATABASE)) as made, made.transaction(force_rollback=True):
        yield made


def make(connection: Connection, statements: str, owner: str = ROLE) -> None:
    connection.execute(f"SET LOCAL ROLE {owner}".encode())
    connection.execute(statements.encode())
    connection.execute("RESET ROLE")


def labels(owned: list[Owned]) -> list[str]:
    return sorted(each.label for each in owned)


OWN = """
CREATE TABLE t (id serial PRIMARY KEY, big bigint GENERATED ALWAYS AS IDENTITY, ref text UNIQUE, tms timestamp);
CREATE INDEX t_tms ON t (tms);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.tms = now(); RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
CREATE VIEW v AS SELECT id FROM t;
CREATE TYPE mood AS ENUM ('fine', 'so so');
CREATE TYPE pair AS (a int, b int);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE child (id int PRIMARY KEY REFERENCES t);
CREATE TABLE parts (id int) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE INDEX ON parts (id);
CREATE STATISTICS s ON id, big FROM t;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON t USING (true);
CREATE RULE nothing AS ON DELETE TO t DO INSTEAD NOTHING;
CREATE SCHEMA audit;
CREATE TABLE audit.log (id int, what text);
CREATE EXTENSION tcn;
CREATE PUBLICATION p FOR TABLE t, child;
SELECT lo_create(0), lo_create(0);
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO inventory_bi;
GRANT ALL ON ALL TABLES IN SCHEMA public TO inventory_bi;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO inventory_bi;
GRANT ALL ON SCHEMA audit TO inventory_bi;
"""
OTHERS = """
CREATE VIEW report AS SELECT id FROM t;
CREATE VIEW report_of_report AS SELECT * FROM report;
CREATE MATERIALIZED VIEW cached AS SELECT id FROM t;
CREATE TABLE theirs (
    id int DEFAULT answer(), t int CONSTRAINT their_key REFERENCES t, n bigint DEFAULT nextval('t_id_seq'), how mood
);
ALTER TABLE theirs ENABLE ROW LEVEL SECURITY;
CREATE POLICY for_role ON theirs TO inventory_role USING (true);
CREATE POLICY by_function ON theirs USING (answer() = 42);
CREATE FUNCTION by_body() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM t; END;
CREATE FUNCTION by_argument(mood) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TRIGGER touched BEFORE UPDATE ON theirs FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE audit.entries (id int);
CREATE TABLE unrelated (id int PRIMARY KEY);
"""
SUPERUSERS = """
CREATE PUBLICATION everything FOR TABLE t, theirs;
CREATE CAST (mood AS int) WITH INOUT;
CREATE VIEW of_superuser AS SELECT id FROM t;
"""


@pytest.fixture
def estate(connection: Connection) -> Connection:
    """All kinds of things, of the role and of others."""
    make(connection, OWN)
    make(connection, OTHERS, OTHER)
    connection.execute(SUPERUSERS.encode())
    return connection


def drop_owned(connection: Connection) -> tuple[set[str], set[str]]:
    """Drop, and what PostgreSQL itself says of it: all that went, and what of it was more than a part of something."""
    connection.execute(
        """
        CREATE TABLE pg_temp.dropped (identity text, whole bool);
        GRANT INSERT ON pg_temp.dropped TO PUBLIC;
        CREATE FUNCTION pg_temp.note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO pg_temp.dropped
            SELECT object_identity, original OR normal FROM pg_event_trigger_dropped_objects();
        END $$;
        CREATE EVENT TRIGGER note ON sql_drop EXECUTE FUNCTION pg_temp.note();
        """
    )
    make(connection, f"DROP OWNED BY {ROLE} CASCADE")
    rows = connection.execute("SELECT * FROM pg_temp.dropped").fetchall()
    return {identity for identity, _ in rows}, {identity for identity, whole in rows if whole}


def test_what_is_listed_is_what_the_server_drops(estate: Connection) -> None:
    listed = taken_by_wipe(estate, ROLE)
    members = {owned.name for owned in listed if owned.kind == "publication member"}
    names = {owned.name for owned in listed if owned.kind != "publication member"}

    dropped, wholes = drop_owned(estate)

    assert members == {"p", "everything"}
    assert not names - dropped
    parts = {"public.t_big_seq", "public.triggered_change_notification()"}
    unlisted = wholes - names - parts
    assert not {name for name in unlisted if '"_RETURN" on' not in name and " in publication " not in name}


def test_each_object_is_listed_with_its_owner(estate: Connection) -> None:
    listed = {owned.label: (owned.schema, owned.owner) for owned in taken_by_wipe(estate, ROLE)}

    assert listed["table public.t"] == ("public", ROLE)
    assert listed["trigger touched on public.t"] == ("public", ROLE)
    assert listed["trigger touched on public.theirs"] == ("public", OTHER)
    assert listed["view public.of_superuser"] == ("public", "postgres")
    assert listed["table audit.log"] == ("audit", ROLE)
    assert listed["table audit.entries"] == ("audit", OTHER)
    assert listed["schema audit"] == (None, ROLE)
    assert listed["extension tcn"] == (None, ROLE)
    assert listed["publication member everything"] == (None, "postgres")
    assert listed["cast (public.mood AS integer)"] == (None, "")
    assert "table public.unrelated" not in listed
    assert "function public.user_lookup(text)" not in listed


def test_the_summary_counts_by_schema_kind_and_owner(estate: Connection) -> None:
    summary = summarize(taken_by_wipe(estate, ROLE))

    assert OwnedCount("public", "table", ROLE, 4) in summary
    assert OwnedCount("public", "view", OTHER, 2) in summary
    assert OwnedCount(None, "large objects", ROLE, 2) in summary
    assert sum(row.objects for row in summary) == len(taken_by_wipe(estate, ROLE))


def test_a_loss_is_what_a_dump_of_public_does_not_give_back(estate: Connection) -> None:
    lost = lost_by_wipe(estate, ROLE)

    assert labels(lost) == sorted(
        [
            "cast (public.mood AS integer)",
            "column public.theirs.how",
            "constraint their_key on public.theirs",
            "default for public.theirs.id",
            "default for public.theirs.n",
            "extension tcn",
            "function public.by_argument(public.mood)",
            "function public.by_body()",
            "large objects",
            "materialized view public.cached",
            "policy by_function on public.theirs",
            "policy for_role on public.theirs",
            "publication everything",
            "publication p",
            "schema audit",
            "trigger touched on public.theirs",
            "view public.of_superuser",
            "view public.report",
            "view public.report_of_report",
        ]
    )
    objects = {owned.label: owned.objects for owned in lost}
    assert (objects["schema audit"], objects["publication p"], objects["large objects"]) == (2, 2, 2)
    assert str(next(owned for owned in lost if owned.kind == "schema")) == f"schema audit (2 objects, of {ROLE})"


def test_nothing_of_the_roles_own_in_public_is_a_loss(connection: Connection) -> None:
    make(connection, OWN.split("CREATE SCHEMA")[0])
    make(connection, "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO inventory_bi")
    assert lost_by_wipe(connection, ROLE) == []


def test_an_extension_that_can_be_made_again_is_no_loss(connection: Connection) -> None:
    make(connection, "CREATE EXTENSION citext; CREATE TABLE t (name citext PRIMARY KEY)")
    assert labels(lost_by_wipe(connection, ROLE)) == ["extension citext"]
    assert lost_by_wipe(connection, ROLE, restorable_extensions=["citext"]) == []


def test_an_extension_goes_with_a_member_that_is_the_roles(connection: Connection) -> None:
    connection.execute("CREATE EXTENSION tcn")
    connection.execute(f"ALTER FUNCTION triggered_change_notification OWNER TO {ROLE}".encode())
    assert [str(owned) for owned in lost_by_wipe(connection, ROLE)] == ["extension tcn (of postgres)"]


def test_others_objects_go_with_a_schema_public_that_is_the_roles(connection: Connection) -> None:
    connection.execute(f"ALTER SCHEMA public OWNER TO {ROLE}".encode())
    assert labels(lost_by_wipe(connection, ROLE)) == ["function public.user_lookup(text)"]


def test_a_foreign_server_is_a_loss_with_its_user_mapping(connection: Connection) -> None:
    connection.execute("CREATE EXTENSION postgres_fdw")
    connection.execute(f"GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO {ROLE}".encode())
    make(
        connection,
        f"CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw; CREATE USER MAPPING FOR {ROLE} SERVER elsewhere",
    )
    assert labels(lost_by_wipe(connection, ROLE)) == [
        "foreign server elsewhere",
        f"user mapping {ROLE} on server elsewhere",
    ]


def test_odd_names_are_written_as_postgresql_writes_them(connection: Connection) -> None:
    make(connection, 'CREATE SCHEMA "My Audit"; CREATE TABLE "My Audit"."Log" (id int); CREATE TABLE "%s" (id int)')
    assert labels(taken_by_wipe(connection, ROLE)) == [
        'schema "My Audit"',
        'table "My Audit"."Log"',
        'table public."%s"',
    ]
    assert labels(lost_by_wipe(connection, ROLE)) == ['schema "My Audit"']


def test_temporary_tables_are_nobodys_loss(connection: Connection) -> None:
    make(connection, "CREATE TEMPORARY TABLE scratch (id int)")
    assert taken_by_wipe(connection, ROLE) == []


@pytest.mark.parametrize(
    ("may_lose", "refused"),
    [
        ([], ["function public.f(integer[])", "schema audit", "view reports.monthly"]),
        (["schema audit"], ["function public.f(integer[])", "view reports.monthly"]),
        (["schema audit", "view reports.*"], ["function public.f(integer[])"]),
        (["function public.f(integer[])"], ["schema audit", "view reports.monthly"]),
        (["Schema Audit", "view"], ["function public.f(integer[])", "schema audit", "view reports.monthly"]),
        (["*"], []),
    ],
)
def test_may_lose_takes_labels_and_patterns(may_lose: list[str], refused: list[str]) -> None:
    lost = [
        Owned("function", "public", "public.f(integer[])", OTHER),
        Owned("schema", None, "audit", ROLE, 12),
        Owned("view", "reports", "reports.monthly", OTHER),
    ]
    assert labels(not_allowed(lost, may_lose)) == refused


def test_objects_are_counted_by_kind(connection: Connection) -> None:
    make(connection, OWN)
    make(connection, OTHERS, OTHER)
    assert object_counts(connection, ROLE) == {
        "tables": 4,
        "indexes": 6,
        "sequences": 2,
        "views": 1,
        "constraints": 4,
        "triggers": 1,
        "functions": 2,
        "types": 3,
    }
    assert object_counts(connection, ROLE, "audit")["tables"] == 1


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DROP TABLE part", "tables"),
        ("DROP INDEX t_tms", "indexes"),
        ("DROP VIEW v", "views"),
        ("ALTER TABLE child DROP CONSTRAINT child_id_fkey", "constraints"),
        ("DROP TRIGGER touched ON t", "triggers"),
        ("DROP FUNCTION answer", "functions"),
        ("DROP TYPE mood", "types"),
        ("DROP SEQUENCE t_id_seq CASCADE", "sequences"),
    ],
)
def test_a_missing_object_shows_in_the_counts(connection: Connection, statement: str, kind: str) -> None:
    make(connection, OWN)
    before = object_counts(connection, ROLE)
    make(connection, statement)
    assert object_counts(connection, ROLE)[kind] == before[kind] - 1


@pytest.mark.parametrize(
    ("statement", "owns"),
    [
        ("", False),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", False),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", True),
        ("CREATE SCHEMA empty", True),
        ("SELECT lo_create(0)", True),
    ],
)
def test_a_role_owns_something_that_could_be_lost(connection: Connection, statement: str, owns: bool) -> None:
    make(connection, statement)
    assert owns_anything(connection, ROLE) is owns


def test_an_empty_schema_public_of_the_roles_is_nothing_that_could_be_lost(connection: Connection) -> None:
    connection.execute(f"ALTER SCHEMA public OWNER TO {ROLE}".encode())
    assert not owns_anything(connection, ROLE)
