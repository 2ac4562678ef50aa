"""Sandboxes that are journalled, for the tests: a schema, what happens to it, and what a rewind makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from pydantic import SecretStr

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.adoption import adopt
from pytest_erp_sandbox.postgres.connection import SandboxConnection, SandboxDatabase, as_owner
from pytest_erp_sandbox.postgres.journal import install_journal
from pytest_erp_sandbox.postgres.rewind import Fallback, Rewound, rewind

from ..servers import connect, may_be_a_replica, run
from .states import state

__all__ = ["BASELINE", "LOGIN", "OTHER", "PATIENCE", "ROLE", "JournalledSandbox", "has_journal", "journalled_sandbox"]

Connection = psycopg.Connection[tuple[Any, ...]]

ROLE = "rewind_role"
LOGIN = "rewind_login"
OTHER = "rewind_other"
DATABASE = "rewind"
BASELINE = "baseline-1"
PATIENCE = timedelta(milliseconds=300)


class JournalledSandbox:
    """A sandbox, reached by its own login; ``admin`` is a superuser who looks and does what nobody else could."""

    def __init__(self, server: Server, admin: Connection, connection: SandboxConnection) -> None:
        self.server = server
        self.admin = admin
        self.connection = connection
        self.reader = _reader(server)
        self.replica = _replica(server)
        self.is_undone_by_a_replica = False
        self.baseline: dict[str, list[Any]] = {}
        self._cleared = 0

    def make(self, *statements: str) -> None:
        """Run statements as the owner, each in its own transaction."""
        for statement in statements:
            with as_owner(self.connection, ROLE):
                self.connection.execute(statement.encode())

    def journal(self, *statements: str, large: int = 2**40) -> None:
        """Make what the statements make the baseline."""
        self.make(*statements)
        # Whoever it is: others may write too.
        self.admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {OTHER}".encode())
        self.admin.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {OTHER}".encode())
        install_journal(self.connection, ROLE, BASELINE, lock_timeout=PATIENCE, large=large)
        self.baseline = state(self.admin)

    @contextmanager
    def application(self, role: str = ROLE) -> Iterator[Connection]:
        """An application's session, as the owner or as another role."""
        with connect(self.server.dsn(DATABASE)) as connection:
            connection.execute(f"SET SESSION AUTHORIZATION {role}".encode())
            yield connection

    def happen(self, *statements: str, role: str = ROLE) -> None:
        """Run statements in one session of the application's."""
        with self.application(role) as application:
            for statement in statements:
                application.execute(statement.encode())

    def close(self) -> None:
        """Leave the database."""
        self.admin.close()
        self.connection.close()
        self.reader.close()
        self.replica.close()

    def reconnect(self) -> None:
        """Come back after the server, or somebody, has ended the sandbox's own sessions; or with fresh ones."""
        self.close()
        self.admin = connect(self.server.dsn(DATABASE))
        self.connection = _database(self.server).connect()
        self.reader = _reader(self.server)
        self.replica = _replica(self.server)

    def clear(self) -> None:
        """Forget what a test has made."""
        self.admin.execute(f"DROP OWNED BY {ROLE}, {OTHER} CASCADE".encode())
        self.admin.execute(f"GRANT CREATE ON SCHEMA public TO {ROLE}, {OTHER}".encode())
        self._cleared += 1
        # The tests' servers have no autovacuum, and each time leaves thousands of rows in the catalogue; and a session
        # keeps the plans of functions that are long gone.
        if self._cleared % 10 == 0:
            self.admin.execute("VACUUM")
            self.reconnect()

    def rewind(self, patience: timedelta = PATIENCE) -> Rewound | Fallback:
        session = self.replica if self.is_undone_by_a_replica else self.connection
        return rewind(session, lambda: self.reader, ROLE, BASELINE, lock_timeout=patience)

    def rewound(self) -> Rewound:
        """Rewind, which must be possible."""
        outcome = self.rewind()
        assert isinstance(outcome, Rewound), outcome
        return outcome

    def fallback(self, baseline: str = BASELINE) -> str:
        """Try to rewind, which must not be possible; the reason why."""
        outcome = rewind(self.connection, lambda: self.reader, ROLE, baseline, lock_timeout=PATIENCE)
        assert isinstance(outcome, Fallback), outcome
        return outcome.reason

    def expect_baseline(self) -> None:
        now = state(self.admin)
        assert {name: now.get(name) for name in self.baseline} == self.baseline
        assert now.keys() == self.baseline.keys()


def _database(server: Server) -> SandboxDatabase:
    return SandboxDatabase(server.dsn(DATABASE, LOGIN, SecretStr("x")), "sandbox.dsn", role=ROLE)


def _reader(server: Server) -> SandboxConnection:
    reader = _database(server).connect()
    reader.execute(f"SET ROLE {ROLE}".encode())
    return reader


def _replica(server: Server) -> SandboxConnection:
    replica = _database(server).connect()
    replica.execute("SET session_replication_role = replica")
    return replica


@contextmanager
def journalled_sandbox(server: Server) -> Iterator[JournalledSandbox]:
    """An adopted database; removed afterwards."""
    dsn = server.dsn()
    run(
        dsn,
        f"CREATE ROLE {ROLE}",
        f"CREATE ROLE {LOGIN} LOGIN PASSWORD 'x' IN ROLE {ROLE}",
        f"CREATE ROLE {OTHER}",
        f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
    )
    try:
        with (
            may_be_a_replica(dsn, LOGIN),
            connect(server.dsn(DATABASE)) as admin,
            _database(server).connect() as connection,
        ):
            with as_owner(connection, ROLE):
                adopt(connection)
            sandbox = JournalledSandbox(server, admin, connection)
            yield sandbox
            sandbox.close()
    finally:
        run(dsn, f"DROP DATABASE {DATABASE} WITH (FORCE)", *(f"DROP ROLE {role}" for role in (LOGIN, ROLE, OTHER)))


def has_journal(connection: SandboxConnection) -> bool:
    """Whether the connected database has a journal, whatever it is worth."""
    return connection.execute("SELECT to_regnamespace('erp_sandbox_journal') IS NOT NULL").fetchone() == (True,)
