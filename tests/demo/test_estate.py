from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.demo import generator
from pytest_erp_sandbox.demo.estate import Estate, build_estate
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.dolibarr.crypt import decrypt

from ..servers import VERSIONS, connect

SETTINGS = {"fsync": "off", "log_statement": "all"}


class Built(NamedTuple):
    """An estate and the servers that it is on."""

    estate: Estate
    prod: Server
    sandbox: Server


def _fill(connection: psycopg.Connection[Any]) -> None:
    generator.fill(connection, **generator.SMALL)
    connection.execute("CREATE TABLE filled AS SELECT current_user AS filler, session_user AS login")


@pytest.fixture(scope="module", params=["one server", "two servers"])
def built(request: pytest.FixtureRequest) -> Iterator[Built]:
    """An estate with two sandboxes, on servers of its own."""
    folder = server_folder(f"erp-sandbox-test-estate-{os.getpid()}")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        newer = stack.enter_context(Server(folder / "sandbox", settings=SETTINGS))
        if request.param == "one server":
            yield Built(build_estate(newer, sandboxes=2, fill=_fill), newer, newer)
            return
        older = VERSIONS["15"]
        programs = older if older is not None and older.exists() else None
        prod = stack.enter_context(Server(folder / "prod", programs, settings=SETTINGS))
        yield Built(build_estate(prod, newer, sandboxes=2, fill=_fill), prod, newer)


@pytest.fixture
def estate(built: Built) -> Estate:
    """The estate itself."""
    return built.estate


def _one(dsn: SecretStr, query: str) -> tuple[Any, ...]:
    with connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def _all(dsn: SecretStr, query: str) -> list[tuple[Any, ...]]:
    with connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def test_prod_has_data_that_its_owner_owns(estate: Estate) -> None:
    assert _one(estate.prod_dsn, "SELECT count(*) > 5 FROM llx_societe") == (True,)
    owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert _all(estate.prod_dsn, owners) == [("erp_role",)]
    assert _one(estate.prod_dsn, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'erp'") == (
        "erp_role",
    )


def test_what_fills_prod_acts_as_its_owner(estate: Estate) -> None:
    assert _one(estate.prod_dsn, "SELECT filler, login FROM filled") == ("erp_role", "erp_app")


def test_prods_keys_are_encrypted_with_prods_unique_id(estate: Estate) -> None:
    (stored,) = _one(estate.prod_dsn, "SELECT api_key FROM llx_user WHERE api_key LIKE 'dolcrypt:%'")
    assert decrypt(stored, estate.unique_id) is not None
    ids = {estate.unique_id, *(sandbox.unique_id for sandbox in estate.sandboxes)}
    assert len(ids) == 1 + len(estate.sandboxes)


