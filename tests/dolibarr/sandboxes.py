"""Sandbox databases for tests that need no prod."""

from __future__ import annotations

import itertools
from importlib import resources

import psycopg
from psycopg import sql
from pydantic import SecretStr

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.connection import SandboxDatabase, as_owner

from ..servers import connect

_PASSWORD = SecretStr("sandbox-password-3f1c")
_numbers = itertools.count()


def empty_sandbox(server: Server) -> SandboxDatabase:
    """A database of its own role, with a login that is a member; nothing in it."""
    role, login, name = (f"dolibarr-{what}-{next(_numbers)}" for what in ("role", "login", "sandbox"))
    with connect(server.dsn()) as connection:
        for statement in (
            "CREATE ROLE {role}",
            "CREATE ROLE {login} LOGIN PASSWORD {password} IN ROLE {role}",
            "CREATE DATABASE {name} OWNER {role}",
        ):
            names = {"role": sql.Identifier(role), "login": sql.Identifier(login), "name": sql.Identifier(name)}
            password = sql.Literal(_PASSWORD.get_secret_value())
            connection.execute(sql.SQL(statement).format(**names, password=password))
    return SandboxDatabase(server.dsn(name, login, _PASSWORD), "sandbox.dsn", role)


def filled_sandbox(server: Server) -> SandboxDatabase:
    """Such a database with the demo's tables and data."""
    database = empty_sandbox(server)
    fill(database)
    return database


def fill(database: SandboxDatabase) -> None:
    """Make the demo's tables and data in a database that has none."""
    demo = resources.files("pytest_erp_sandbox.demo")
    with database.connect() as connection, as_owner(connection, database.role):
        for script in ("schema.sql", "data.sql"):
            connection.execute(demo.joinpath(script).read_bytes())


def wipe(connection: psycopg.Connection[tuple[object, ...]], database: SandboxDatabase) -> None:
    """Drop all that the database's role owns in it."""
    connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(database.role)))
