from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_erp_sandbox.postgres.archive import Archive, read_archive
from pytest_erp_sandbox.postgres.clients import installed_toolsets
from pytest_erp_sandbox.postgres.inventory import not_allowed
from pytest_erp_sandbox.postgres.portable import Obstacle, obstacles_in_archive, obstacles_in_prod

from ..servers import Servers
from .fingerprint import fingerprint
from .pairs import Side, dump, leased, make_prod, make_sandbox, put, toolset
from .test_restore import NASTY

SUPERUSERS = [
    "CREATE FOREIGN DATA WRAPPER nothing",
    "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing",
    'CREATE FOREIGN TABLE "far away" (id integer) SERVER elsewhere',
    "CREATE FUNCTION c(integer) RETURNS integer LANGUAGE internal AS 'int4abs'",
    "CREATE FUNCTION c(text[]) RETURNS bigint LANGUAGE sql LEAKPROOF AS 'SELECT 1::bigint'",
    "CREATE PROCEDURE \"p q\"() LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION fine() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    "CREATE TABLE guarded (id integer)",
    'CREATE TABLE "my, table" (id integer)',
    "CREATE TABLE forced (id integer)",
    "ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY open ON guarded USING (true)",
    'CREATE POLICY mine ON guarded FOR SELECT TO "gone, role" USING (true)',
    'CREATE POLICY "a TO b" ON "my, table" AS RESTRICTIVE FOR UPDATE TO known_role, gone_role'
    " USING (true) WITH CHECK (true)",
    "CREATE POLICY known ON guarded FOR DELETE TO known_role, CURRENT_USER USING (id IN (SELECT 1))",
    "CREATE OPERATOR FAMILY family USING btree",
    "CREATE TYPE two AS (a integer, b integer)",
    "CREATE FUNCTION to_two(integer) RETURNS two LANGUAGE sql AS 'SELECT $1, $1'",
    "CREATE CAST (integer AS two) WITH FUNCTION to_two(integer)",
    "CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    'CREATE EVENT TRIGGER "on ddl" ON ddl_command_end EXECUTE FUNCTION on_ddl()',
    'ALTER EVENT TRIGGER "on ddl" DISABLE',
    "SELECT lo_create(0)",
]
IN_ARCHIVE = {
    "foreign table public.far away": "only a superuser",
    "operator family public.family": "only a superuser",
    "function public.c(integer)": "language internal is missing there, or not an ordinary owner's to use",
    "function public.c(text[])": "only a superuser makes one that is LEAKPROOF",
    "policy mine on public.guarded": 'there is no role "gone, role"',
    'policy "a TO b" on public."my, table"': "there is no role gone_role",
    "table public.forced": "its owner could not dump all of it again",
}
IN_PROD = {
    'event trigger "on ddl"': "only a superuser",
    "large objects": "they belong to no schema",
    "cast (integer AS public.two)": "it belongs to no schema",
}


@pytest.fixture(scope="module")
def prod(servers: Servers) -> Side:
    """A prod in which a superuser has been at work; and all that an owner makes."""
    made = make_prod(servers["15"], NASTY)
    made.administrate("CREATE ROLE known_role", 'CREATE ROLE "gone, role"', "CREATE ROLE gone_role", *SUPERUSERS)
    return made


