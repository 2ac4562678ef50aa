"""PostgreSQL servers for the tests: one of each version that is installed, started when first asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from pytest_erp_sandbox.demo.server import Server, server_folder

DEBIAN = Path("/usr/lib/postgresql")

OLDEST = 15


def others_in(folder: Path, known: Collection[str]) -> dict[str, Path]:
    """Where the programs of further versions are whose servers can be started, from the oldest that will do on."""
    found = {bin_.parent.name: bin_ for bin_ in folder.glob("*/bin") if bin_.parent.name.isdecimal()}
    return {
        version: found[version]
        for version in sorted(set(found) - set(known), key=int)
        if int(version) >= OLDEST and all(shutil.which(name, path=found[version]) for name in ("initdb", "postgres"))
    }


VERSIONS = {"15": DEBIAN / "15" / "bin", "18": None}
"""Where the programs of each version are; None is the embedded wheel."""

VERSIONS |= others_in(DEBIAN, VERSIONS)

# No xid is taken by anybody but the tests; and a lock table that can be filled.
SETTINGS = {"fsync": "off", "autovacuum": "off", "max_connections": "40", "max_prepared_transactions": "4"}


class Servers:
    """The servers of this session, by version."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, Server] = {}

    def __getitem__(self, version: str) -> Server:
        if version not in self._running:
            programs = VERSIONS[version]
            if programs is not None and not programs.exists():
                pytest.skip(f"PostgreSQL {version} is not installed in {programs}")
            folder = server_folder(f"erp-sandbox-tests-{version}-{os.getpid()}")
            self._stack.callback(shutil.rmtree, folder)
            server = Server(folder / "server", programs, settings=SETTINGS)
            self._running[version] = self._stack.enter_context(server)
            self._stack.callback(server.stop, "immediate")  # nobody will miss what it has not written yet
        return self._running[version]


@contextmanager
def servers() -> Iterator[Servers]:
    """The servers; all stopped and removed at the end."""
    with ExitStack() as stack:
        yield Servers(stack)


def connect(dsn: SecretStr) -> psycopg.Connection[tuple[Any, ...]]:
    """A plain connection, in autocommit mode."""
    return psycopg.connect(dsn.get_secret_value(), autocommit=True)


def run(dsn: SecretStr, *statements: str) -> None:
    """Run statements of the test's own, each in a transaction of its own."""
    with connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def may_be_a_replica(admin: SecretStr, login: str) -> Iterator[None]:
    """Let a login set ``session_replication_role``, which is the whole server's to grant."""
    of_login = sql.SQL("SET ON PARAMETER session_replication_role"), sql.Identifier(login)
    run(admin, sql.SQL("GRANT {} TO {}").format(*of_login).as_string())
    try:
        yield
    finally:
        run(admin, sql.SQL("REVOKE {} FROM {}").format(*of_login).as_string())
