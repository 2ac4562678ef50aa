"""Who is in the way: the sessions, and prepared transactions, that hold locks on what people made in a database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from psycopg import Connection

from ._sql import query

__all__ = ["blockers"]


def blockers(connection: Connection[Any], mode: str | None = None) -> list[str]:
    """The others that hold locks in the connected database, or have changed something, in words.

    Args:
        connection: is not one of them.
        mode: only locks of this mode on tables count, such as ``AccessExclusiveLock``.
    """
    rows = connection.execute(query(__package__, "blockers.sql"), {"mode": mode}).fetchall()
    return [_words(*row) for row in rows]


def _words(
    pid: int | None,
    login: str,
    application: str | None,
    state: str | None,
    age: timedelta | None,
    tables: str,
    gid: str | None,
) -> str:
    who = f"pid {pid}, login {login}, application {application or 'unnamed'}, {state or 'state hidden'}"
    if gid is not None:
        who = f"a prepared transaction of {login}'s, which ROLLBACK PREPARED {gid} ends"
    open_for = age if age is not None else "an unknown time"
    return f"{who}, transaction open for {open_for}{f', {tables}' if tables else ''}"
