"""The grants that others have on the sandbox's objects: recorded before a wipe, given again after the restore."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence

from psycopg import sql
from psycopg.types.json import Jsonb

from ._sql import query
from .connection import SandboxConnection, quoted_role

__all__ = ["default_privileges", "give_grants", "record_grants"]


def record_grants(connection: SandboxConnection, role: str) -> str | None:
    """The grants on ``role``'s objects, as one word that a mark can hold; None where there are none."""
    connection.execute("SET LOCAL search_path = ''")
    rows = connection.execute(query(__package__, "grants_recorded.sql"), {"role": quoted_role(role)}).fetchall()
    if not rows:
        return None
    names = ("kind", "object", "part", "grantee", "privileges", "grantable")
    text = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def give_grants(connection: SandboxConnection, record: str) -> None:
    """Give the recorded grants again, on all objects that are there; as their owner, in a transaction."""
    grants = json.loads(zlib.decompress(base64.b85decode(record)))
    connection.execute("SET LOCAL search_path = ''")
    _execute_all(
        connection, connection.execute(query(__package__, "grants_given.sql"), {"grants": Jsonb(grants)}).fetchall()
    )


def default_privileges(connection: SandboxConnection, role: str) -> list[sql.SQL]:
    """The statements that give ``role``'s default privileges in schema public again."""
    rows = connection.execute(query(__package__, "default_privileges.sql"), {"role": quoted_role(role)}).fetchall()
    return [_as_sql(statement) for (statement,) in rows]


def _execute_all(connection: SandboxConnection, rows: Sequence[tuple[str]]) -> None:
    if rows:
        connection.execute(sql.SQL("; ").join(_as_sql(statement) for (statement,) in rows))


def _as_sql(statement: str) -> sql.SQL:
    return sql.SQL(statement)  # composed by the server, with its own quoting
