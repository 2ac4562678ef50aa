"""Which columns refer to which tables, as the foreign keys have it."""

from __future__ import annotations

from .connection import SandboxConnection

__all__ = ["foreign_keys"]


def foreign_keys(connection: SandboxConnection) -> dict[tuple[str, str], str]:
    """The foreign keys of one column: for each table and column the table that it refers to.

    Tables are named as in a ``Change``: without their schema where that is ``public``, quoted where SQL needs it.
    """
    with connection.transaction():
        connection.execute("SET LOCAL search_path = public")
        rows = connection.execute(
            "SELECT conrelid::regclass::text, attname::text, confrelid::regclass::text"
            " FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]"
            " WHERE contype = 'f' AND cardinality(conkey) = 1"
        ).fetchall()
    return {(table, column): referred for table, column, referred in rows}
