"""What was changed since the baseline, row by row, as the journal has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import psycopg

from ..errors import PostgresError
from .connection import SandboxConnection, as_owner
from .journal import fill, has_journal, read_pieces

__all__ = ["ChangeSet", "Row", "RowChange", "read_changes"]

Row = dict[str, Any]
"""A row's columns by their names, as psycopg loads them; generated columns are left out."""


@dataclass(frozen=True)
class RowChange:
    """A row that is not what it was.

    Attributes:
        table: its table, with the schema, quoted where SQL needs it.
        key: the values that tell it from others; None where its table has no key. Then an update reads as a row that
            has gone and another one that has come.
        before: what it was; None if it was not there.
        after: what it is; None if it is no longer there.
    """

    table: str
    key: Row | None
    before: Row | None
    after: Row | None

    @property
    def kind(self) -> Literal["inserted", "updated", "deleted"]:
        """What became of it."""
        if self.before is None:
            return "inserted"
        return "deleted" if self.after is None else "updated"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that differ; all of them where the row has come or gone."""
        before, after = self.before, self.after
        if before is None or after is None:
            return tuple(before or after or ())
        # NaN is not equal to itself.
        return tuple(name for name in before if before[name] != after[name] and repr(before[name]) != repr(after[name]))


@dataclass(frozen=True)
class ChangeSet:
    """What is not as in the baseline.

    Attributes:
        rows: by table, and by key within each.
        unseen: tables that were written without the journal knowing which rows, each with the reason.
    """

    rows: tuple[RowChange, ...]
    unseen: tuple[tuple[str, str], ...]


def read_changes(connection: SandboxConnection, role: str) -> ChangeSet:
    """Compare what the journal has of the baseline with what is there now, at one moment.

    What was changed and changed back is not a change. The application may go on meanwhile.

    Args:
        connection: to a sandbox with a journal, in autocommit mode.
        role: the sandbox's owner.

    Raises:
        PostgresError: there is no journal, or the server refused.
    """
    if not has_journal(connection):
        raise PostgresError("what was changed is not known: there is no journal in the sandbox")
    try:
        with as_owner(connection, role):
            # One snapshot for all, and values read as they were written.
            connection.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
                " SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL array_nulls = on;"
                " SET LOCAL extra_float_digits = 1; SET LOCAL lc_monetary = 'C'; SET LOCAL row_security = off"
            )
            return _read(connection)
    except psycopg.Error as error:
        raise PostgresError(f"what was changed cannot be read: {str(error).strip()}") from None


def _read(connection: SandboxConnection) -> ChangeSet:
    rows: list[RowChange] = []
    unseen: list[tuple[str, str]] = []
    for table in read_pieces(connection, "relation IN (SELECT relation FROM erp_sandbox_journal.calls)"):
        name = table["name"].text
        if table["obstacle"] is not None:
            unseen.append((name, table["obstacle"].text))
        elif connection.execute("SELECT erp_sandbox_journal.doubts(%s)", [table["relation"]]).fetchone() != (0,):
            unseen.append((name, "statements within statements wrote the same row"))
        else:
            template = "changes_keyless.sql" if table["key_names"] is None else "changes_keyed.sql"
            lines = connection.execute(fill(template, table)).fetchall()
            rows += _changes(name, table["key_names"], table["column_names"], lines)
    return ChangeSet(tuple(rows), tuple(unseen))


def _changes(
    table: str, key: Sequence[str] | None, columns: Sequence[str], lines: list[tuple[Any, ...]]
) -> Iterator[RowChange]:
    """Each line has a change's number, whether it is what is there now, and the columns' values."""
    for _, sides in groupby(lines, itemgetter(0)):
        if key is None:
            for _, is_after, *values in sides:
                row = dict(zip(columns, values, strict=True))
                yield RowChange(table, None, None if is_after else row, row if is_after else None)
            continue
        found: dict[bool, Row] = {is_after: dict(zip(columns, values, strict=True)) for _, is_after, *values in sides}
        before, after = found.get(False), found.get(True)
        known = after or before or {}
        yield RowChange(table, {name: known[name] for name in key}, before, after)
