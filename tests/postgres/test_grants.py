from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.adoption import require_mark
from pytest_erp_sandbox.postgres.connection import as_owner
from pytest_erp_sandbox.postgres.grants import give_grants
from pytest_erp_sandbox.postgres.lease import Lease
from pytest_erp_sandbox.postgres.wipe import wipe

from .pairs import PATIENCE, Side, dump, leased, make_prod, make_sandbox, put

OBJECTS = [
    'CREATE TABLE "T 1" (id serial PRIMARY KEY, "a b" text, c text)',
    "CREATE VIEW v AS SELECT 1 AS x",
    "CREATE FUNCTION f(integer) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION denied() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'",
    "CREATE AGGREGATE total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0')",
    "CREATE TYPE mood AS ENUM ('fine')",
    "CREATE DOMAIN positive AS integer",
]
DEFAULTS = [
    'ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO "a reader" WITH GRANT OPTION',
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
    'ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO "a reader"',
    'ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO "a reader"',
    'ALTER DEFAULT PRIVILEGES IN SCHEMA theirs GRANT SELECT ON TABLES TO "a reader"',
]
GRANTS = [
    'GRANT SELECT, INSERT ON "T 1" TO "a reader"',
    'GRANT UPDATE ON "T 1" TO "a reader" WITH GRANT OPTION',
    'GRANT UPDATE ("a b", c), SELECT (id) ON "T 1" TO PUBLIC',
    'GRANT USAGE ON "T 1_id_seq" TO "a reader"',
    "GRANT SELECT ON v TO PUBLIC",
    'GRANT EXECUTE ON FUNCTION f(text) TO "a reader"',
    "REVOKE EXECUTE ON FUNCTION denied() FROM PUBLIC",
    'GRANT EXECUTE ON PROCEDURE p() TO "a reader" WITH GRANT OPTION',
    'GRANT EXECUTE ON FUNCTION total(integer) TO "a reader"',
    "REVOKE USAGE ON TYPE mood FROM PUBLIC",
    'GRANT USAGE ON TYPE mood, positive TO "a reader"',
]
ACLS = resources.files(__package__).joinpath("acls.sql").read_text()


@pytest.fixture(scope="module")
def reader(server: Server) -> str:
    make_sandbox(server).administrate('CREATE ROLE "a reader"')
    return "a reader"  # it stays until the server's end: it has grants in many databases


@pytest.fixture
def sandbox(server: Server, reader: str) -> Side:
    made = make_sandbox(server)
    made.administrate("CREATE SCHEMA theirs", f'GRANT ALL ON SCHEMA theirs TO "{made.role}"')
    made.execute(*DEFAULTS, *OBJECTS, *GRANTS)
    return made


def give(lease: Lease) -> None:
    with as_owner(lease.connection, lease.database.role):
        record = require_mark(lease.connection).grants
        assert record is not None
        give_grants(lease.connection, record)


def test_the_sandboxs_own_grants_are_given_again(server: Server, sandbox: Side, tmp_path: Path) -> None:
    prod = make_prod(server, *OBJECTS)
    before = sandbox.values(ACLS)
    assert len(before) > 30

    with leased(sandbox) as lease:
        put(lease, dump(prod, tmp_path))
        give(lease)

    assert sandbox.values(ACLS) == before


def test_a_run_that_was_killed_after_the_wipe_loses_none(server: Server, sandbox: Side, tmp_path: Path) -> None:
    archive = dump(make_prod(server, *OBJECTS), tmp_path)
    before = sandbox.values(ACLS)
    with leased(sandbox) as lease:
        wipe(lease, lock_timeout=PATIENCE)
    with leased(sandbox) as lease:
        put(lease, archive)

    with leased(sandbox) as lease:
        put(lease, archive)
        give(lease)

    assert sandbox.values(ACLS) == before


def test_what_is_gone_or_something_else_by_now_is_passed_over(server: Server, sandbox: Side, tmp_path: Path) -> None:
    changed = ['CREATE SEQUENCE "T 1"', "CREATE TABLE v (id integer)", "CREATE TYPE positive AS ENUM ('x')"]
    sandbox.administrate("CREATE ROLE gone_reader")
    sandbox.execute('GRANT SELECT ON "T 1", v TO gone_reader')

    with leased(sandbox) as lease:
        put(lease, dump(make_prod(server, *changed), tmp_path))
        sandbox.administrate("DROP ROLE gone_reader")
        give(lease)

    granted = [str(line) for line in sandbox.values(ACLS)]
    assert "v PUBLIC SELECT f" in granted
    assert "positive a reader USAGE f" in granted
    assert not [line for line in granted if line.startswith('"T 1" a reader')]