@pytest.fixture(scope="module")
def archive(prod: Side, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return dump(prod, tmp_path_factory.mktemp("portable"))


@pytest.fixture
def sandbox(servers: Servers) -> Side:
    """On a server that knows only one of the roles."""
    made = make_sandbox(servers["18"])
    if not made.values("SELECT 1 FROM pg_roles WHERE rolname = 'known_role'"):
        made.administrate("CREATE ROLE known_role")
    return made


def found_in(archive: Archive, sandbox: Side) -> list[Obstacle]:
    with sandbox.sandbox.connect() as connection:
        return obstacles_in_archive(archive, toolset(18), connection, sandbox.role)


def as_told(obstacles: list[Obstacle]) -> dict[str, str]:
    assert len({obstacle.label for obstacle in obstacles}) == len(obstacles)
    return {obstacle.label: obstacle.reason for obstacle in obstacles}


def test_what_an_owner_cannot_make_is_named_and_nothing_else(archive: Archive, sandbox: Side) -> None:
    told = as_told(found_in(archive, sandbox))

    assert told.keys() == IN_ARCHIVE.keys()
    assert not {label: reason for label, reason in told.items() if IN_ARCHIVE[label] not in reason}


def test_what_no_dump_of_one_schema_has_is_named(prod: Side, servers: Servers) -> None:
    with prod.prod.connect() as connection:
        told = as_told(obstacles_in_prod(connection))
    assert told.keys() == IN_PROD.keys()
    assert not {label: reason for label, reason in told.items() if IN_PROD[label] not in reason}

    with make_prod(servers["18"], NASTY).prod.connect() as connection:
        assert obstacles_in_prod(connection) == []


ACROSS = [
    "CREATE SCHEMA audit",
    "CREATE TABLE audit.seen (id integer PRIMARY KEY)",
    "CREATE TYPE audit.mood AS ENUM ('fine')",
    "CREATE FUNCTION audit.one() RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TABLE own (id integer, seen integer REFERENCES audit.seen, other text DEFAULT 'x')",
    'CREATE TABLE "m m" (mood audit.mood)',
    "CREATE TABLE due (id integer DEFAULT audit.one(), CHECK (id > audit.one()))",
    "CREATE INDEX own_one ON own ((id + audit.one()))",
    "CREATE TRIGGER noted BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION audit.note()",
    "CREATE POLICY few ON own USING (id > audit.one())",
    "CREATE VIEW seen AS SELECT * FROM audit.seen",
    "CREATE VIEW owned AS SELECT * FROM own",
    "CREATE FUNCTION moody(audit.mood) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE TABLE audit.inner_ones (mood audit.mood, id integer REFERENCES audit.seen)",
]

NEEDING = {
    "table public.due": "audit.one()",
    "table constraint own_seen_fkey on public.own": "audit.seen",
    'table public."m m"': "audit.mood",
    "index public.own_one": "audit.one()",
    "trigger noted on public.own": "audit.note()",
    "policy few on public.own": "audit.one()",
    "view public.seen": "audit.seen",
    "function public.moody(audit.mood)": "audit.mood",
}


@pytest.mark.parametrize("version", ["15", "18"])
def test_what_needs_another_schema_of_prods_is_named_and_can_be_left_out(
    servers: Servers, version: str, tmp_path: Path
) -> None:
    prod, sandbox = make_prod(servers[version], *ACROSS), make_sandbox(servers[version])
    with prod.prod.connect() as connection:
        obstacles = obstacles_in_prod(connection)
    told = as_told(obstacles)
    assert told.keys() == NEEDING.keys()
    assert not {label: reason for label, reason in told.items() if f"it needs {NEEDING[label]}" not in reason}

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path), leave_out=[obstacle.object for obstacle in obstacles])
    there = fingerprint(sandbox.server.dsn(sandbox.name))
    assert {"table public.own", "view public.owned"} <= there.keys()
    assert not [name for name in there if "audit" in name or "noted" in name or "m m" in name]


def test_a_dump_of_a_whole_database_has_them_all(prod: Side, sandbox: Side, tmp_path: Path) -> None:
    file = tmp_path / "whole.dump"
    dsn = prod.server.dsn(prod.name).get_secret_value()
    subprocess.run([str(toolset(15).program("pg_dump")), "-Fc", f"--file={file}", dsn], check=True)

    told = as_told(found_in(read_archive(file, installed_toolsets()), sandbox))

    assert {label.replace('"', "") for label in told} == {label.replace('"', "") for label in IN_ARCHIVE | IN_PROD}


def test_what_may_be_lost_is_left_out_and_the_rest_is_restored(archive: Archive, prod: Side, sandbox: Side) -> None:
    obstacles = found_in(archive, sandbox)
    patterns = [
        "foreign table *",
        "function public.c(text[])",
        "function public.c(i*",
        "policy * on *",
        "table *",
        "operator family public.family",
    ]
    assert [each.label for each in not_allowed(obstacles, patterns[1:])] == ["foreign table public.far away"]
    assert not_allowed(obstacles, patterns) == []

    with leased(sandbox) as lease:
        put(lease, archive, leave_out=[obstacle.object for obstacle in obstacles])

    before, after = (fingerprint(side.server.dsn(side.name)) for side in (prod, sandbox))
    gone = {name for name in before.keys() - after.keys() if not name.startswith(("type", "rows of"))}
    assert gone == {
        'foreign table public."far away"',
        "function public.c(integer)",
        "function public.c(text[])",
        "policy mine on table public.guarded",
        'policy a TO b on table public."my, table"',
        "table public.forced",
    }


def test_what_a_superuser_has_prepared_in_the_sandbox_is_no_obstacle(archive: Archive, sandbox: Side) -> None:
    sandbox.administrate(
        "CREATE FUNCTION c(integer) RETURNS integer LANGUAGE internal AS 'int4abs'",
        "CREATE FOREIGN DATA WRAPPER nothing",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing",
        'CREATE FOREIGN TABLE "far away" (id integer) SERVER elsewhere',
    )

    told = as_told(found_in(archive, sandbox))

    assert IN_ARCHIVE.keys() - told.keys() == {"function public.c(integer)", "foreign table public.far away"}
