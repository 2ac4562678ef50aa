"""What client programs say, without the rows that a server quotes in it: prod's data belongs into no report."""

from __future__ import annotations

import re

__all__ = ["Rowless"]

# libpq was told to speak English, and writes these before what a server says in a language of its own.
_LABEL = re.compile(r"(DETAIL|CONTEXT|HINT|QUERY|STATEMENT|LINE \d+|Command was):")
_PROGRAM = re.compile(r"(pg_\w+|psql):")
_SEVERITY = re.compile(r"\b(ERROR|FATAL|PANIC|WARNING|NOTICE|INFO):")

_QUOTING = re.compile(r"(DETAIL|CONTEXT):")
_SHOWN = (
    (re.compile(r"((?:CONTEXT:\s+)?COPY [^,]*, \D*\d+(?:, column [^:]+)?)\b.*"), r"\1"),
    (re.compile(r"(DETAIL:\s+Failing row contains) .*"), r"\1 …"),
    (re.compile(r"(DETAIL:\s+(?:Key|Partition key of the failing row contains) \(.*?\) ?=).*"), r"\1…"),
    (re.compile(r"(CONTEXT:\s+SQL (?:statement|function)) .*"), r"\1 …"),
    (re.compile(r"((?:Command was|STATEMENT|QUERY):\s+INSERT INTO \S+).*"), r"\1 …"),
    (re.compile(r"(.*\binvalid input syntax for type [^:]+): .*"), r"\1"),
)
"""What is left of lines that are known to quote values, in whatever language their first words are."""

_HARMLESS = re.compile(r"DETAIL:\s+(?!\s|Token ).*|CONTEXT:\s+PL/pgSQL function .*")
"""Those that are known to quote none, in English."""


class Rowless:
    """Takes the rows out of what one program says, line by line."""

    def __init__(self) -> None:
        self._is_english = True
        self._is_hiding = False

    def shown(self, line: str) -> str:
        """The line as it may be shown; empty where a row that was taken out goes on."""
        is_programs = _PROGRAM.match(line) is not None
        if self._is_hiding and not is_programs and not _LABEL.match(line):
            return ""
        if is_programs:
            self._is_english = _SEVERITY.search(line) is not None
        shown = self._shown(line)
        self._is_hiding = shown != line
        return shown

    def _shown(self, line: str) -> str:
        for form, left in _SHOWN:
            if form.match(line):
                return form.sub(left, line)
        quoting = _QUOTING.match(line)
        if quoting and not (self._is_english and _HARMLESS.match(line)):
            return f"{quoting[0]}  …"
        return line
