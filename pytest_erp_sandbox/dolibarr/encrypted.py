"""What a Dolibarr has encrypted with its unique id, and what of it another one cannot read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql
from pydantic import SecretStr

from ..postgres.connection import SandboxConnection
from .crypt import ENCRYPTED, decrypts

__all__ = ["Encrypted", "read_encrypted"]

_TEXT_COLUMNS = """
SELECT relname, array_agg(attname ORDER BY attnum)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
  AND atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
GROUP BY relname ORDER BY relname
"""


@dataclass(frozen=True)
class Encrypted:
    """A constant, or a column, that holds encrypted values.

    Attributes:
        where: ``table.column``; of a constant its name and entity, too.
        rows: how many values are encrypted.
        unreadable: how many of them do not decrypt here; of short ones, a few may seem to by chance.
    """

    where: str
    rows: int
    unreadable: int


def read_encrypted(connection: SandboxConnection, unique_id: SecretStr | None) -> list[Encrypted]:
    """Look at every text in schema ``public``, and try to decrypt what is encrypted; nothing of it is kept.

    Args:
        connection: of somebody who may read all of it.
        unique_id: the sandbox ERP's own; None decrypts nothing.
    """
    found: dict[str, list[bool]] = {}
    for table, columns in connection.execute(_TEXT_COLUMNS).fetchall():
        for where, value in _values(connection, table, columns):
            found.setdefault(where, []).append(unique_id is not None and decrypts(value, unique_id))
    return [Encrypted(where, len(each), each.count(False)) for where, each in sorted(found.items())]


def _values(connection: SandboxConnection, table: str, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The encrypted values of a table, each with where it is."""
    name = sql.SQL("name || ' (entity ' || entity || ')'") if table == "llx_const" else sql.SQL("NULL")
    for_each = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {} AS place, {}, {} FROM {} WHERE starts_with({}, {})").format(
            sql.Literal(column),
            name,
            sql.Identifier(column),
            sql.Identifier("public", table),
            sql.Identifier(column),
            sql.Literal(ENCRYPTED),
        )
        for column in columns
    )
    for column, of, value in connection.execute(for_each).fetchall():
        yield f"{table}.{column}{f' {of}' if of else ''}", value
