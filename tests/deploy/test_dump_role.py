from __future__ import annotations

import itertools
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.connection import ProdDatabase
from pytest_erp_sandbox.preflight.findings import Status
from pytest_erp_sandbox.preflight.invariants import prod_login_cannot_write
from pytest_erp_sandbox.preflight.sides import ProdSide

from ..servers import connect, run

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPT = DEPLOY / "dump-role.sql"
VAULT = DEPLOY / "vault"

# As Vault writes it.
IN_AN_HOUR, AN_HOUR_AGO = (
    (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%d %H:%M:%S+0000") for hours in (1, -1)
)

PASSWORD = SecretStr("dump-password-71aa")

_numbers = itertools.count()


@dataclass(frozen=True)
class Prod:
    """A database of its owner's, with a table that has a row and one more, under row level security."""

    server: Server
    name: str
    owner: str
    role: str
    password: SecretStr = PASSWORD

    def make(self, *statements: str) -> None:
        """Run statements as the owner."""
        run(self.server.dsn(self.name), f"SET ROLE {self.owner}", *statements)

    def script(self, *variables: str, user: str = "postgres", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the script; ``variables`` are ``name=value``."""
        settings = itertools.chain.from_iterable(
            ("-v", variable) for variable in (f"owner={self.owner}", f"role={self.role}", *variables)
        )
        password = None if user == "postgres" else self.password
        return self._program("psql", *settings, "-XAtf", str(SCRIPT), dsn=self.dsn(user, password), check=check)

    def dump(self, login: str, password: SecretStr | None = None) -> str:
        """All that pg_dump has to say, in SQL; it fails the test if pg_dump fails."""
        done = self._program("pg_dump", "--schema=public", dsn=self.dsn(login, password or self.password), check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dsn(self, user: str, password: SecretStr | None = None) -> SecretStr:
        return self.server.dsn(self.name, user, password)

    def _program(self, name: str, *arguments: str, dsn: SecretStr, check: bool) -> subprocess.CompletedProcess[str]:
        parameters = conninfo_to_dict(dsn.get_secret_value())
        environment = {**os.environ, "PGPASSWORD": str(parameters.pop("password"))}
        command = [str(self.server.programs / name), *arguments, "-d", make_conninfo(**parameters)]  # type: ignore[arg-type]
        return subprocess.run(command, capture_output=True, text=True, check=check, env=environment)


@pytest.fixture
def prod(server: Server) -> Iterator[Prod]:
    number = next(_numbers)
    made = Prod(server, f"dump_erp_{number}", f"dump_owner_{number}", f"dump_role_{number}")
    run(server.dsn(), f"CREATE ROLE {made.owner}", f"CREATE DATABASE {made.name} OWNER {made.owner}")
    made.make(
        "CREATE TABLE parties (id serial PRIMARY KEY, name text)",
        "INSERT INTO parties (name) VALUES ('Alpaca Ltd')",
    )
    yield made
    run(server.dsn(), f"DROP DATABASE {made.name} WITH (FORCE)")


@pytest.fixture
def login(prod: Prod) -> str:
    """The name of a login that the script shall make; it has its password from the start."""
    name = f"{prod.role}_login"
    run(prod.server.dsn(), f"CREATE ROLE {name} LOGIN PASSWORD '{prod.password.get_secret_value()}'")
    return name


def test_the_login_dumps_what_there_is_and_what_the_owner_makes_later(prod: Prod, login: str) -> None:
    prod.script(f"login={login}")
    prod.make("CREATE TABLE later (id serial PRIMARY KEY, name text)", "INSERT INTO later (name) VALUES ('Badger Inc')")

    dumped = prod.dump(login)

    assert "Alpaca Ltd" in dumped
    assert "Badger Inc" in dumped
    assert "pg_catalog.setval('public.later_id_seq', 1, true)" in dumped


@pytest.mark.parametrize("how", ["ENABLE", "FORCE"])
def test_rows_under_row_level_security_are_dumped_with_bypassrls(prod: Prod, login: str, how: str) -> None:
    prod.make(
        "ALTER TABLE parties ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE parties {how} ROW LEVEL SECURITY",
        "CREATE POLICY everybody ON parties USING (true)",
    )

    told = prod.script(f"login={login}")
    assert "row level security" in told.stderr
    with pytest.raises(AssertionError, match="row-level security"):
        prod.dump(login)

    told = prod.script(f"login={login}", "bypassrls=on")
    assert told.stderr == ""
    assert "Alpaca Ltd" in prod.dump(login)


@pytest.mark.parametrize("statement", ["INSERT INTO parties (name) VALUES ('x')", "CREATE TABLE mine (id int)"])
@pytest.mark.parametrize("bypassrls", ["off", "on"])
def test_the_login_cannot_write_whatever_it_switches_off(
    prod: Prod, login: str, statement: str, bypassrls: str
) -> None:
    prod.script(f"login={login}", f"bypassrls={bypassrls}")
    with connect(prod.dsn(login, prod.password)) as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute(statement.encode())
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())
        connection.execute("RESET ROLE; SET ROLE NONE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_preflight_finds_that_the_login_cannot_write(prod: Prod, login: str) -> None:
    prod.script(f"login={login}", "bypassrls=on")
    with ProdSide(ProdDatabase(prod.dsn(login, prod.password), "prod.dsn")) as side:
        side.reach()
        finding = prod_login_cannot_write(side, required=True)
    assert finding.status is Status.OK, finding


def test_the_script_can_be_run_again(prod: Prod, login: str) -> None:
    first = prod.script(f"login={login}")
    again = prod.script(f"login={login}")
    assert (again.stdout, again.stderr) == (first.stdout, first.stderr) == ("", "")
    assert "Alpaca Ltd" in prod.dump(login)


def test_it_makes_the_login_where_there_is_none(prod: Prod) -> None:
    prod.script(f"login={prod.role}_new")
    with connect(prod.server.dsn()) as connection:
        row = connection.execute(
            "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = %s", [f"{prod.role}_new"]
        ).fetchone()
    assert row == (True, None)


def test_it_says_so_where_everybody_may_create_tables(prod: Prod, login: str) -> None:
    run(prod.server.dsn(prod.name), "GRANT CREATE ON SCHEMA public TO PUBLIC")
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in prod.script(f"login={login}").stderr


def test_an_error_leaves_nothing_behind(prod: Prod) -> None:
    failed = prod.script("login=postgres", "admin=nobody_there", check=False)
    assert failed.returncode != 0
    assert "nobody_there" in failed.stderr
    with connect(prod.server.dsn()) as connection:
        assert connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [prod.role]).fetchone() is None


def test_it_needs_to_be_told_the_owner(prod: Prod) -> None:
    failed = prod.script("owner", check=False)
    assert failed.returncode != 0
    assert "owner=" in failed.stderr


class TestVault:
    """The statements of deploy/vault, as Vault runs them."""

    @pytest.fixture
    def vault(self, prod: Prod) -> str:
        """Vault's own login: no superuser; the script has made it the dump role's administrator."""
        name = f"{prod.role}_vault"
        run(prod.server.dsn(), f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{prod.password.get_secret_value()}'")
        prod.script(f"admin={name}", "bypassrls=on")
        return name

    def vault_runs(self, prod: Prod, vault: str, file: str, **values: str) -> None:
        """Fill in placeholders, split at each semicolon, run all in one transaction: Vault's postgresql plugin."""
        text = (VAULT / file).read_text(encoding="utf-8").replace("erp_dump", prod.role)
        filled = re.sub(r"{{(\w+)}}", lambda match: values[match[1]], text)
        with connect(prod.dsn(vault, prod.password)) as connection, connection.transaction():
            for statement in filter(None, map(str.strip, filled.split(";"))):
                connection.execute(statement.encode())

    def test_a_dynamic_login_dumps_and_cannot_write_and_is_revoked(self, prod: Prod, vault: str) -> None:
        prod.make("ALTER TABLE parties ENABLE ROW LEVEL SECURITY", "ALTER TABLE parties FORCE ROW LEVEL SECURITY")
        name, password = f"v-token-erp-{secrets.token_hex(4)}-1700000000", SecretStr(secrets.token_urlsafe())

        self.vault_runs(
            prod, vault, "creation.sql", name=name, password=password.get_secret_value(), expiration=IN_AN_HOUR
        )
        assert "Alpaca Ltd" in prod.dump(name, password)
        with ProdSide(ProdDatabase(prod.dsn(name, password), "prod.dsn")) as side:
            side.reach()
            assert prod_login_cannot_write(side, required=True).status is Status.OK

        for _ in range(2):  # Vault tries again where an answer got lost
            self.vault_runs(prod, vault, "revocation.sql", name=name)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(prod.dsn(name, password))

    def test_a_login_that_has_expired_is_let_in_no_more(self, prod: Prod, vault: str) -> None:
        name, password = f"v-token-erp-{secrets.token_hex(4)}-1600000000", SecretStr(secrets.token_urlsafe())
        self.vault_runs(
            prod, vault, "creation.sql", name=name, password=password.get_secret_value(), expiration=AN_HOUR_AGO
        )
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(prod.dsn(name, password))
