"""What is in schema public, as text that can be compared: definitions, comments, rows, sequences' states."""

from __future__ import annotations

import hashlib
from importlib import resources

import psycopg
from psycopg import sql
from pydantic import SecretStr

from ..servers import connect


def fingerprint(dsn: SecretStr, *, leave_out: str = "user_lookup") -> dict[str, str]:
    """Everything in schema public by name, as its definition or, of rows, their number and hash.

    Args:
        dsn: of a login that may read everything.
        leave_out: names that contain this are not looked at.
    """
    found = {}
    with connect(dsn) as connection:
        connection.execute("SET search_path = ''; SET timezone = 'UTC'; SET row_security = off")
        script = resources.files(__package__).joinpath("fingerprint.sql").read_text()
        for name, definition in connection.execute(script.encode()):
            assert name not in found, name
            found[name] = definition
        for (table,) in connection.execute(
            "SELECT relname FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm') AND relispopulated"
        ).fetchall():
            found[f"rows of {table}"] = _rows(connection, table)
        for (sequence,) in connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'"
        ).fetchall():
            state = connection.execute(
                sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier("public", sequence))
            ).fetchone()
            found[f"state of {sequence}"] = str(state)
    return {name: text for name, text in found.items() if leave_out not in name}


def _rows(connection: psycopg.Connection[tuple[object, ...]], table: str) -> str:
    rows = connection.execute(
        sql.SQL("SELECT t::text FROM ONLY {} AS t ORDER BY 1").format(sql.Identifier("public", table))
    ).fetchall()
    digest = hashlib.sha256("\n".join(str(row) for (row,) in rows).encode()).hexdigest()
    return f"{len(rows)} {digest}"
