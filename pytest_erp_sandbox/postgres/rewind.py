"""Rewind: undo exactly what was written since the baseline, in one transaction, or say why it cannot be done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from ..errors import PostgresError
from .connection import SandboxConnection
from .journal import LATE, SCHEMA

__all__ = ["CannotRewindError", "Outcome", "Undone", "rewind"]

_LOCK_TIMEOUT = timedelta(seconds=10)

# Raised by rewind.sql.
_CANNOT = "ES001"


class CannotRewindError(PostgresError):
    """What was written since the baseline cannot be proven to be undone: restore.

    Nothing was undone; ``cause`` says why, in words.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(f"cannot rewind: {cause}")
        self.cause = cause


@dataclass(frozen=True)
class Undone:
    """What was undone in one table, in rows.

    Attributes:
        table: its name, with its schema's, quoted where SQL needs it.
        removed: rows that had been inserted.
        changed: rows that had been updated.
        restored: rows that had been deleted.
    """

    table: str
    removed: int
    changed: int
    restored: int


@dataclass(frozen=True)
class Outcome:
    """A rewind that took place.

    Attributes:
        tables: what was undone, for each table that had been written to.
        seconds: how long it took.
    """

    tables: tuple[Undone, ...]
    seconds: float

    @property
    def rows(self) -> int:
        """How many rows were undone."""
        return sum(table.removed + table.changed + table.restored for table in self.tables)


def rewind(
    connection: SandboxConnection, role: str, baseline: str, *, lock_timeout: timedelta = _LOCK_TIMEOUT
) -> Outcome:
    """Bring the sandbox back to the baseline that ``install_journal`` began with.

    Waits for transactions that have written, for as long as ``lock_timeout``; readers do not matter. In a session with
    ``session_replication_role = replica`` neither triggers nor foreign keys cost anything.

    Args:
        connection: idle and in autocommit mode; always the same one, as it keeps the plans.
        role: the sandbox's owner.
        baseline: what the baseline is called.
        lock_timeout: how long to wait for others.

    Raises:
        CannotRewindError: the sandbox cannot be proven to be as in the baseline; nothing was done.
        PostgresError: others write for longer than ``lock_timeout``; they are named. Nothing was done.
    """
    assert connection.info.transaction_status is TransactionStatus.IDLE
    begun = time.perf_counter()
    # All in one message: each round trip would cost as much as the undo of a table.
    script = sql.SQL(
        "BEGIN; SET LOCAL ROLE {role}; SET LOCAL synchronous_commit = off; SET LOCAL client_min_messages = error;"
        " SELECT * FROM {rewind}({baseline}, {patience}); COMMIT"
    ).format(
        role=sql.Identifier(role),
        rewind=sql.Identifier(SCHEMA, "rewind"),
        baseline=sql.Literal(baseline),
        patience=sql.Literal(lock_timeout),
    )
    try:
        cursor = connection.execute(script)
        for _ in range(4):
            cursor.nextset()
        rows = cursor.fetchall()
    except psycopg.Error as error:
        _roll_back(connection)
        raise _explained(error, lock_timeout) from None
    outcome = Outcome(tuple(Undone(*row[:4]) for row in rows), time.perf_counter() - begun)
    if any(is_bloated for *_, is_bloated in rows):
        _vacuum(connection, role)
    return outcome


def _roll_back(connection: SandboxConnection) -> None:
    if not connection.closed:
        connection.execute("ROLLBACK")


def _explained(error: psycopg.Error, lock_timeout: timedelta) -> PostgresError:
    said = (error.diag.message_primary or str(error)).strip()
    if error.sqlstate == LATE:
        return PostgresError(
            f"the sandbox cannot be rewound: others have written and not ended their transactions for {lock_timeout}:"
            f" {said}",
            hint="Commit or end their transactions, or raise sandbox.lock-timeout.",
        )
    if isinstance(error, psycopg.errors.InvalidSchemaName | psycopg.errors.UndefinedFunction):
        return CannotRewindError("there is no journal")
    return CannotRewindError(said if error.sqlstate == _CANNOT else f"the undo failed: {said}")


def _vacuum(connection: SandboxConnection, role: str) -> None:
    """Make room in the journal, which deletes as much as it inserts."""
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    try:
        connection.execute("VACUUM erp_sandbox_journal.rows, erp_sandbox_journal.calls")
    finally:
        connection.execute("RESET ROLE")
