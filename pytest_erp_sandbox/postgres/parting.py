"""Parting what is made before the data, so that several sessions make it at once, none seeing what another makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from .archive import Entry

__all__ = ["part"]

_TABLES = {"COMMENT", "DEFAULT", "SEQUENCE", "SEQUENCE OWNED BY", "TABLE"}
"""What a table is made with, as a rule: whatever else is made before the data stays together."""

_LATER = {"CONSTRAINT", "FK CONSTRAINT", "INDEX", "SEQUENCE SET", "TABLE DATA", "TRIGGER"}
"""What is made with the data, or after it: then all tables are there."""


def part(entries: Sequence[Entry], parts: int) -> list[list[Entry]]:
    """Part the entries into as many lists, each in the order of ``entries``.

    Those made before the data are about as many in each, and depend on none in another list. What is not of a table
    alone, a function, a type, a view with its tables, is in the first.
    """
    group_of = _groups([entry for entry in entries if entry.kind not in _LATER])
    groups: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.id in group_of:
            groups[group_of[entry.id]].append(entry)
    loads, list_of = [0] * parts, dict.fromkeys(groups, 0)
    for each, group in sorted(groups.items(), key=lambda item: _is_apart(item[1])):
        if _is_apart(group):
            list_of[each] = loads.index(min(loads))
        loads[list_of[each]] += len(group)
    parted: list[list[Entry]] = [[] for _ in range(parts)]
    for entry in entries:
        parted[list_of[group_of[entry.id]] if entry.id in group_of else 0].append(entry)
    return parted


def _is_apart(group: Sequence[Entry]) -> bool:
    kinds = {entry.kind for entry in group}
    return kinds <= _TABLES and bool(kinds & {"SEQUENCE", "TABLE"})


def _groups(entries: Sequence[Entry]) -> dict[int, int]:
    """For the id of each entry, one that stands for all that it is connected with."""
    known = {entry.id: entry.id for entry in entries}

    def root(each: int) -> int:
        while known[each] != each:
            each = known[each] = known[known[each]]
        return each

    for entry in entries:
        for needed in entry.depends_on & known.keys():
            known[root(entry.id)] = root(needed)
    return {each: root(each) for each in known}
