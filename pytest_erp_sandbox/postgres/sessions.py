"""What a session really is: one that may write, one with a server process of its own, or a pooler's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

from .connection import ProdConnection, SandboxConnection

__all__ = ["NOT_REFUSED", "WriteProbe", "are_separate", "has_own_backend", "probe_writing"]

Session = ProdConnection | SandboxConnection

NOT_REFUSED = "00000"
"""The SQLSTATE of a statement that succeeded."""

# Irregular: two server processes that a pooler hands out in turn would pass an alternating order.
_ORDER = (0, 1, 1, 0, 0, 0, 1, 0, 1, 1)


@dataclass(frozen=True)
class WriteProbe:
    """What came of an attempt to write.

    Attributes:
        read_only: what the server said of the transaction before.
        sqlstate: the reason it gave for refusing; ``NOT_REFUSED`` if it did not.
    """

    read_only: bool
    sqlstate: str


def probe_writing(connection: ProdConnection) -> WriteProbe:
    """Try to write in a transaction that asks for nothing but the session's defaults, and is rolled back.

    What is tried is a temporary table, which would go with the transaction even if it were committed: no other
    session could see it, and none of prod's objects is named.
    """
    # By a cursor: connection.execute, like connection.transaction, would say READ ONLY, and it is the session's default
    # that is being asked for.
    connection.cursor().execute("BEGIN")
    try:
        said = connection.execute("SHOW transaction_read_only").fetchone()
        sqlstate = NOT_REFUSED
        try:
            connection.execute("CREATE TEMPORARY TABLE erp_sandbox_probe () ON COMMIT DROP")
        except psycopg.Error as error:
            if error.sqlstate is None:
                raise
            sqlstate = error.sqlstate
    finally:
        connection.rollback()
    return WriteProbe(said == ("on",), sqlstate)


def are_separate(first: Session, second: Session) -> bool:
    """Whether two sessions have a server process each, the same one from transaction to transaction.

    Always so when both are connected to the server directly; not so with a pooler in transaction mode, which runs each
    transaction in whichever process is free. Nothing is set, so nothing can leak to others' sessions.
    """
    seen: tuple[set[tuple[int, datetime]], set[tuple[int, datetime]]] = (set(), set())
    for which in _ORDER:
        seen[which].add(_backend((first, second)[which]))
    return len(seen[0]) == len(seen[1]) == 1 and seen[0] != seen[1]


def has_own_backend(connection: Session) -> bool:
    """Whether who answered the connection is the process that runs its statements; a pooler is not."""
    return connection.info.backend_pid == _backend(connection)[0]


def _backend(connection: Session) -> tuple[int, datetime]:
    # With the server's start: two servers of one DSN can have processes of the same number. Not prepared: that is a
    # setting of the session, too.
    row = connection.execute("SELECT pg_backend_pid(), pg_postmaster_start_time()", prepare=False).fetchone()
    assert row is not None
    return row[0], row[1]
