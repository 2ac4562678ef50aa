"""Who is in the way: the sessions that hold locks on what people made in a database."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from ._sql import query

__all__ = ["blockers"]


def blockers(connection: Connection[Any], mode: str | None = None) -> list[str]:
    """The other sessions that hold locks in the connected database, or have changed something, in words.

    Args:
        connection: is not one of them.
        mode: only locks of this mode on tables count, such as ``AccessExclusiveLock``.
    """
    rows = connection.execute(query(__package__, "blockers.sql"), {"mode": mode}).fetchall()
    return [
        f"pid {pid}, login {login}, application {application or 'unnamed'}, {state or 'state hidden'},"
        f" transaction open for {age if age is not None else 'an unknown time'}{f', {tables}' if tables else ''}"
        for pid, login, application, state, age, tables in rows
    ]
