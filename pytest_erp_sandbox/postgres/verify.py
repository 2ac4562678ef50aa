"""Whether a sandbox is as it was in the baseline: by content, and by other code than what brought it there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import psycopg
from psycopg import sql

from ..errors import PostgresError
from ._sql import query
from .connection import SandboxConnection, as_owner, quoted_role

__all__ = ["note_contents", "read_differences"]

_MANY = 20
"""Differences that are told one by one."""

# Values are read as text: it must not depend on the session. Nothing may be hidden.
_AS_ALWAYS = (
    "SET LOCAL search_path = pg_catalog; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres';"
    " SET LOCAL extra_float_digits = 3; SET LOCAL timezone = 'UTC'; SET LOCAL bytea_output = 'hex';"
    " SET LOCAL lc_monetary = 'C'; SET LOCAL row_security = off; SET LOCAL statement_timeout = 0"
)

# Sums: the order of rows does not matter. Two hashes: no two contents have the same by accident.
_ROWS = (
    "SELECT format('%s rows %s %s', count(*), sum(hashtextextended(CAST(t.* AS text), 0)::numeric),"
    " sum(hashtextextended(CAST(t.* AS text), 1)::numeric)) FROM ONLY {} AS t"
)
_VALUE = "SELECT format('%s %s', last_value, is_called) FROM {}"


def note_contents(connection: SandboxConnection, role: str) -> None:
    """Note what the sandbox holds, beside the journal: ``read_differences`` compares with it. Reads all there is."""
    with as_owner(connection, role), connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO erp_sandbox_journal.contents VALUES (%s, %s)", list(_contents(connection, role))
        )


def read_differences(connection: SandboxConnection, role: str) -> tuple[str, ...]:
    """What is not as it was in the baseline, in words: rows, sequences, definitions; nothing if all is equal.

    Raises:
        PostgresError: the journal's baseline was not noted (``install_journal(…, verifiable=True)``), or the server
            refused.
    """
    try:
        with as_owner(connection, role):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            before = dict(connection.execute("SELECT name, digest FROM erp_sandbox_journal.contents").fetchall())
            now = dict(_contents(connection, role))
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable):
        before = {}
    except psycopg.Error as error:
        raise PostgresError(f"the sandbox cannot be compared with its baseline: {str(error).strip()}") from None
    if not before:
        raise PostgresError(
            "the sandbox cannot be compared with its baseline: what that held was not noted",
            hint="Let it be restored once: the next baseline is noted.",
        )
    found = [_difference(name, before.get(name), now.get(name)) for name in sorted({*before, *now})]
    told = [words for words in found if words]
    return (*told[:_MANY], f"and {len(told) - _MANY} more") if len(told) > _MANY else tuple(told)


def _difference(name: str, before: str | None, now: str | None) -> str:
    if before == now:
        return ""
    if before is None:
        return f"{name} is new"
    if now is None:
        return f"{name} is gone"
    rows_before, rows_now = (text.split(" rows ")[0] for text in (before, now))
    if " rows " not in before:
        return f"{name} is another"
    return f"{name}: {'other rows' if rows_before == rows_now else f'{rows_now} rows instead of {rows_before}'}"


def _contents(connection: SandboxConnection, role: str) -> Iterator[tuple[str, str]]:
    """The name, and the digest, of all that the role has."""
    connection.execute(_AS_ALWAYS)
    parameters = {"role": quoted_role(role)}
    for name, definition in connection.execute(query(__package__, "verify.sql"), parameters).fetchall():
        yield name, hashlib.sha256((definition or "").encode()).hexdigest()
    relations = connection.execute(
        "SELECT relkind, nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE relowner = to_regrole(%(role)s) AND relpersistence <> 't' AND nspname <> 'erp_sandbox_journal'"
        " AND (relkind IN ('r', 'S') OR relkind = 'm' AND relispopulated) ORDER BY 2, 3",
        parameters,
    ).fetchall()
    for kind, *name in relations:
        place = sql.Identifier(*name)
        template = sql.SQL(_VALUE if kind == "S" else _ROWS)
        row = connection.execute(template.format(place)).fetchone()
        assert row is not None
        yield f"{'the value of' if kind == 'S' else 'the content of'} {place.as_string()}", row[0]
