"""What a rehearsal has changed, as people may see it: without secrets, without what is of no interest; and as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .postgres.changes import LIMIT, Change, ChangeSet, Kind, Row, read_changes

if TYPE_CHECKING:
    from .postgres.connection import SandboxConnection
    from .settings import ChangesSettings

__all__ = ["Change", "ChangeSet", "Kind", "Redacted", "read_shown", "told"]

_SECRET_NAMES = re.compile(r"passwo?r?d|key|token|secret|signature|(?:pass|pwd?)(?:_|$)", re.IGNORECASE)
"""What the name of a constant (``llx_const``) says when its value is one."""

_ENCRYPTED = "dolcrypt:"
"""With which Dolibarr's encrypted values begin, wherever they are."""

_ROW = re.compile(r"([^\[]+)\[(\w+)=(.*)\]")
"""Names rows by the value of a column: ``table[column=value]``."""

_LONGEST_VALUE = 200
"""Characters of a value that are shown."""

MANY = 50
"""Changes that a message shows."""


@dataclass(frozen=True)
class Redacted:
    """Stands in for a value that nobody is to see.

    Attributes:
        is_new: whether it is another than before; that is all that is said.
    """

    is_new: bool = False

    def __str__(self) -> str:
        return "[redacted, changed]" if self.is_new else "[redacted]"

    __repr__ = __str__


def read_shown(
    connection: SandboxConnection,
    role: str,
    settings: ChangesSettings,
    *,
    table: str | None = None,
    kind: Kind | None = None,
    limit: int | None = LIMIT,
    each: int | None = None,
) -> ChangeSet:
    """What was changed, without secrets (``changes.redact``), and without what nobody asks for (``changes.ignore``).

    Args:
        connection: to a sandbox with a journal, in autocommit mode.
        role: the sandbox's owner.
        settings: what is redacted, and what is ignored.
        table: only of this table (``*`` matches); of all where it is None.
        kind: only such changes; all where it is None.
        limit: how many changes to keep at most, the rest is counted; None for all.
        each: the same, of each table.

    Raises:
        PostgresError: there is no journal, or the server refused.
    """

    def view(change: Change) -> Change | None:
        # Before they are counted: what is not wanted takes no room.
        is_wanted = (table is None or fnmatchcase(change.table, table)) and kind in (None, change.kind)
        return _shown(change, settings) if is_wanted else None

    found = read_changes(connection, role, limit=limit, each=each, view=view)
    unseen = tuple(each for each in found.unseen if not _is_named(each.what, None, settings.ignore))
    return replace(found, unseen=unseen)


def told(found: ChangeSet, limit: int | None = MANY) -> str:
    """The changes as text: table and key, and each column with what it was and what it is."""
    lines = [line for change in found.changes[:limit] for line in _lines(change)]
    left = found.omitted + len(found.changes[limit:] if limit is not None else ())
    if left:
        lines.append(f"and {left:,} more {'change' if left == 1 else 'changes'}")
    lines += [f"{each.what} was changed, and it is not known how: {each.reason}" for each in found.unseen]
    return "\n".join(lines) or "nothing was changed"


def name_of(change: Change) -> str:
    """A table and its row's key: ``llx_societe 12``, ``llx_const name=MAIN_MODULE, entity=1``."""
    if not change.key:
        return change.table
    if len(change.key) == 1:
        return f"{change.table} {_text(*change.key.values())}"
    return f"{change.table} {', '.join(f'{name}={_text(value)}' for name, value in change.key.items())}"


def _lines(change: Change) -> Iterator[str]:
    yield f"{change.kind} {name_of(change)}"
    before, after = change.before or {}, change.after or {}
    for column in change.columns:
        if change.kind == "updated":
            is_secret = isinstance(after[column], Redacted)
            yield f"    {column}: {'changed' if is_secret else f'{_text(before[column])} → {_text(after[column])}'}"
        elif (value := (after or before)[column]) is not None:
            yield f"    {column}: {_text(value)}"


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    text = repr(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}… ({len(text):,} characters)"


def _shown(change: Change, settings: ChangesSettings) -> Change | None:
    kept = _without_ignored(change, settings.ignore)
    return None if kept is None else _redacted(kept, settings.redact)


def _without_ignored(change: Change, ignore: tuple[str, ...]) -> Change | None:
    if _is_named(change.table, None, ignore) or _is_ignored_row(change, ignore):
        return None
    ignored = {column for column in change.after or change.before or {} if _is_named(change.table, column, ignore)}
    if change.kind == "updated" and ignored.issuperset(change.columns):
        return None
    return _with_rows(change, lambda row: {name: value for name, value in row.items() if name not in ignored})


def _is_ignored_row(change: Change, ignore: tuple[str, ...]) -> bool:
    """Whether a pattern, ``table[column=value]``, names the row, before and after."""
    rows = [row for row in (change.before, change.after) if row is not None]
    return any(
        fnmatchcase(change.table, table) and all(fnmatchcase(str(row.get(column)), value) for row in rows)
        for table, column, value in _row_patterns(ignore)
    )


@lru_cache
def _row_patterns(patterns: tuple[str, ...]) -> list[tuple[str, str, str]]:
    found = (_ROW.fullmatch(pattern) for pattern in patterns)
    return [(match[1], match[2], match[3]) for match in found if match is not None]


def _redacted(change: Change, redact: tuple[str, ...]) -> Change:
    row = change.after or change.before or {}
    secret = {column for column in row if _is_named(change.table, column, redact)} | _secrets_by_content(change)
    differ = set(change.columns) if change.kind == "updated" else set()
    return replace(
        change,
        # A number is no secret, and tells which row it is.
        key=change.key and {name: _hide(value, name in secret, False) for name, value in change.key.items()},
        before=change.before and {name: _hide(value, name in secret, False) for name, value in change.before.items()},
        after=change.after
        and {name: _hide(value, name in secret, name in differ) for name, value in change.after.items()},
    )


def _hide(value: object, is_secret: bool, is_new: bool) -> object:
    return Redacted(is_new) if is_secret and not isinstance(value, int) and value is not None else value


def _secrets_by_content(change: Change) -> set[str]:
    """The columns whose values give away that they are secrets, before or after."""
    rows = [row for row in (change.before, change.after) if row is not None]
    found = {
        column
        for row in rows
        for column, value in row.items()
        if isinstance(value, str) and value.startswith(_ENCRYPTED)
    }
    if change.table == "llx_const" and any(_SECRET_NAMES.search(str(row.get("name", ""))) for row in rows):
        found.add("value")
    return found


@lru_cache(maxsize=10_000)  # every row asks it of every column
def _is_named(table: str, column: str | None, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern, ``table.column`` or ``table``, names this."""
    name = table if column is None else f"{table}.{column}"
    return any(
        fnmatchcase(name, pattern)
        for pattern in patterns
        if ("." in pattern) == (column is not None) and not _ROW.fullmatch(pattern)
    )


def _with_rows(change: Change, part: Callable[[Row], Row]) -> Change:
    return replace(change, before=change.before and part(change.before), after=change.after and part(change.after))
