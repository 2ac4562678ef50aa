"""Writing changes down so that the same rehearsal gives the same text in any sandbox of the same prod."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from ..dolibarr.names import TABLE_CALLED
from ..postgres.changes import Change
from .rows import Row, escaped, written_column

__all__ = ["render"]

_LONG = 1_000
"""Characters, or bytes: of what is longer, length and digest are shown."""

_MENTION = re.compile(r"(\(PROV[0-9]{1,18}\)|\A[0-9]{1,18}\Z|(?<![\w-])[A-Z]{2,4}[0-9]{4}-[0-9]{4,8}(?![\w-]))")
_NUMBER = re.compile(r"([A-Z]{2,4})[0-9]{4}-[0-9]{4,8}")
_NUMBERED = re.compile(r"ref|facnumber|code_\w+")
_REFERRING = re.compile(r"(?:fk|id)_(\w+)|(\w+?)_?(?:id|fk)|(parent)")


def render(
    changes: Iterable[Change],
    references: Mapping[tuple[str, str], str],
    now: datetime,
    named: Mapping[tuple[str, int], str] | None = None,
) -> str:
    """Write changes down so that the same rehearsal gives the same text in any sandbox of the same prod.

    Inserted rows, and rows without a key, are numbered within their table, and called so wherever another row refers
    to them: by a foreign key; by a column named like one (``fk_soc``, ``socid``), where its name, or another column
    that says the type, tells the table or else just one inserted row has that key; or as ``(PROV12)`` in a text. In
    what is new, a time within 26 hours of now is ``<time>``, a date within a day ``<today>``, and a number such as
    ``FA2611-0001`` that was given to a row is ``FA#1``. What was there before is prod's, and shown as it is.

    Args:
        changes: in any order.
        references: the foreign keys, by table and column, each with the table that it refers to.
        now: when the rehearsal was, in about the time zone of the ERP.
        named: what to call rows that are new without having been inserted by the rehearsal, by table and key.
    """
    changes = list(changes)
    scene = _Scene(changes, references, now, named or {})
    return "".join(str(row) for row in scene.rows(changes)) or "# nothing is changed\n"


class _Scene:
    """Knows what is new, and calls it by names that do not depend on its keys."""

    def __init__(
        self,
        changes: Sequence[Change],
        references: Mapping[tuple[str, str], str],
        now: datetime,
        named: Mapping[tuple[str, int], str],
    ) -> None:
        self._references = references
        self._now = now
        changed = (change.table for change in changes)
        self._tables = {*changed, *(table for table, _ in references), *references.values()}
        self._numbers = _numbers_given(changes)
        self._new: dict[str, dict[int, str]] = defaultdict(dict)
        for (table, key), name in named.items():
            self._new[table][key] = name
        count = Counter[str]()
        self._drafts: dict[int, list[str]] = defaultdict(list)
        inserted = [(change.table, _sole_key(change), change.after or {}) for change in changes if not change.before]
        for table, sole, row in sorted(inserted, key=lambda each: (each[0], each[1] or 0)):
            if sole is not None:
                count[table] += 1
                self._new[table][sole] = name = f"{escaped(table)}#{count[table]}"
                if f"(PROV{sole})" in row.values():
                    self._drafts[sole].append(name)

    def rows(self, changes: Sequence[Change]) -> Iterator[Row]:
        """By table; those that were there, by key, then the inserted ones."""
        count = Counter[str]()
        for change in sorted(changes, key=self._place):
            sole = _sole_key(change)
            name = None if sole is None else self._new[change.table].get(sole)
            if change.key is None or change.kind == "inserted":
                count[change.table] += 1
                name = f"{escaped(change.table)}#{count[change.table]}"
            elif name is None:
                key = ", ".join(f"{written_column(column)}={_shown(value)}" for column, value in change.key.items())
                name = f"{escaped(change.table)} {key}".replace("\n", " ")
            yield Row(change.kind, name, self._values(change))

    def _place(self, change: Change) -> tuple[Any, ...]:
        """Where it stands; new keys come after those of prod, whatever their numbers."""
        place: list[tuple[bool, Any, str]] = []
        if change.key is None:
            place = [(False, 0, text) for text in self._values(change).values()]
        for column, value in (change.key or {}).items():
            is_new = _sole_key(change) is None and self._stable(change, column, value) is not None
            is_number = isinstance(value, int | float | Decimal)
            place.append((is_new, value if is_number else 0, "" if is_number else str(value)))
        return change.table, change.kind == "inserted", place

    def _values(self, change: Change) -> dict[str, str]:
        before, after = change.before, change.after
        if after is None:
            # The key says which row it was.
            row = (before or {}) if change.key is None else {}
            return {written_column(column): _shown(value) for column, value in row.items() if value is not None}
        if before is not None:
            return {written_column(column): self._update(change, column) for column in change.columns}
        hidden = [] if _sole_key(change) is None else [c for c in change.key or () if not self._refers(change, c)]
        return {
            written_column(column): self._after(change, column)
            for column, value in after.items()
            if value is not None and column not in hidden
        }

    def _refers(self, change: Change, column: str) -> bool:
        return (change.table, column) in self._references

    def _after(self, change: Change, column: str) -> str:
        return _shown((change.after or {})[column], lambda value: self._stable(change, column, value))

    def _update(self, change: Change, column: str) -> str:
        before, after = _shown((change.before or {})[column]), self._after(change, column)
        if before == after:
            return after
        if after in ("<time>", "<today>") and before != "NULL":
            # Prod's, or as new as the baseline: only this one is the same everywhere.
            before = "…"
        return f"{before}\n→ {after}" if "\n" in before + after else f"{before} → {after}"

    def _stable(self, change: Change, column: str, value: object) -> str | None:
        """What is said for a value, or for what a text mentions; None for the value itself."""
        if isinstance(value, datetime):
            return "<time>" if abs(_between(value, self._now)) <= timedelta(hours=26) else None
        if isinstance(value, date):
            return "<today>" if abs(value - self._now.date()) <= timedelta(days=1) else None
        if isinstance(value, str):
            return self._mentioned(change, column, value)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._referred(change, column, value)
        return None

    def _mentioned(self, change: Change, column: str, text: str) -> str | None:
        if text in self._numbers:
            return _within_text(self._numbers[text])
        if text.startswith("(PROV"):
            name = self._draft(change, int(text[5:-1]))
            return name and f"(PROV{_within_text(name)})"
        # An event's ref is its key.
        is_own = column == "ref" and text == str(_sole_key(change))
        name = self._new[change.table].get(int(text)) if is_own else None
        return name and _within_text(name)

    def _draft(self, change: Change, key: int) -> str | None:
        """The row that is meant by a draft's number: the draft itself, or what it refers to, or the only one."""
        drafts = self._drafts.get(key, [])
        own = self._new[change.table].get(key) if key == _sole_key(change) else None
        if own in drafts:
            return own
        names = drafts or self._called(key)
        row = change.after or {}
        for column, value in row.items():
            if value == key and (name := self._stable(change, column, value)) in names:
                return name
        return names[0] if len(names) == 1 else "?" if names else None

    def _referred(self, change: Change, column: str, key: int) -> str | None:
        table = self._target(change, column)
        if table is not None:
            return self._new.get(table, {}).get(key)
        names = self._called(key)
        return names[0] if len(names) == 1 and (column.startswith("fk_") or column.endswith("_id")) else None

    def _called(self, key: int) -> list[str]:
        return [names[key] for names in self._new.values() if key in names]

    def _target(self, change: Change, column: str) -> str | None:
        """The table that a column refers to; empty if it is no reference, None if that is not known."""
        if self._refers(change, column):
            return self._references[change.table, column]
        match = _REFERRING.fullmatch(column.lower())
        if match is None:
            return ""
        stem = next(filter(None, match.groups()))
        row = change.after or {}
        types = [row.get(name) for name in (f"{stem}type", f"{stem}_type", f"type_{stem}")]
        if stem.startswith("parent"):
            return change.table
        if stem == "object" and change.table.endswith("_extrafields"):
            return change.table.removesuffix("_extrafields")
        prefix = change.table.partition("_")[0] + "_"
        for words in (hint.lower().split("_") for hint in (*types, stem) if isinstance(hint, str)):
            for name in ("_".join(words[:length]) for length in range(len(words), 0, -1)):
                if name in TABLE_CALLED or prefix + name in self._tables:
                    return prefix + TABLE_CALLED.get(name, name)
        return None


