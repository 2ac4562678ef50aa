"""A changed row as it is written down, and the words that it is written in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["IDENTIFIER", "QUOTED", "STRING", "TABLE", "Row", "escaped", "written_column"]

IDENTIFIER = r'(?:"(?:[^"]|"")*"|\w+)'
TABLE = rf"{IDENTIFIER}(?:\.{IDENTIFIER})?"
STRING = r"'(?:[^'\\]|\\.)*'"
QUOTED = r'"[^"]*"'

_UNSAFE = re.compile(
    r"[\\'\u2039\u203a\x00-\x1f\x7f-\xa0\xad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\uffff]"
)


@dataclass
class Row:
    """A changed row; its values as they are written."""

    kind: str
    name: str
    values: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        values = (f"    {column}: " + value.replace("\n", "\n        ") for column, value in self.values.items())
        return "\n".join((f"{self.kind} {self.name}", *values)) + "\n"


def escaped(text: str) -> str:
    """A text as it stands between quotes: on one line, and with all that cannot be seen as its number."""

    def escape(match: re.Match[str]) -> str:
        known = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
        return known.get(match[0]) or f"\\u{ord(match[0]):04x}"

    return _UNSAFE.sub(escape, text)


def written_column(name: str) -> str:
    """A column's name, quoted where it has more than letters, digits and underscores."""
    return name if re.fullmatch(r"\w+", name) else '"' + escaped(name).replace('"', '""') + '"'
