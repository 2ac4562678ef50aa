"""How far changes are the expected ones: what is missing, what was not expected, what is different."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from ..errors import ErpSandboxError
from .rows import IDENTIFIER, QUOTED, STRING, TABLE, Row

__all__ = ["compare"]

_LINE = re.compile(rf"((?:{STRING}|{QUOTED}|[^\s'\"#]|(?<=\S)#|\s++(?!#))*+)\s*+(?:#.*)?")
_SPACE = re.compile(rf"({STRING}|{QUOTED})|\s*(->|→)\s*|\s+")
_EQUALS = re.compile(rf"({STRING}|{QUOTED})|\s*=\s*")
_TEXTS = re.compile(rf"{QUOTED}|{STRING}(?: {STRING})*")
_HEADER = re.compile(rf"(inserted|updated|deleted) ({TABLE}(?:#\w+| .+=.+))")
_VALUE = re.compile(rf"({IDENTIFIER}) ?: ?(.+)")
_NAME = re.compile(rf"({STRING})|{TABLE}#\d+")
_NUMBERED_NAME = re.compile(rf"{TABLE}#\d+")
_MENTIONED = re.compile(r"(?<=\u2039)[^\u2039\u203a]+#\d+(?=\u203a)")
_ROUNDS = 5
"""How often rows are looked at anew, once it is known which rows those are that they refer to."""
_NEAR = 25
"""How many rows up and down a like one is looked for."""


def compare(expected_text: str, found_text: str) -> str:
    """Say in how far changes are not the expected ones; "" if they are.

    Numbered rows are known by what is in them, and references to them follow: one row more or less among them is one
    difference. A text that people have edited may have comments (``#``), CRLF and any spacing.

    Raises:
        ErpSandboxError: a line cannot be read.
    """
    expected, found = _read(expected_text), _read(found_text)
    for _ in range(_ROUNDS):
        names = _common_names(expected, found)
        if all(name == common for name, common in names.items()):
            break
        found = [_renamed(row, names.__getitem__) for row in found]
    wanted = {(row.kind, row.name): row for row in expected}
    seen = {(row.kind, row.name): row for row in found}
    lines = [f"unexpected: {row}".rstrip() for known, row in seen.items() if known not in wanted]
    lines += [f"missing: {row}".rstrip() for known, row in wanted.items() if known not in seen]
    for known, row in wanted.items():
        lines += _differences(row, seen.get(known, row))
    return "\n".join(lines)


def _read(text: str) -> list[Row]:
    rows: dict[tuple[str, str], Row] = {}
    row, column = Row("", ""), ""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")), start=1):
        match = _LINE.fullmatch(line)
        code = _SPACE.sub(_tidy_space, match[1] if match else line).strip()
        value, header = _VALUE.fullmatch(code), _HEADER.fullmatch(_EQUALS.sub(lambda found: found[1] or "=", code))
        if match and column and code.startswith(("'", "→")):
            row.values[column] += f" {code}"
        elif match and row.name and value and value[1] not in row.values:
            column = value[1]
            row.values[column] = value[2]
        elif match and header and header.groups() not in rows:
            column = ""
            row = rows[header[1], header[2]] = Row(header[1], header[2])
        elif code or not match:
            raise ErpSandboxError(
                f"line {number} of the expected changes cannot be read, or is there twice: {line.strip()}",
                hint="A row begins with inserted, updated or deleted and its name; its values follow as column: value.",
            )
    for row in rows.values():
        row.values = {column: _TEXTS.sub(_joined, value) for column, value in row.values.items()}
    return list(rows.values())


def _tidy_space(space: re.Match[str]) -> str:
    return space[1] or (" → " if space[2] else " ")


def _joined(texts: re.Match[str]) -> str:
    """Strings that follow each other, in one."""
    pieces = re.findall(STRING, texts[0])
    return texts[0] if texts[0].startswith('"') else f"'{''.join(piece[1:-1] for piece in pieces)}'"


def _common_names(expected: Sequence[Row], found: Sequence[Row]) -> dict[str, str]:
    """What the found rows' names are among the expected ones; what is not among them gets further numbers."""
    pairs = list(_pairs(expected, found))
    names = {other.name: row.name for row, other in pairs if _is_numbered(row)}
    # Numbers such as an invoice's stand in rows, and are no row's name.
    taken = {row.name for row in (*expected, *found)}
    for column, row, other in ((column, *pair) for pair in pairs for column in pair[0].values):
        for mine, others in zip(_names_in(row.values[column]), _names_in(other.values.get(column, "")), strict=False):
            if _stem(mine) == _stem(others) and others not in names and not {mine, others} & taken:
                names[others] = mine
                taken.add(mine)
    last: dict[str, int] = defaultdict(int)
    for stem, number in map(_parts, _all_names(expected)):
        last[stem] = max(last[stem], number)
    for stem, number in sorted(map(_parts, _all_names(found) - names.keys())):
        last[stem] += 1
        names[f"{stem}#{number}"] = f"{stem}#{last[stem]}"
    return names


def _pairs(expected: Sequence[Row], found: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Those that are taken for the same row: equal ones first, then the likest."""
    wanted, left = list(expected), list(found)
    for likeness in (_content, _content_but_name):
        waiting: dict[Hashable, deque[Row]] = defaultdict(deque)
        for row in left:
            waiting[likeness(row)].append(row)
        still_wanted = []
        for row in wanted:
            if same := waiting[likeness(row)]:
                yield row, same.popleft()
            else:
                still_wanted.append(row)
        wanted, left = still_wanted, [row for rows in waiting.values() for row in rows]
    groups: dict[Hashable, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((wanted, left)):
        for row in filter(_is_numbered, rows):
            groups[row.kind, _stem(row.name)][side].append(row)
    for group in groups.values():
        yield from _likest(*group)


def _likest(expected: Sequence[Row], found: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Pairs that have half of their values in common, or all but one."""
    ones, others = [[_renamed(row, _stem).values for row in rows] for rows in (expected, found)]
    candidates = []
    for i, one in enumerate(ones):
        for j in range(max(0, i - _NEAR), min(len(others), i + _NEAR)):
            columns = one.keys() | others[j].keys()
            different = sum(one.get(column) != others[j].get(column) for column in columns)
            if different <= max(1, len(columns) // 2):
                candidates.append((different / max(1, len(columns)), abs(i - j), i, j))
    paired: tuple[set[int], set[int]] = set(), set()
    for _, _, i, j in sorted(candidates):
        if i not in paired[0] and j not in paired[1]:
            paired[0].add(i)
            paired[1].add(j)
            yield expected[i], found[j]


def _content(row: Row) -> Hashable:
    return row.kind, row.name, frozenset(row.values.items())


def _content_but_name(row: Row) -> Hashable:
    """Of a row that has a key, just that."""
    values = frozenset(row.values.items())
    return (row.kind, _stem(row.name), values) if _is_numbered(row) else (row.kind, row.name)


def _differences(expected: Row, found: Row) -> Iterator[str]:
    absent = "NULL" if expected.kind == "inserted" else "unchanged"
    for column in {**expected.values, **found.values}:
        wanted, seen = expected.values.get(column, absent), found.values.get(column, absent)
        if wanted != seen:
            yield f"different: {expected.name} {column}: {wanted} was expected, it is {seen}"


def _is_numbered(row: Row) -> bool:
    return _NUMBERED_NAME.fullmatch(row.name) is not None


def _stem(name: str) -> str:
    return name.rpartition("#")[0]


def _parts(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("#")
    return stem, int(number)


def _names_in(value: str) -> list[str]:
    matches = _NAME.finditer(value)
    return [name for match in matches for name in (_MENTIONED.findall(match[1]) if match[1] else [match[0]])]


def _all_names(rows: Iterable[Row]) -> set[str]:
    return {row.name for row in rows if _is_numbered(row)} | {
        name for row in rows for value in row.values.values() for name in _names_in(value)
    }


def _renamed(row: Row, called: Callable[[str], str]) -> Row:
    def rename(match: re.Match[str]) -> str:
        return _MENTIONED.sub(lambda name: called(name[0]), match[1]) if match[1] else called(match[0])

    name = called(row.name) if _is_numbered(row) else row.name
    return Row(row.kind, name, {column: _NAME.sub(rename, value) for column, value in row.values.items()})