def _numbers_given(changes: Iterable[Change]) -> dict[str, str]:
    """The numbers that rows were given, such as an invoice's, and what to call each."""
    given, had = set[str](), set[str]()
    for change in changes:
        for row, numbers in ((change.before, had), (change.after, given)):
            texts = (value for column, value in (row or {}).items() if _NUMBERED.fullmatch(column))
            numbers.update(text for text in texts if isinstance(text, str) and _NUMBER.fullmatch(text))
    names, count = {}, Counter[str]()
    for number in sorted(given - had, key=lambda number: (len(number), number)):
        prefix = number.rstrip("-0123456789")
        count[prefix] += 1
        names[number] = f"{prefix}#{count[prefix]}"
    return names


def _within_text(name: str) -> str:
    return f"\u2039{name}\u203a"


def _sole_key(change: Change) -> int | None:
    """Its key, where that is one integer, and thus most likely a sequence's."""
    values = list((change.key or {}).values())
    return values[0] if len(values) == 1 and type(values[0]) is int else None


def _between(one: datetime, other: datetime) -> timedelta:
    if one.tzinfo is None or other.tzinfo is None:
        one, other = one.replace(tzinfo=None), other.replace(tzinfo=None)
    return one - other


def _shown(value: object, stable: Callable[[Any], str | None] = lambda _: None) -> str:
    """A value as it is written; lines of a text are strings of their own."""
    if isinstance(value, str):
        return _text(value, stable)
    if isinstance(value, dict):
        return _text(json.dumps(value, ensure_ascii=False, default=str), stable)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(each, stable) for each in value)}]"
    if isinstance(value, bytes):
        return f"\\x{value.hex()}" if len(value) <= _LONG // 20 else _digest(len(value), "bytes", value)
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "true", False: "false"}[value]
    if (name := stable(value)) is not None:
        return name
    if isinstance(value, Decimal):
        digits = f"{value:f}"
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    shown = str(value)
    return shown if re.fullmatch(r"[^\s'\"\\#→>]+(?: [^\s'\"\\#→>]+)*", shown) else _text(shown, stable)


def _text(text: str, stable: Callable[[Any], str | None]) -> str:
    lines = []
    for line in re.findall(r"[^\n]*\n|[^\n]+", text) or [""]:
        # Every other piece is a mention.
        pieces = enumerate(_MENTION.split(line))
        lines.append("".join((stable(piece) if i % 2 else None) or escaped(piece) for i, piece in pieces))
    if (length := sum(map(len, lines))) > _LONG:
        return _digest(length, "characters", "".join(lines).encode())
    return "\n".join(f"'{line}'" for line in lines)


def _digest(length: int, unit: str, content: bytes) -> str:
    return f"<{length} {unit}, sha256 {hashlib.sha256(content).hexdigest()[:16]}>"
