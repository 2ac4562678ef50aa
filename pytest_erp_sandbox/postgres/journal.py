"""The journal of an adopted sandbox: which rows were written since the baseline, and what they were."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from ..errors import PostgresError
from ._sql import query
from .adoption import require_mark
from .connection import SandboxConnection, as_owner

__all__ = ["LATE", "SCHEMA", "drop_journal", "has_journal", "install_journal"]

SCHEMA = "erp_sandbox_journal"

LATE = "ES002"
"""The SQLSTATE for transactions that would not end; the journal's own."""

LARGE = 8 * 2**20
"""From this many bytes on, a table has a journal of its own, typed: bulk statements are cheaper, installing dearer."""

_LOCK_TIMEOUT = timedelta(seconds=10)

_Pieces = Mapping[str, Any]
"""A table, and the pieces of SQL that its triggers and its undo are made of: a row of ``journal_tables.sql``."""


def install_journal(
    connection: SandboxConnection,
    role: str,
    baseline: str,
    *,
    lock_timeout: timedelta = _LOCK_TIMEOUT,
    large: int = LARGE,
) -> None:
    """Begin to journal: what the sandbox holds now is the baseline that a rewind will bring back.

    An earlier journal is dropped. Waits for transactions that are writing, for as long as ``lock_timeout``.

    Args:
        connection: to an adopted sandbox.
        role: the sandbox's owner.
        baseline: what the baseline is called; a rewind asks for it by this name.
        lock_timeout: how long to wait for others.
        large: the size of a table, in bytes, from which on it has a journal of its own.

    Raises:
        NotASandboxError: the database is not adopted.
        PostgresError: others write for longer than ``lock_timeout``, or the server refused.
    """
    require_mark(connection)
    try:
        with as_owner(connection, role):
            # One transaction for all: the locks of creating triggers keep everybody from writing until the commit.
            connection.execute(
                "SELECT set_config('lock_timeout', %s, true), set_config('client_min_messages', 'error', true),"
                " set_config('check_function_bodies', 'off', true), set_config('search_path', 'pg_catalog', true),"
                " set_config('synchronous_commit', 'off', true)",
                [f"{int(lock_timeout.total_seconds() * 1000)}ms"],
            )
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            connection.execute(query(__package__, "journal.sql"))
            connection.execute(query(__package__, "rewind.sql"))
            _watch(connection, large)
            connection.execute(
                f"SELECT {SCHEMA}.note_sequences(), {SCHEMA}.begin_baseline(%s, %s)", [baseline, lock_timeout]
            )
    except psycopg.Error as error:
        if isinstance(error, psycopg.errors.LockNotAvailable) or error.sqlstate == LATE:
            raise PostgresError(
                f"the journal cannot be installed: others write for longer than {lock_timeout}",
                hint="End their transactions, or raise sandbox.lock-timeout.",
            ) from None
        raise PostgresError(f"the journal cannot be installed: {str(error).strip()}") from None


def drop_journal(connection: SandboxConnection, role: str) -> None:
    """Journal no longer, and leave no trace of it in the database; nothing where there is no journal."""
    with as_owner(connection, role):
        connection.execute("SET LOCAL client_min_messages = error")
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def has_journal(connection: SandboxConnection) -> bool:
    """Whether the connected database has a journal, whatever it is worth."""
    return connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", [SCHEMA]).fetchone() == (True,)


def _watch(connection: SandboxConnection, large: int) -> None:
    """Put triggers on every table, and keep what undoes their rows, in one script for all."""
    with connection.cursor(row_factory=dict_row) as cursor:
        tables = cursor.execute(query(__package__, "journal_tables.sql"), {"large": large}).fetchall()
    watched = [table for table in tables if table["obstacle"] is None]
    writers = {table["writer"]: _fill("journal_writer.sql", table) for table in watched}
    connection.execute(
        sql.SQL(";\n").join(
            [
                *(_fill("journal_own.sql", table) for table in watched if table["own"]),
                *writers.values(),
                *(_fill("journal_triggers.sql", table) for table in watched),
                *(_undo_function(table) for table in watched if not table["entangled"]),
                *(_fill("journal_mark.sql", table) for table in tables if table["obstacle"]),
            ]
        )
    )
    with connection.cursor() as writer, writer.copy(f"COPY {SCHEMA}.tables FROM STDIN") as copy:
        for table in tables:
            copy.write_row(_record(connection, table))


_RECORDED = ("oid", "table", "obstacle", "own", "key_names", "column_names", "entangled")


def _record(connection: SandboxConnection, table: _Pieces) -> tuple[Any, ...]:
    """The line of ``erp_sandbox_journal.tables``."""
    texts: list[sql.Composed | None] = [None] * 6
    if table["obstacle"] is None:
        form = _form(table)
        if table["entangled"]:
            texts[:4] = [*_undo(table), *_undo(table, replace=True)]
        texts[4:] = [_fill("doubts.sql", table) if form == "keyed" else None, _fill(f"changes_{form}.sql", table)]
    return (
        *(table[name] for name in _RECORDED),
        *(text and text.as_string(connection) for text in texts),
    )


def _undo_function(table: _Pieces) -> sql.Composed:
    """The function that undoes one table's rows; for those that need not be undone together with others'."""
    undo, tally = _undo(table)
    replacing_undo, replacing_tally = _undo(table, replace=True)
    may_have_to = _form(table) == "keyed" and table["may_have_to_replace"] and table["may_replace"]
    body = _sql("undo_or_replace.sql" if may_have_to else "undo.sql").format(
        undo=undo, tally=tally, replacing_undo=replacing_undo, replacing_tally=replacing_tally
    )
    return _sql("undo_function.sql").format(oid=_trusted(table["oid"]), body=sql.Literal(body.as_string(None)))


def _form(table: _Pieces) -> str:
    return "keyless" if table["key_names"] is None else "keyed"


def _undo(table: _Pieces, *, replace: bool = False) -> tuple[sql.Composed, sql.Composed]:
    """What undoes one table's rows, and what counts them; with ``replace``, taking them out first where that is safe."""
    anew = table["must_replace"] or (replace and table["may_replace"])
    form = _form(table)
    return _fill(f"undo_{form}.sql", table, replace=anew), _fill(f"tally_{form}.sql", table, replace=anew)


def _fill(name: str, table: _Pieces, *, replace: bool = False) -> sql.Composed:
    """The template of that name with the table's pieces in it."""
    pieces = {key: _trusted(piece) for key, piece in table.items() if isinstance(piece, str)}
    return _sql(name).format(**pieces, replace=sql.SQL("true" if replace else "false"))


def _sql(name: str) -> sql.SQL:
    return sql.SQL(query(__package__, name))


def _trusted(piece: str) -> sql.SQL:
    # The server made it, and has quoted every name in it.
    return sql.SQL(piece)
