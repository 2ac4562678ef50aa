"""What was changed since the baseline, row by row, as the journal has it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.types.datetime import (
    DateLoader,
    IntervalLoader,
    TimeLoader,
    TimestampLoader,
    TimestamptzLoader,
    TimetzLoader,
)

from ..errors import PostgresError
from .blockers import blockers
from .connection import SandboxConnection, as_owner
from .journal import Pieces, fill, journalled_baseline, read_pieces, shown_name

__all__ = ["Change", "ChangeSet", "Kind", "Row", "Unseen", "read_changes"]

Kind = Literal["inserted", "updated", "deleted"]

Row = dict[str, Any]
"""A row's columns by their names, as psycopg loads them; generated columns are left out.

Times that Python has no value for, such as ``infinity``, are text."""

LIMIT = 10_000


@dataclass(frozen=True)
class Change:
    """A row that is not what it was.

    Attributes:
        table: its table, without the schema where that is ``public``, quoted where SQL needs it.
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
    def kind(self) -> Kind:
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
class Unseen:
    """Something that was changed, nobody knows how.

    Attributes:
        what: a table, or "the catalogue".
        reason: why the journal does not tell.
    """

    what: str
    reason: str


@dataclass(frozen=True)
class ChangeSet:
    """What is not as in the baseline.

    Attributes:
        changes: by table, and by key within each.
        unseen: what was changed without the journal knowing how.
        more: how many more changes there are than were asked for, by table and kind.
    """

    changes: tuple[Change, ...]
    unseen: tuple[Unseen, ...] = ()
    more: Mapping[tuple[str, Kind], int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    @property
    def omitted(self) -> int:
        """How many more changes there are than were asked for."""
        return sum(self.more.values())

    @property
    def counts(self) -> Mapping[tuple[str, Kind], int]:
        """How many changes there are of each table and kind, omitted ones among them."""
        return Counter((change.table, change.kind) for change in self.changes) + Counter(self.more)


def read_changes(
    connection: SandboxConnection,
    role: str,
    *,
    tables: Collection[str] | None = None,
    limit: int | None = LIMIT,
    each: int | None = None,
    view: Callable[[Change], Change | None] = lambda change: change,
) -> ChangeSet:
    """Compare what the journal has of the baseline with what is there now, at one moment.

    What was changed and changed back is not a change. The application may go on meanwhile.

    Args:
        connection: to a sandbox with a journal, in autocommit mode.
        role: the sandbox's owner.
        tables: only these, by the names that changes have; None for all.
        limit: how many changes to keep at most; None for all.
        each: the same, of each table.
        view: what is to be kept of a change; None where it is none, and is not counted.

    Raises:
        PostgresError: there is no journal, others have locked a table for 5 s, or the server refused.
    """
    try:
        if journalled_baseline(connection, role) is None:
            raise PostgresError(
                "what was changed is not known: there is no journal in the sandbox",
                hint='Set journal = true, or strategy = "rewind"; the next reset begins to journal.',
            )
        with as_owner(connection, role):
            # One snapshot for all, and values read as they were written.
            connection.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
                " SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL array_nulls = on;"
                " SET LOCAL extra_float_digits = 1; SET LOCAL lc_monetary = 'C'; SET LOCAL row_security = off;"
                # The test itself may hold what it waits for, until this has ended.
                " SET LOCAL lock_timeout = '5s'"
            )
            return _read(connection, tables, limit, each, view)
    except psycopg.errors.LockNotAvailable:
        named = "".join(f"\n  {who}" for who in blockers(connection, "AccessExclusiveLock"))
        raise PostgresError(
            f"what was changed cannot be read: others have locked tables for themselves{named}",
            hint="End their transactions: of DDL, or LOCK TABLE.",
        ) from None
    except psycopg.Error as error:
        raise PostgresError(f"what was changed cannot be read: {str(error).strip()}") from None


