"""Inserting into Dolibarr's tables, whose columns differ between its versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from ..postgres.connection import SandboxConnection

__all__ = ["catch_up", "columns", "insert"]


def columns(connection: SandboxConnection, table: str) -> frozenset[str]:
    """Name the table's columns; none if it does not exist."""
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [f"public.{table}"],
    )
    return frozenset(name for (name,) in rows)


def insert(connection: SandboxConnection, table: str, values: Mapping[str, Any]) -> int:
    """Insert a row made now, leaving out the columns that this Dolibarr does not have; give its rowid."""
    catch_up(connection, table)
    literals: dict[str, sql.Composable] = {name: sql.Literal(value) for name, value in values.items()}
    literals["datec"] = sql.SQL("now()")
    there = sorted(literals.keys() & columns(connection, table))
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING rowid").format(
        sql.Identifier("public", table),
        sql.SQL(", ").join(map(sql.Identifier, there)),
        sql.SQL(", ").join(literals[name] for name in there),
    )
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def catch_up(connection: SandboxConnection, table: str) -> None:
    """Move the table's sequence past its rows where it is behind: prod's sometimes are, and so the copy's."""
    connection.execute(
        sql.SQL(
            "SELECT setval(sequence, highest)"
            " FROM (SELECT pg_get_serial_sequence(%s, 'rowid')::regclass, max(rowid) FROM {}) AS t (sequence, highest)"
            " WHERE coalesce(pg_sequence_last_value(sequence), 0) < highest"
        ).format(sql.Identifier("public", table)),
        [f"public.{table}"],
    )
