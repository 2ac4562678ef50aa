"""Rewind: undo exactly what was written since the baseline, in one transaction, or say why it cannot be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from ..errors import PostgresError
from .connection import SandboxConnection
from .journal import LATE, form, shown_name
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

# For the transaction alone.
_SETTINGS = """
SELECT set_config('role', %s, true), set_config('statement_timeout', '0', true),
    set_config('synchronous_commit', 'off', true), set_config('client_min_messages', 'error', true)
"""
_UNDO = """
SELECT number::text, is_youngest, undone.* FROM erp_sandbox_journal.begin_rewind(%s, %s, %s, %s, %s)
LEFT JOIN LATERAL erp_sandbox_journal.undo(number) AS undone ON true
"""
_SURVEY = "SELECT reason, moved::text, next::text, is_late FROM erp_sandbox_journal.survey(%s, %s)"

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
            if connection.info.transaction_status is not TransactionStatus.IDLE:
                connection.close()
            raise
    if isinstance(rows, Fallback):
        _roll_back(connection)
        return rows
    tables = tuple(UndoneTable(shown_name(name), *counts) for name, *counts, _ in rows)
    bloated = {name for *_, names in rows for name in names}
    if bloated:
        vacuum(connection, role, sorted(bloated))
    return Rewound(tables, time.perf_counter() - begun)


@dataclass(frozen=True)
class _Survey:
    """What ``survey`` in rewind.sql gives; ``moved`` as the server writes such an array."""

    reason: str | None
    moved: str | None
    next: str | None
    is_late: bool


@dataclass(frozen=True)
class _Undone:
    """What ``begin_rewind`` in rewind.sql gives, and the lines of ``undo``: none without a ``number``."""

    number: str | None
    is_youngest: bool
    lines: Sequence[tuple[Any, ...]]

    def is_all_seen_by(self, survey: _Survey) -> bool:
        """Whether nobody has done anything that matters and that the survey has not seen."""
        return self.number is None or survey.is_late or (survey.next == self.number and self.is_youngest)


def _attempt(
    connection: SandboxConnection,
    reader: Callable[[], SandboxConnection],
    role: str,
    baseline: str,
    patience: timedelta,
    grace: timedelta,
    *,
    sequences_have_moved: bool = False,
) -> Sequence[tuple[Any, ...]] | Fallback:
    second = reader()
    survey = second.cursor(row_factory=class_row(_Survey))
    # In pipelines, an answer is not waited for until it is needed. First comes what mostly takes longest.
    with second.pipeline(), connection.pipeline():
        undoing = _begin(connection, role, baseline, patience, grace, sequences_have_moved)
        survey.execute(_SURVEY, [connection.info.backend_pid, grace])
        undone = _answer(undoing)
        # Here, as to leave the pipeline of a session that has ended would raise, in other words.
        if isinstance(undone, psycopg.Error) and (_is_ended(undone) or undone.sqlstate in (LATE, _BEGUN)):
            raise undone
    seen = survey.fetchone()
    if seen is None or isinstance(undone, psycopg.Error) or not undone.is_all_seen_by(seen):
        survey.execute(_SURVEY, [None, grace])
        seen = survey.fetchone()
        assert seen
    # The better reason.
    if seen.reason is not None:
        return Fallback(seen.reason)
    if isinstance(undone, psycopg.Error):
        raise undone
    if undone.number is None:
        connection.execute("COMMIT")
        if seen.moved is None:
            return []
        return _attempt(connection, reader, role, baseline, patience, grace, sequences_have_moved=True)
    end = sql.SQL("SELECT erp_sandbox_journal.put_sequences_back({}); COMMIT")
    connection.execute(end.format(sql.Literal(seen.moved)))
    return undone.lines


def _begin(
    connection: SandboxConnection,
    role: str,
    baseline: str,
    patience: timedelta,
    grace: timedelta,
    sequences_have_moved: bool,
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Begin the transaction, and undo."""
    # In as few messages as can be. If psycopg prepared them, a ROLLBACK would make it DEALLOCATE ALL: what undoes, too.
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", prepare=False)
    connection.execute(_SETTINGS, [role], prepare=False)
    return connection.execute(_UNDO, [baseline, form(), patience, grace, sequences_have_moved], prepare=False)


def _answer(undoing: psycopg.Cursor[tuple[Any, ...]]) -> _Undone | psycopg.Error:
    """The error, if there is one, is for when the survey has ended."""
    try:
        rows = undoing.fetchall()
    except psycopg.Error as error:
        return error
    number, is_youngest, *_ = rows[0]
    return _Undone(number, bool(is_youngest), [tuple(line) for _, _, *line in rows if line[0] is not None])


def _is_passing(error: psycopg.Error) -> bool:
    """Whether others, who had only begun to write, were in the way: once they have ended, another attempt succeeds."""
    return error.sqlstate == _BEGUN or isinstance(error, _PASSING)


def _is_ended(error: psycopg.Error) -> bool:
    return error.sqlstate is None or error.sqlstate.startswith(_ENDED)


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
    if _is_ended(error):
        raise PostgresError(f"the sandbox was not rewound: {said}")
    if isinstance(error, psycopg.errors.InvalidSchemaName | psycopg.errors.UndefinedFunction):
        return Fallback("there is no journal, or another version of this program made it")
    return Fallback(said if error.sqlstate == _CANNOT else f"the undo failed: {said}")