def _read(
    connection: SandboxConnection,
    tables: Collection[str] | None,
    limit: int | None,
    each: int | None,
    view: Callable[[Change], Change | None],
) -> ChangeSet:
    changes: list[Change] = []
    more = Counter[tuple[str, Kind]]()
    unseen = list(_unseen_as_a_whole(connection))
    redefined = _redefined(connection)
    for table in read_pieces(connection, "relation IN (SELECT relation FROM erp_sandbox_journal.calls)"):
        name = shown_name(table["name"])
        if tables is not None and name not in tables:
            continue
        if table["obstacle"] is not None:
            unseen.append(Unseen(name, table["obstacle"]))
        elif table["relation"] in redefined:
            unseen.append(Unseen(name, "it was dropped or rewritten, or columns that it had were defined anew"))
        elif connection.execute("SELECT erp_sandbox_journal.doubts(%s)", [table["relation"]]).fetchone() != (0,):
            unseen.append(Unseen(name, "one statement wrote a row more than once"))
        else:
            room = min(sys.maxsize if limit is None else limit - len(changes), sys.maxsize if each is None else each)
            found, left_out = _seen(map(view, _changes(connection, name, table)), room)
            changes += found
            more += left_out
    return ChangeSet(tuple(changes), tuple(unseen), more)


def _redefined(connection: SandboxConnection) -> set[int]:
    """The tables that were written and are no longer the baseline's: what the journal has of them would mislead."""
    rows = connection.execute(
        "SELECT relation::bigint FROM erp_sandbox_journal.tables, erp_sandbox_journal.baseline"
        " WHERE relation IN (SELECT relation FROM erp_sandbox_journal.calls) AND ("
        "     relation IN (SELECT relation FROM erp_sandbox_journal.calls WHERE operation = 'X')"
        "     OR relation IS DISTINCT FROM to_regclass(name)::oid"
        "     OR cardinality(column_names) <> ("
        "         SELECT count(*) FROM pg_attribute WHERE attrelid = relation AND attname = ANY (column_names)"
        "         AND age(pg_attribute.xmin) >= age(baseline.xmin)))"
    )
    return {relation for (relation,) in rows}


def _seen(changes: Iterator[Change | None], room: int) -> tuple[list[Change], Counter[tuple[str, Kind]]]:
    """As many changes as there is room for, and how many more there are, by table and kind."""
    seen = (change for change in changes if change is not None)
    return list(islice(seen, room)), Counter((change.table, change.kind) for change in seen)


def _unseen_as_a_whole(connection: SandboxConnection) -> Iterator[Unseen]:
    altered, lost = connection.execute(
        "SELECT erp_sandbox_journal.altered(age(xmin)),"
        " erp_sandbox_journal.lost(ARRAY(SELECT DISTINCT relation FROM erp_sandbox_journal.calls))"
        " FROM erp_sandbox_journal.baseline"
    ).fetchone() or (None, None)
    if altered is not None:
        yield Unseen("the catalogue", f"something was defined anew, or truncated: {altered}")
    if lost is not None:
        yield Unseen("the journal", lost)


def _changes(connection: SandboxConnection, name: str, table: Pieces) -> Iterator[Change]:
    template = "changes_keyless.sql" if table["key_names"] is None else "changes_keyed.sql"
    # The server keeps what does not fit here.
    with connection.cursor(f"erp_sandbox_changes_{table['relation']}") as cursor:
        for kind, loader in _TIMES.items():
            cursor.adapters.register_loader(kind, loader)
        cursor.execute(sql.Composed([fill(template, table)]))
        yield from _paired(name, table["key_names"], table["column_names"], cursor)


def _paired(
    table: str, key: Sequence[str] | None, columns: Sequence[str], lines: Iterator[tuple[Any, ...]]
) -> Iterator[Change]:
    """Each line has a change's number, whether it is what is there now, and the columns' values."""
    for _, sides in groupby(lines, itemgetter(0)):
        if key is None:
            for _, is_after, *values in sides:
                row = dict(zip(columns, values, strict=True))
                yield Change(table, None, None if is_after else row, row if is_after else None)
            continue
        found: dict[bool, Row] = {is_after: dict(zip(columns, values, strict=True)) for _, is_after, *values in sides}
        before, after = found.get(False), found.get(True)
        known = after or before or {}
        yield Change(table, {name: known[name] for name in key}, before, after)


class _TextElse:
    """Loads what Python has no value for as the text that PostgreSQL writes."""

    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)  # type: ignore[misc]
        except psycopg.DataError:
            return bytes(data).decode()


_TIMES = {
    "date": type("_Date", (_TextElse, DateLoader), {}),
    "interval": type("_Interval", (_TextElse, IntervalLoader), {}),
    "time": type("_Time", (_TextElse, TimeLoader), {}),
    "timetz": type("_Timetz", (_TextElse, TimetzLoader), {}),
    "timestamp": type("_Timestamp", (_TextElse, TimestampLoader), {}),
    "timestamptz": type("_Timestamptz", (_TextElse, TimestamptzLoader), {}),
}
