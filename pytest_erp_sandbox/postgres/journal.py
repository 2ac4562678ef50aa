"""The journal of an adopted sandbox: which rows were written since the baseline, and what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.abc import AdaptContext
from psycopg.rows import dict_row

from ..errors import PostgresError
from ._sql import query
from .adoption import require_mark
from .blockers import blockers
from .connection import SandboxConnection, as_owner, identify, milliseconds
from .verify import note_contents

__all__ = [
    "LATE",
    "SCHEMA",
    "Pieces",
    "drop_journal",
    "fill",
    "form",
    "install_journal",
    "journalled_baseline",
    "read_pieces",
    "shown_name",
]

SCHEMA = "erp_sandbox_journal"

LATE = "ES002"
"""The SQLSTATE for transactions that would not end; the journal's own."""

LARGE = 8 * 2**20
"""From this many bytes on, a table has a journal of its own, typed: bulk statements are cheaper, installing dearer."""

_SCRIPTS = ("journal", "rewind.sql", "tally_", "undo")

_LOCK_TIMEOUT = timedelta(seconds=10)

Pieces = Mapping[str, Any]
"""A table, and the pieces of SQL that its triggers and its undo are made of: a row of ``journal_tables.sql``."""


def install_journal(
    connection: SandboxConnection,
    role: str,
    baseline: str,
    *,
    lock_timeout: timedelta = _LOCK_TIMEOUT,
    verifiable: bool = False,
    large: int = LARGE,
) -> None:
    """Begin to journal: what the sandbox holds now is the baseline that a rewind will bring back.

    An earlier journal is dropped. Waits for transactions that are writing, for as long as ``lock_timeout``. Within a
    transaction it has to be the last step: what the same transaction writes afterwards is undone by the first rewind,
    and what it defines afterwards is not noticed.

    Args:
        connection: to an adopted sandbox.
        role: the sandbox's owner.
        baseline: what the baseline is called; a rewind asks for it by this name.
        lock_timeout: how long to wait for others.
        verifiable: whether to note the contents of all tables, for ``read_differences``; that reads everything once.
        large: the size of a table, in bytes, from which on it has a journal of its own.

    Raises:
        NotASandboxError: the database is not adopted.
        PostgresError: others write for longer than ``lock_timeout``, or the server refused.
    """
    require_mark(connection)
    try:
        with as_owner(connection, role):
            # One transaction for all: the locks of creating triggers keep everybody from writing until the commit.
            # The catalogues have no statistics right after a restore: with nested loops it took five times as long.
            connection.execute(
                "SELECT set_config('lock_timeout', %s, true), set_config('client_min_messages', 'error', true),"
                " set_config('check_function_bodies', 'off', true), set_config('search_path', 'pg_catalog', true),"
                " set_config('synchronous_commit', 'off', true), set_config('erp_sandbox.large', %s, true),"
                " set_config('jit', 'off', true), set_config('enable_nestloop', 'off', true)",
                [f"{milliseconds(lock_timeout)}ms", str(large)],
            )
            connection.execute("DROP SCHEMA IF EXISTS erp_sandbox_journal CASCADE")
            connection.execute(query(__package__, "journal.sql"))
            connection.execute(query(__package__, "rewind.sql"))
            connection.execute(
                "INSERT INTO erp_sandbox_journal.undo_forms VALUES (true, %s, %s), (false, %s, %s)",
                [query(__package__, f"{part}_{key}.sql") for key in ("keyed", "keyless") for part in ("undo", "tally")],
            )
            _watch(connection)
            connection.execute(
                "SELECT erp_sandbox_journal.note_sequences(), erp_sandbox_journal.begin_baseline(%s, %s, %s)",
                [baseline, form(), lock_timeout],
            )
            if verifiable:
                note_contents(connection, role)
    except psycopg.Error as error:
        if isinstance(error, psycopg.errors.LockNotAvailable) or error.sqlstate == LATE:
            late = [error.diag.message_primary] if error.sqlstate == LATE else blockers(connection)
            named = "".join(f"\n  {who}" for who in late)
            raise PostgresError(
                f"the journal cannot be installed: others write for longer than {lock_timeout}{named}",
                hint="End their transactions, or raise sandbox.lock-timeout.",
            ) from None
        raise PostgresError(f"the journal cannot be installed: {str(error).strip()}") from None