def test_the_dump_login_can_dump_prod(built: Built) -> None:
    parts = urlsplit(built.estate.prod_dsn.get_secret_value())
    place = [f"--host={parts.hostname}", f"--port={parts.port}", f"--username={parts.username}", "--dbname=erp"]
    dumped = subprocess.run(
        [built.prod.programs / "pg_dump", *place],
        env={"PGPASSWORD": parts.password or ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert dumped.returncode == 0, dumped.stderr
    assert "Café de la Gare" in dumped.stdout
    assert "setval('public.llx_societe_rowid_seq', 12, true)" in dumped.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO llx_const (name, value) VALUES ('written', '1')",
        "UPDATE llx_const SET value = 'written'",
        "DELETE FROM llx_const",
        "TRUNCATE llx_const",
        "SELECT nextval('llx_const_rowid_seq')",
        "DROP TABLE llx_const",
        "CREATE TABLE written ()",
        "CREATE SCHEMA written",
        "SET ROLE erp_role",
    ],
)
def test_the_dump_login_cannot_write(estate: Estate, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _all(estate.prod_dsn, statement)


def test_the_dump_login_can_read_what_prod_makes_later(estate: Estate) -> None:
    with connect(estate.prod_owner_dsn) as owner:
        owner.execute("SET ROLE erp_role")
        owner.execute("CREATE TABLE later (id serial)")
        assert _all(estate.prod_dsn, "SELECT last_value FROM later_id_seq WHERE NOT EXISTS (TABLE later)") == [(1,)]
        owner.execute("DROP TABLE later")


def test_no_role_or_login_has_an_attribute_of_power(built: Built) -> None:
    powerful = (
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'erp%' AND"
        " (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)"
    )
    for server in (built.prod, built.sandbox):
        assert _all(server.dsn(), powerful) == []


def test_a_sandboxs_login_has_what_its_role_has(estate: Estate) -> None:
    assert [(sandbox.name, sandbox.role) for sandbox in estate.sandboxes] == [
        ("erp-sandbox", "erp_sandbox_role"),
        ("erp-sandbox-2", "erp_sandbox_role_2"),
    ]
    for sandbox in estate.sandboxes:
        asked = (
            "SELECT current_database(), pg_get_userbyid(datdba), pg_has_role(current_user, datdba, 'USAGE'),"
            " current_user <> pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        )
        assert _one(sandbox.dsn, asked) == (sandbox.name, sandbox.role, True, True)
        logins = f"SELECT rolname FROM pg_roles WHERE rolcanlogin AND pg_has_role(oid, '{sandbox.role}', 'MEMBER')"
        owners = f"SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = '{sandbox.role}'"
        assert len(_all(sandbox.dsn, f"{logins} AND NOT rolsuper")) == 1
        assert _all(sandbox.dsn, owners) == [(sandbox.name,)]


def _elsewhere(dsn: SecretStr, database: str) -> SecretStr:
    return SecretStr(urlsplit(dsn.get_secret_value())._replace(path=f"/{database}").geturl())


def test_a_login_reaches_no_database_but_its_own(estate: Estate, built: Built) -> None:
    first, second = estate.sandboxes
    closed = [(first.dsn, "erp-sandbox-2"), (second.dsn, "erp-sandbox")]
    if built.prod is built.sandbox:
        closed += [(first.dsn, "erp"), (estate.prod_dsn, "erp-sandbox"), (estate.prod_owner_dsn, "erp-sandbox")]
    for dsn, database in closed:
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            connect(_elsewhere(dsn, database))


def test_the_provisioners_function_is_in_each_database_and_the_superusers(built: Built) -> None:
    databases = [(built.prod, "erp"), (built.sandbox, "erp-sandbox"), (built.sandbox, "erp-sandbox-2")]
    for server, database in databases:
        with connect(server.dsn(database)) as connection:
            found = connection.execute(
                "SELECT pg_get_userbyid(proowner), prosecdef FROM pg_proc"
                " WHERE oid = 'public.user_lookup(text)'::regprocedure"
            ).fetchall()
            looked_up = connection.execute("SELECT phash FROM user_lookup('postgres')").fetchone()
        assert found == [("postgres", True)]
        assert looked_up is not None
        assert looked_up[0].startswith("SCRAM-SHA-256$")
    for dsn in (built.estate.prod_dsn, built.estate.prod_owner_dsn, *(s.dsn for s in built.estate.sandboxes)):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _all(dsn, "SELECT * FROM user_lookup('postgres')")


def test_a_sandbox_can_be_wiped_and_filled_by_its_login(estate: Estate) -> None:
    sandbox = estate.sandboxes[0]
    with connect(sandbox.dsn) as connection:
        connection.execute(f"SET ROLE {sandbox.role}".encode())
        connection.execute("CREATE TABLE llx_const (rowid serial PRIMARY KEY)")
        connection.execute(f"DROP OWNED BY {sandbox.role} CASCADE".encode())
        left = connection.execute(
            "SELECT to_regclass('llx_const'), to_regprocedure('public.user_lookup(text)')::text,"
            " has_schema_privilege('public', 'CREATE')"
        ).fetchone()
    assert left == (None, "user_lookup(text)", True)


def _passwords(estate: Estate) -> list[str]:
    dsns = [estate.prod_dsn, estate.prod_owner_dsn, *(sandbox.dsn for sandbox in estate.sandboxes)]
    return [urlsplit(dsn.get_secret_value()).password or "" for dsn in dsns]


def test_no_password_is_shown_or_logged(built: Built) -> None:
    passwords = _passwords(built.estate)
    assert all(passwords)
    assert len(set(passwords)) == len(passwords)
    logs = [server.log.read_text() for server in (built.prod, built.sandbox)]
    assert all("CREATE ROLE" in log for log in logs)
    assert not [text for text in (repr(built.estate), *logs) for password in passwords if password in text]
