"""A prod and its sandboxes, with the roles that keep them apart, on one server or on two."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from .server import Server

__all__ = ["Estate", "EstateSandbox", "build_estate"]

PROD_DATABASE = "erp"
PROD_ROLE = "erp_role"
PROD_LOGIN = "erp_app"
READERS_ROLE = "erp_readers"
DUMP_LOGIN = "erp_dump"
SANDBOX_DATABASE = "erp-sandbox"
SANDBOX_ROLE = "erp_sandbox_role"
SANDBOX_LOGIN = "erp_sandbox_app"

_PROD_UNIQUE_ID = SecretStr("c0ffee5eed0f9a17b2d4e6f8091a3b5c")  # data.sql's keys are encrypted with it


@dataclass(frozen=True)
class EstateSandbox:
    """A sandbox: a database, empty at first, and the role that owns it.

    Attributes:
        name: its database's.
        dsn: of a login that is a member of ``role``.
        role: the owner of the database and of everything that is restored into it.
        unique_id: its ERP's instance unique id.
    """

    name: str
    dsn: SecretStr
    role: str
    unique_id: SecretStr


@dataclass(frozen=True)
class Estate:
    """A prod and its sandboxes.

    Attributes:
        prod_dsn: of a login that can read prod and write nothing.
        prod_owner_dsn: of prod's application, which may do everything in prod.
        unique_id: prod's instance unique id; no sandbox has it.
        sandboxes: in the order of their numbers.
    """

    prod_dsn: SecretStr
    prod_owner_dsn: SecretStr
    unique_id: SecretStr
    sandboxes: tuple[EstateSandbox, ...]


def build_estate(
    prod: Server,
    sandbox: Server | None = None,
    *,
    sandboxes: int = 1,
    fill: Callable[[psycopg.Connection[Any]], None] | None = None,
) -> Estate:
    """Make roles, logins and databases on running servers that have none of them, and prod's data.

    Args:
        prod: the server of prod.
        sandbox: the server of the sandboxes; by default prod's.
        sandboxes: how many to make.
        fill: called in prod, acting as its owner, to add to the demo's core tables.

    Raises:
        psycopg.Error: a server has some of it already, or cannot be reached.
    """
    prod_dsn, prod_owner_dsn = _build_prod(prod)
    with psycopg.connect(prod_owner_dsn.get_secret_value()) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(PROD_ROLE)))
        for script in ("schema.sql", "data.sql"):
            connection.execute(_script(script))
        if fill is not None:
            fill(connection)
    numbers = range(1, sandboxes + 1)
    return Estate(
        prod_dsn, prod_owner_dsn, _PROD_UNIQUE_ID, tuple(_build_sandbox(sandbox or prod, number) for number in numbers)
    )


def _build_prod(server: Server) -> tuple[SecretStr, SecretStr]:
    """Prod without tables: the DSNs of the login that reads, and of the one that owns."""
    with psycopg.connect(server.dsn().get_secret_value(), autocommit=True) as admin:
        _create_role(admin, PROD_ROLE)
        _create_role(admin, READERS_ROLE)
        owner = _create_login(admin, PROD_LOGIN, PROD_ROLE)
        reader = _create_login(admin, DUMP_LOGIN, READERS_ROLE)
        _create_database(server, admin, PROD_DATABASE, PROD_ROLE)
    with psycopg.connect(server.dsn(PROD_DATABASE).get_secret_value()) as admin:
        names = {
            "database": sql.Identifier(PROD_DATABASE),
            "owner": sql.Identifier(PROD_ROLE),
            "readers": sql.Identifier(READERS_ROLE),
        }
        for grant in (
            "GRANT CONNECT ON DATABASE {database} TO {readers}",
            "GRANT USAGE ON SCHEMA public TO {readers}",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON TABLES TO {readers}",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON SEQUENCES TO {readers}",
        ):
            admin.execute(sql.SQL(grant).format(**names))
    return server.dsn(PROD_DATABASE, DUMP_LOGIN, reader), server.dsn(PROD_DATABASE, PROD_LOGIN, owner)


def _build_sandbox(server: Server, number: int) -> EstateSandbox:
    database = SANDBOX_DATABASE if number == 1 else f"{SANDBOX_DATABASE}-{number}"
    role = SANDBOX_ROLE if number == 1 else f"{SANDBOX_ROLE}_{number}"
    login = SANDBOX_LOGIN if number == 1 else f"{SANDBOX_LOGIN}_{number}"
    with psycopg.connect(server.dsn().get_secret_value(), autocommit=True) as admin:
        _create_role(admin, role)
        password = _create_login(admin, login, role)
        _create_database(server, admin, database, role)
    return EstateSandbox(database, server.dsn(database, login, password), role, SecretStr(secrets.token_hex(16)))


def _create_role(admin: psycopg.Connection[Any], role: str) -> None:
    admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))


def _create_login(admin: psycopg.Connection[Any], login: str, role: str) -> SecretStr:
    """A login that has what ``role`` has; gives its password."""
    password = secrets.token_urlsafe(24)
    # Sent as the verifier that the server keeps, so that a server's log of statements has no password in it.
    verifier = admin.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    admin.execute(
        sql.SQL("CREATE ROLE {} LOGIN INHERIT PASSWORD {} IN ROLE {}").format(
            sql.Identifier(login), sql.Literal(verifier), sql.Identifier(role)
        )
    )
    return SecretStr(password)


def _create_database(server: Server, admin: psycopg.Connection[Any], database: str, owner: str) -> None:
    """A database that nobody but its owner's members can connect to."""
    names = {"database": sql.Identifier(database), "owner": sql.Identifier(owner)}
    admin.execute(sql.SQL("CREATE DATABASE {database} OWNER {owner}").format(**names))
    admin.execute(sql.SQL("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC").format(**names))
    with psycopg.connect(server.dsn(database).get_secret_value()) as inside:
        inside.execute(_script("estate_database.sql"))


def _script(name: str) -> bytes:
    return (files(__package__) / name).read_bytes()
