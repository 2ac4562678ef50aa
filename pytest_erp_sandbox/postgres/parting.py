"""Parting what can be made before the data, so that several sessions make it at once, not seeing each other's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from .archive import Entry

__all__ = ["part", "part_early"]

_TABLES = {"COMMENT", "DEFAULT", "SEQUENCE", "SEQUENCE OWNED BY", "TABLE"}
"""What a table is made with, as a rule: whatever else is made before the data stays together."""

_LATER = {"CONSTRAINT", "FK CONSTRAINT", "INDEX", "SEQUENCE SET", "TABLE DATA", "TRIGGER"}
"""What is made with the data, or after it: then all tables are there."""

_AFTER_ROWS = {"CONSTRAINT", "INDEX", "TRIGGER"}
"""What is made after its table's rows. A foreign key waits for another table's key, too."""


def part(entries: Sequence[Entry], parts: int) -> list[list[Entry]]:
    """Part the entries into as many lists, each in the order of ``entries``.

    Those made before the data are about as many in each, and depend on none in another list. What is not of a table
    alone, a function, a type, a view with its tables, is in the first.
    """
    groups = _groups([entry for entry in entries if entry.kind not in _LATER])
    apart = [group for group in groups if _is_apart(group)]
    loads = [sum(map(len, groups)) - sum(map(len, apart)), *[0] * (parts - 1)]
    list_of: dict[int, int] = {}
    for group in apart:
        number = loads.index(min(loads))
        loads[number] += len(group)
        list_of.update({entry.id: number for entry in group})
    return [[entry for entry in entries if list_of.get(entry.id, 0) == number] for number in range(parts)]


def part_early(entries: Sequence[Entry], without_rows: Collection[int], parts: int) -> list[list[Entry]]:
    """What pg_restore makes with the data, or after it, although all that it needs are the tables.

    Sequences' values; and the keys, indexes and triggers of tables without rows, with what comments on them: all of a
    table's in one list.

    Args:
        entries: of a dump.
        without_rows: the numbers of those ``TABLE DATA`` that have none.
        parts: how many lists.
    """
    tables_without = _tables_without_rows(entries, without_rows)
    later = {entry.id for entry in entries if entry.kind in _LATER}
    whole_of: dict[int, int] = {}
    for entry in entries:
        tables = entry.depends_on & tables_without
        if entry.kind == "SEQUENCE SET":
            whole_of[entry.id] = entry.id
        elif entry.kind in _AFTER_ROWS and tables and not entry.depends_on & later:
            whole_of[entry.id] = min(tables)
        elif entry.kind == "COMMENT" and entry.depends_on & whole_of.keys():
            whole_of[entry.id] = whole_of[min(entry.depends_on & whole_of.keys())]
    list_of = {whole: number % parts for number, whole in enumerate(dict.fromkeys(whole_of.values()))}
    early = [entry for entry in entries if entry.id in whole_of]
    return [[entry for entry in early if list_of[whole_of[entry.id]] == number] for number in range(parts)]


def _tables_without_rows(entries: Sequence[Entry], without_rows: Collection[int]) -> set[int]:
    tables: set[int] = set()
    others: set[int] = set()
    for entry in entries:
        if entry.kind == "TABLE DATA":
            (tables if entry.id in without_rows else others).update(entry.depends_on)
        elif entry.kind == "TABLE ATTACH":  # its rows may be among those of the whole
            others |= entry.depends_on
    return tables - others


def _is_apart(group: Sequence[Entry]) -> bool:
    kinds = {entry.kind for entry in group}
    return kinds <= _TABLES and bool(kinds & {"SEQUENCE", "TABLE"})


def _groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries that are connected with one another, each group in the order of ``entries``."""
    known = {entry.id: entry.id for entry in entries}

    def root(each: int) -> int:
        while known[each] != each:
            each = known[each] = known[known[each]]
        return each

    for entry in entries:
        for needed in entry.depends_on & known.keys():
            known[root(entry.id)] = root(needed)
    groups: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[root(entry.id)].append(entry)
    return list(groups.values())
