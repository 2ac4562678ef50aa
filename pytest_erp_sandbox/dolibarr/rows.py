"""Inserting into Dolibarr's tables, whose columns differ between its versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from psycopg import sql

from ..postgres.connection import SandboxConnection

__all__ = ["catch_up", "columns", "columns_of", "insert"]


def columns(connection: SandboxConnection, table: str) -> frozenset[str]:
    """Name the table's columns; none if it does not exist."""
    return columns_of(connection, [table])[table]


def columns_of(connection: SandboxConnection, tables: Collection[str]) -> dict[str, frozenset[str]]:
    """Name the columns of each of the tables."""
    found: dict[str, set[str]] = {table: set() for table in tables}
    rows = connection.execute(
        "SELECT asked, attname FROM unnest(%s::text[]) AS asked"
        " JOIN pg_attribute ON attrelid = to_regclass('public.' || asked) AND attnum > 0 AND NOT attisdropped",
        [list(tables)],
    )
    for table, name in rows:
        found[table].add(name)
    return {table: frozenset(names) for table, names in found.items()}


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
