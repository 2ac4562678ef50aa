"""Rewind: undo exactly what was written since the baseline, in one transaction, or say why it cannot be done."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import Query
from psycopg.pq import TransactionStatus

from ..errors import PostgresError
from .connection import SandboxConnection
from .journal import LATE, SCHEMA, form, shown_name
from .tidy import vacuum

__all__ = ["Fallback", "Rewound", "UndoneTable", "rewind"]

_LOCK_TIMEOUT = timedelta(seconds=10)

# Raised by rewind.sql.
_CANNOT = "ES001"
_BEGUN = "ES003"

# How long a rewind stands in the way of those who had only begun to write; doubled each time. An autovacuum that is in
# its own way gives up after a second.
_GRACE = timedelta(milliseconds=50)

# What begins the codes of a session that the server has ended, or a statement that somebody has. All else, a lack of
# memory, of disk or of locks too, may be different for a restore.
_ENDED = ("08", "57")

_SURVEY = "SELECT reason, moved::text FROM erp_sandbox_journal.survey(%s::xid8, %s)"

_PASSING = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)


@dataclass(frozen=True)
class UndoneTable:
    """What was undone in one table, in rows.

    Attributes:
        table: its name, without its schema where that is ``public``, quoted where SQL needs it.
        removed: rows that had been inserted.
        changed: rows that had been updated.
        restored: rows that had been deleted.
    """

    table: str
    removed: int
    changed: int
    restored: int


@dataclass(frozen=True)
class Rewound:
    """A rewind that took place.

    Attributes:
        tables: what was undone, for each table that had been written to.
        seconds: how long it took, waiting for others included.
    """

    tables: tuple[UndoneTable, ...]
    seconds: float

    @property
    def rows(self) -> int:
        """How many rows were undone."""
        return sum(table.removed + table.changed + table.restored for table in self.tables)


@dataclass(frozen=True)
class Fallback:
    """A rewind that did not take place: it cannot be proven that it would give the baseline. Nothing was done.

    Attributes:
        reason: why a restore is needed, in words.
    """

    reason: str


def rewind(
    connection: SandboxConnection,
    reader: Callable[[], SandboxConnection],
    role: str,
    baseline: str,
    *,
    lock_timeout: timedelta = _LOCK_TIMEOUT,
) -> Rewound | Fallback:
    """Bring the sandbox back to the baseline that ``install_journal`` began with, or say why only a restore does.

    Waits for transactions that have written, for as long as ``lock_timeout``; readers do not matter. In a session with
    ``session_replication_role = replica`` neither triggers nor foreign keys cost anything.

    Args:
        connection: idle and in autocommit mode; always the same one, as it keeps the plans.
        reader: gives another one, likewise, acting as ``role``, and whose transactions are ``read committed``. It looks
            through the catalogue while ``connection`` begins, and puts rows back.
        role: the sandbox's owner.
        baseline: what the baseline is called.
        lock_timeout: how long to wait for others.

    Raises:
        PostgresError: others write for longer than ``lock_timeout``; they are named. Or a connection was lost, or there
            is no ``reader``. Nothing was done.
        ErpSandboxError: what ``reader`` raises.
    """
    assert connection.info.transaction_status is TransactionStatus.IDLE
    begun = time.perf_counter()
    grace = _GRACE
    while True:
        left = lock_timeout.total_seconds() - (time.perf_counter() - begun)
        try:
            rows = _attempt(connection, reader, role, baseline, timedelta(seconds=max(left, 0)), grace)
            break
        except psycopg.Error as error:
            _roll_back(connection)
            if _is_passing(error) and time.perf_counter() - begun < lock_timeout.total_seconds():
                grace *= 2
                continue
            return _explained(error, lock_timeout)
        except BaseException:
            # No reader, or Ctrl-C: the locks of a transaction that stays open would keep everybody from writing.
            with suppress(psycopg.Error):
                _roll_back(connection)
            raise
    if isinstance(rows, Fallback):
        _roll_back(connection)
        return rows
    tables = tuple(UndoneTable(shown_name(name), *counts) for name, *counts, _ in rows)
    bloated = {name for *_, names in rows for name in names}
    if bloated:
        vacuum(connection, role, sorted(bloated))
    return Rewound(tables, time.perf_counter() - begun)


def _attempt(
    connection: SandboxConnection,
    reader: Callable[[], SandboxConnection],
    role: str,
    baseline: str,
    patience: timedelta,
    grace: timedelta,
    *,
    sequences_have_moved: bool = False,
) -> list[tuple[Any, ...]] | Fallback:
    second = reader()
    # In a pipeline, an answer is waited for at its end.
    with second.pipeline():
        surveys = [second.execute(_SURVEY, [None, grace])]
        number = _begin(connection, role, baseline, patience, grace, sequences_have_moved)
        if isinstance(number, str):
            surveys.append(second.execute(_SURVEY, [number, grace]))
            undone = _answer(connection, "SELECT * FROM erp_sandbox_journal.undo()")
    if isinstance(number, psycopg.Error):
        raise number
    # The later answer, if there is one. The sequences as the server writes such an array.
    reason, moved = next(row for survey in reversed(surveys) if (row := survey.fetchone()))
    if reason is not None:
        return Fallback(reason)
    if number is None:
        connection.execute("COMMIT")
        if moved is None:
            return []
        return _attempt(connection, reader, role, baseline, patience, grace, sequences_have_moved=True)
    if isinstance(undone, psycopg.Error):
        raise undone
    end = sql.SQL("SELECT erp_sandbox_journal.put_sequences_back({}); COMMIT")
    connection.execute(end.format(sql.Literal(moved)))
    return undone


def _begin(
    connection: SandboxConnection,
    role: str,
    baseline: str,
    patience: timedelta,
    grace: timedelta,
    sequences_have_moved: bool,
) -> str | psycopg.Error | None:
    """Begin the transaction. Its number; or None where nobody has written; or why it cannot begin."""
    # All in one message: each round trip would cost as much as the undo of a table.
    script = sql.SQL(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = 0;"
        " SET LOCAL ROLE {role}; SET LOCAL synchronous_commit = off; SET LOCAL client_min_messages = error;"
        " SELECT {begin}({baseline}, {form}, {patience}, {grace}, {sequences_have_moved})::text"
    ).format(
        role=sql.Identifier(role),
        begin=sql.Identifier(SCHEMA, "begin_rewind"),
        baseline=sql.Literal(baseline),
        form=sql.Literal(form()),
        patience=sql.Literal(patience),
        grace=sql.Literal(grace),
        sequences_have_moved=sql.Literal(sequences_have_moved),
    )
    answer = _answer(connection, script)
    return answer if isinstance(answer, psycopg.Error) else answer[0][0]


def _answer(connection: SandboxConnection, statements: Query) -> list[tuple[Any, ...]] | psycopg.Error:
    """What the last one gives; or the error, for when the survey has ended: that may have the better reason."""
    try:
        cursor = connection.execute(statements)
    except psycopg.Error as error:
        return error
    while cursor.nextset():
        pass
    return cursor.fetchall()


def _is_passing(error: psycopg.Error) -> bool:
    """Whether others, who had only begun to write, were in the way: once they have ended, another attempt succeeds."""
    return error.sqlstate == _BEGUN or isinstance(error, _PASSING)


def _roll_back(connection: SandboxConnection) -> None:
    if not connection.closed:
        connection.execute("ROLLBACK")


def _explained(error: psycopg.Error, lock_timeout: timedelta) -> Fallback:
    said = (error.diag.message_primary or str(error)).strip()
    if error.sqlstate == LATE or _is_passing(error):
        raise PostgresError(
            f"the sandbox cannot be rewound: others have written and not ended their transactions for {lock_timeout}:"
            f" {said}",
            hint="Commit or end their transactions, or raise sandbox.lock-timeout.",
        )
    if error.sqlstate is None or error.sqlstate.startswith(_ENDED):
        raise PostgresError(f"the sandbox was not rewound: {said}")
    if isinstance(error, psycopg.errors.InvalidSchemaName | psycopg.errors.UndefinedFunction):
        return Fallback("there is no journal, or another version of this program made it")
    return Fallback(said if error.sqlstate == _CANNOT else f"the undo failed: {said}")