def drop_journal(connection: SandboxConnection, role: str) -> None:
    """Journal no longer, and leave no trace of it in the database; nothing where there is no journal."""
    with as_owner(connection, role):
        connection.execute("SET LOCAL client_min_messages = error")
        connection.execute("DROP SCHEMA IF EXISTS erp_sandbox_journal CASCADE")


def journalled_baseline(connection: SandboxConnection, role: str) -> str | None:
    """The name of the baseline that the journal goes back to; None where there is no journal of this very database."""
    here = identify(connection)
    with as_owner(connection, role):
        if connection.execute("SELECT to_regclass('erp_sandbox_journal.baseline')").fetchone() == (None,):
            return None
        row = connection.execute(
            "SELECT id FROM erp_sandbox_journal.baseline"
            " WHERE (system_identifier, database, form) = (%s, %s::bigint::oid, %s)",
            [here.system_identifier, here.oid, form()],
        ).fetchone()
    return None if row is None else str(row[0])


@cache
def form() -> str:
    """Tells one version of the journal's scripts from others."""
    scripts = (path for path in files(__package__).iterdir() if path.name.startswith(_SCRIPTS))
    texts = [path.read_bytes() for path in sorted(scripts, key=lambda path: path.name)]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]


def shown_name(name: str) -> str:
    """A table's name as people know it: without its schema where that is ``public``."""
    return name.removeprefix("public.")


def _watch(connection: SandboxConnection) -> None:
    """Put triggers on every table, and keep the pieces that its undo is made of."""
    connection.execute(query(__package__, "journal_tables.sql"))
    # Tables that are noted alike have one in common.
    writers = read_pieces(
        connection,
        "relation IN (SELECT min(relation) FROM erp_sandbox_journal.tables WHERE obstacle IS NULL GROUP BY writer)",
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        tables = cursor.execute("SELECT name, writer, obstacle FROM erp_sandbox_journal.tables").fetchall()
    # In one script for all.
    connection.execute(
        sql.SQL(";\n").join(
            [
                sql.SQL("ALTER TABLE erp_sandbox_journal.tables ADD PRIMARY KEY (relation)"),
                *(fill("journal_own.sql", table) for table in writers if table["own"]),
                *map(_writer, writers),
                *(fill("journal_mark.sql" if table["obstacle"] else "journal_triggers.sql", table) for table in tables),
            ]
        )
    )


def _writer(table: Pieces) -> Piece:
    """The function that notes what is written to the table, and to others that are noted alike."""
    guard = str(fill("journal_guard.sql", table)) if table["own"] else ""
    return fill("journal_writer_function.sql", table, body=_literal(fill("journal_writer.sql", table, guard=guard)))


def _literal(piece: Piece) -> str:
    return sql.Literal(str(piece)).as_string()


class Piece(sql.Composable):
    """A piece of SQL that the server has made, with every name in it quoted: taken as it is, braces and all.

    Or what these, and nothing else, were put together to.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._text = text

    def __str__(self) -> str:
        return self._text

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """As the connection wants it."""
        connection = context.connection if context else None
        return self._text.encode(connection.info.encoding if connection else "utf-8")


def read_pieces(connection: SandboxConnection, where: LiteralString) -> Sequence[Pieces]:
    """The journalled tables that the condition is true of."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            sql.SQL("SELECT * FROM erp_sandbox_journal.tables WHERE {} ORDER BY name").format(sql.SQL(where))
        ).fetchall()


def fill(name: str, table: Pieces, **more: str) -> Piece:
    """The template of that name with the table's pieces in it."""
    # As psycopg would, which takes ten times as long: there is one to fill for each table.
    return Piece(query(__package__, name).format(**table, **more))
