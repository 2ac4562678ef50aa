"""What a rehearsal is expected to change: as a text beside its feature, and in how far it came true."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from .errors import ErpSandboxError
from .postgres.changes import Change

__all__ = ["compare", "file_for", "render", "unused"]

_LONG = 1_000
"""Characters, or bytes: of what is longer, length and digest are shown."""

_IDENTIFIER = r'(?:"(?:[^"]|"")*"|\w+)'
_TABLE = rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})?"
_STRING = r"'(?:[^'\\]|\\.)*'"
_QUOTED = r'"[^"]*"'

# Rendering ------------------------------------------------------------------------------------------------------------

_MENTION = re.compile(r"(\(PROV[0-9]{1,18}\)|\A[0-9]{1,18}\Z|(?<![\w-])[A-Z]{2,4}[0-9]{4}-[0-9]{4,8}(?![\w-]))")
_NUMBER = re.compile(r"([A-Z]{2,4})[0-9]{4}-[0-9]{4,8}")
_NUMBERED = re.compile(r"ref|facnumber|code_\w+")
_REFERRING = re.compile(r"(?:fk|id)_(\w+)|(\w+?)_?(?:id|fk)|(parent)")
_UNSAFE = re.compile(
    r"[\\'\u2039\u203a\x00-\x1f\x7f-\xa0\xad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\uffff]"
)

_CALLED = """
societe soc thirdparty company customer client supplier fournisseur
socpeople contact people
user author
projet project
projet_task task project_task
facture invoice
facture_fourn invoice_supplier
commande order
commande_fournisseur order_supplier
contrat contract
entrepot warehouse
bank_account account
expedition shipping
categorie category
c_ action availability barcode code cond country currency departement effectif forme incoterms input mode pays
c_ prospectlevel region state status statut stcomm type typent unit shipping_method
"""
_TABLE_CALLED = {alias: name for name, *aliases in map(str.split, _CALLED.strip().splitlines()) for alias in aliases}
"""Tables, by what Dolibarr calls them in columns' names, and as an element's type.

