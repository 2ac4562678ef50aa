"""A change set in JSON's types, and of bounded size: for reports, which travel and are kept."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

from .changes import Change, ChangeSet, Redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .postgres.changes import Kind

__all__ = ["PlainChanges", "PlainRow", "PlainTable", "plain_changes"]

LONGEST = 4_000
"""Characters that are kept of a value."""

_NAMES = ("ref", "nom", "name", "label", "login", "lastname")
"""Columns by which people know a row, the best first."""

_SAFE = 2**53
"""Whole numbers beyond it are text: readers of JSON take numbers for floats."""


class PlainRow(TypedDict):
    """A row that is not what it was.

    A value is None, a bool, a number, text, ``{"redacted": …}`` (whether it changed), or ``{"cut": …, "length": …}``.
    """

    kind: Kind
    key: dict[str, object] | None
    name: str
    """What people call it, where a column says so; else empty."""
    before: dict[str, object] | None
    """What it was: the columns that differ, or all that had a value where it is no longer there."""
    after: dict[str, object] | None


class PlainTable(TypedDict):
    """What was changed in a table: how many rows, and some or all of them."""

    table: str
    inserted: int
    updated: int
    deleted: int
    rows: list[PlainRow]


class PlainChanges(TypedDict):
    """What was changed."""

    inserted: int
    updated: int
    deleted: int
    tables: list[PlainTable]
    unseen: list[dict[str, str]]
    """What was changed, nobody knows how: ``what`` and ``reason``."""


def plain_changes(found: ChangeSet) -> PlainChanges:
    """A change set as people may see it, in JSON's types."""
    tables: dict[str, PlainTable] = {}
    for (table, kind), count in found.counts.items():
        own = tables.setdefault(table, {"table": table, "inserted": 0, "updated": 0, "deleted": 0, "rows": []})
        own[kind] += count
    for change in found:
        tables[change.table]["rows"].append(_row(change))
    return {
        "inserted": sum(table["inserted"] for table in tables.values()),
        "updated": sum(table["updated"] for table in tables.values()),
        "deleted": sum(table["deleted"] for table in tables.values()),
        "tables": list(tables.values()),
        "unseen": [{"what": each.what, "reason": each.reason} for each in found.unseen],
    }


def _row(change: Change) -> PlainRow:
    before, after = change.before, change.after
    shown = change.columns if change.kind == "updated" else None
    return {
        "kind": change.kind,
        "key": change.key and _values(change.key, shown=tuple(change.key)),
        "name": _name(change),
        "before": before and _values(before, shown),
        "after": after and _values(after, shown),
    }


def _name(change: Change) -> str:
    row = change.before or change.after or {}
    names = (row[column] for column in _NAMES if column in row and column not in (change.key or {}))
    return next((name[:200] for name in names if isinstance(name, str) and name), "")


def _values(row: Mapping[str, Any], shown: tuple[str, ...] | None) -> dict[str, object]:
    """The columns that are shown; None for all that have a value."""
    return {
        column: _value(value)
        for column, value in row.items()
        if (value is not None if shown is None else column in shown)
    }


def _value(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Redacted):
        return {"redacted": True, "changed": value.is_new}
    if isinstance(value, int) and abs(value) < _SAFE:
        return value
    # Exact as text, as floats are not; 96.00000000 says no more than 96.
    text = f"{value.normalize():f}" if isinstance(value, Decimal) and value.is_finite() else _text(value)
    return text if len(text) <= LONGEST else {"cut": text[:LONGEST], "length": len(text)}


def _text(value: object) -> str:
    return f"\\x{bytes(value).hex()}" if isinstance(value, bytes | bytearray | memoryview) else str(value)
