"""The grants that others have on the sandbox's objects: recorded before a wipe, given again after the restore."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable

from psycopg.types.json import Jsonb

from ._sql import query
from .connection import SandboxConnection, quoted_role

__all__ = ["default_privileges", "execute_all", "give_grants", "record_grants"]


def record_grants(connection: SandboxConnection, role: str) -> str:
    """The grants on ``role``'s objects, as one word that a mark can hold; empty where there are none.

    What PUBLIC may by default, but was denied, belongs to them.
    """
    connection.execute("SET LOCAL search_path = ''")
    rows = connection.execute(query(__package__, "grants_recorded.sql"), {"role": quoted_role(role)}).fetchall()
    if not rows:
        return ""
    names = ("kind", "object", "part", "grantee", "privileges", "grantable")
    text = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def give_grants(connection: SandboxConnection, record: str) -> None:
    """Give the recorded grants again, on all objects that are there; as their owner, in a transaction.

    What is gone, or of another kind now, is passed over, and so are roles that are gone.
    """
    grants = json.loads(zlib.decompress(base64.b64decode(record)))
    connection.execute("SET LOCAL search_path = ''")
    rows = connection.execute(query(__package__, "grants_given.sql"), {"grants": Jsonb(grants)}).fetchall()
    execute_all(connection, (statement for (statement,) in rows))


def default_privileges(connection: SandboxConnection, role: str) -> list[str]:
    """The statements that give ``role``'s default privileges again: all but those in schemas of its own, which go."""
    rows = connection.execute(query(__package__, "default_privileges.sql"), {"role": quoted_role(role)}).fetchall()
    return [statement for (statement,) in rows]


def execute_all(connection: SandboxConnection, statements: Iterable[str]) -> None:
    """Execute statements that the server composed, with its own quoting."""
    together = "; ".join(statements)
    if together:
        connection.execute(together.encode())