"c_" stands for lists that come with it: their small keys are not to be taken for those of new rows."""


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


@dataclass
class _Row:
    """A changed row; its values as they are written."""

    kind: str
    name: str
    values: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        values = (f"    {column}: " + value.replace("\n", "\n        ") for column, value in self.values.items())
        return "\n".join((f"{self.kind} {self.name}", *values)) + "\n"


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
                self._new[table][sole] = name = f"{_escaped(table)}#{count[table]}"
                if f"(PROV{sole})" in row.values():
                    self._drafts[sole].append(name)

    def rows(self, changes: Sequence[Change]) -> Iterator[_Row]:
        """By table; those that were there, by key, then the inserted ones."""
        count = Counter[str]()
        for change in sorted(changes, key=self._place):
            sole = _sole_key(change)
            name = None if sole is None else self._new[change.table].get(sole)
            if change.key is None or change.kind == "inserted":
                count[change.table] += 1
                name = f"{_escaped(change.table)}#{count[change.table]}"
            elif name is None:
                key = ", ".join(f"{_column(column)}={_shown(value)}" for column, value in change.key.items())
                name = f"{_escaped(change.table)} {key}".replace("\n", " ")
            yield _Row(change.kind, name, self._values(change))

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
            return {_column(column): _shown(value) for column, value in row.items() if value is not None}
        if before is not None:
            return {_column(column): self._update(change, column) for column in change.columns}
        hidden = [] if _sole_key(change) is None else [c for c in change.key or () if not self._refers(change, c)]
        return {
            _column(column): self._after(change, column)
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
                if name in _TABLE_CALLED or prefix + name in self._tables:
                    return prefix + _TABLE_CALLED.get(name, name)
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
        lines.append("".join((stable(piece) if i % 2 else None) or _escaped(piece) for i, piece in pieces))
    if (length := sum(map(len, lines))) > _LONG:
        return _digest(length, "characters", "".join(lines).encode())
    return "\n".join(f"'{line}'" for line in lines)


def _digest(length: int, unit: str, content: bytes) -> str:
    return f"<{length} {unit}, sha256 {hashlib.sha256(content).hexdigest()[:16]}>"


def _escaped(text: str) -> str:
    def escape(match: re.Match[str]) -> str:
        known = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
        return known.get(match[0]) or f"\\u{ord(match[0]):04x}"

    return _UNSAFE.sub(escape, text)


def _column(name: str) -> str:
    return name if re.fullmatch(r"\w+", name) else '"' + _escaped(name).replace('"', '""') + '"'


# Comparing ------------------------------------------------------------------------------------------------------------

_LINE = re.compile(rf"((?:{_STRING}|{_QUOTED}|[^\s'\"#]|(?<=\S)#|\s++(?!#))*+)\s*+(?:#.*)?")
_SPACE = re.compile(rf"({_STRING}|{_QUOTED})|\s*(->|→)\s*|\s+")
_EQUALS = re.compile(rf"({_STRING}|{_QUOTED})|\s*=\s*")
_TEXTS = re.compile(rf"{_QUOTED}|{_STRING}(?: {_STRING})*")
_HEADER = re.compile(rf"(inserted|updated|deleted) ({_TABLE}(?:#\w+| .+=.+))")
_VALUE = re.compile(rf"({_IDENTIFIER}) ?: ?(.+)")
_NAME = re.compile(rf"({_STRING})|{_TABLE}#\d+")
_NUMBERED_NAME = re.compile(rf"{_TABLE}#\d+")
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


def _read(text: str) -> list[_Row]:
    rows: dict[tuple[str, str], _Row] = {}
    row, column = _Row("", ""), ""
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
            row = rows[header[1], header[2]] = _Row(header[1], header[2])
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
    pieces = re.findall(_STRING, texts[0])
    return texts[0] if texts[0].startswith('"') else f"'{''.join(piece[1:-1] for piece in pieces)}'"


def _common_names(expected: Sequence[_Row], found: Sequence[_Row]) -> dict[str, str]:
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


def _pairs(expected: Sequence[_Row], found: Sequence[_Row]) -> Iterator[tuple[_Row, _Row]]:
    """Those that are taken for the same row: equal ones first, then the likest."""
    wanted, left = list(expected), list(found)
    for likeness in (_content, _content_but_name):
        waiting: dict[Hashable, deque[_Row]] = defaultdict(deque)
        for row in left:
            waiting[likeness(row)].append(row)
        still_wanted = []
        for row in wanted:
            if same := waiting[likeness(row)]:
                yield row, same.popleft()
            else:
                still_wanted.append(row)
        wanted, left = still_wanted, [row for rows in waiting.values() for row in rows]
    groups: dict[Hashable, tuple[list[_Row], list[_Row]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((wanted, left)):
        for row in filter(_is_numbered, rows):
            groups[row.kind, _stem(row.name)][side].append(row)
    for group in groups.values():
        yield from _likest(*group)


def _likest(expected: Sequence[_Row], found: Sequence[_Row]) -> Iterator[tuple[_Row, _Row]]:
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


def _content(row: _Row) -> Hashable:
    return row.kind, row.name, frozenset(row.values.items())


def _content_but_name(row: _Row) -> Hashable:
    """Of a row that has a key, just that."""
    values = frozenset(row.values.items())
    return (row.kind, _stem(row.name), values) if _is_numbered(row) else (row.kind, row.name)


def _differences(expected: _Row, found: _Row) -> Iterator[str]:
    absent = "NULL" if expected.kind == "inserted" else "unchanged"
    for column in {**expected.values, **found.values}:
        wanted, seen = expected.values.get(column, absent), found.values.get(column, absent)
        if wanted != seen:
            yield f"different: {expected.name} {column}: {wanted} was expected, it is {seen}"


def _is_numbered(row: _Row) -> bool:
    return _NUMBERED_NAME.fullmatch(row.name) is not None


def _stem(name: str) -> str:
    return name.rpartition("#")[0]


def _parts(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("#")
    return stem, int(number)


def _names_in(value: str) -> list[str]:
    matches = _NAME.finditer(value)
    return [name for match in matches for name in (_MENTIONED.findall(match[1]) if match[1] else [match[0]])]


def _all_names(rows: Iterable[_Row]) -> set[str]:
    return {row.name for row in rows if _is_numbered(row)} | {
        name for row in rows for value in row.values.values() for name in _names_in(value)
    }


def _renamed(row: _Row, called: Callable[[str], str]) -> _Row:
    def rename(match: re.Match[str]) -> str:
        return _MENTIONED.sub(lambda name: called(name[0]), match[1]) if match[1] else called(match[0])

    name = called(row.name) if _is_numbered(row) else row.name
    return _Row(row.kind, name, {column: _NAME.sub(rename, value) for column, value in row.values.items()})


# Files ----------------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"(?!(?:Con|Prn|Aux|Nul|Com[0-9]|Lpt[0-9])\Z)[A-Z][a-z0-9]*(?: [a-z0-9]+)*")
_LONGEST = 80


def file_for(feature_file: Path, scenario: str, example: str = "") -> Path:
    """Where a scenario's changes are expected: ``<feature>.changes/<scenario>.txt``, beside the feature.

    The file's name is safe on any file system; it has a digest of the scenario's and the example's names, unless these
    can be read from it, so that no two have the same file.
    """
    if not example and len(scenario) <= _LONGEST and _PLAIN.fullmatch(scenario):
        slug = scenario.lower().replace(" ", "-")
    else:
        plain = unicodedata.normalize("NFKD", f"{scenario} {example}").encode("ascii", "ignore").decode().lower()
        words = re.sub(r"[^a-z0-9]+", "-", plain)[:_LONGEST].strip("-")
        # What has an underscore is never another one's name in full.
        slug = f"{words}_{hashlib.sha256(repr((scenario, example)).encode()).hexdigest()[:12]}"
    return feature_file.with_name(f"{feature_file.stem}.changes") / f"{slug}.txt"


def unused(feature_file: Path, scenarios_and_examples: Iterable[tuple[str, str]]) -> list[Path]:
    """The files of a feature's expected changes that none of its scenarios has."""
    used = {file_for(feature_file, scenario, example) for scenario, example in scenarios_and_examples}
    return sorted(set(feature_file.with_name(f"{feature_file.stem}.changes").glob("*.txt")) - used)
