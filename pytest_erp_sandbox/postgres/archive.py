"""What is in a dump: its table of contents, as ``pg_restore --list`` gives it."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import PostgresError
from .clients import Toolset
from .program import ask

__all__ = ["END_OF_COPY", "Archive", "Entry", "read_archive"]

END_OF_COPY = b"\\.\n"
"""The line after a table's rows."""

_ENTRY = re.compile(
    r"(?P<id>\d+); \d+ \d+ "
    r"(?P<kind>[A-Z]+(?: [A-Z]+)*) "
    r"(?P<schema>\S+) (?P<name_and_owner>.*)"
)
_DEPENDS_ON = ";\tdepends on:"


@dataclass(frozen=True)
class Entry:
    """One entry of a dump.

    Attributes:
        line: as the list has it; ``pg_restore --use-list`` takes it back.
        id: its number in this dump.
        kind: such as ``TABLE``, ``TABLE DATA``, ``FK CONSTRAINT``, ``FUNCTION``.
        schema: ``-`` for what is in none.
        name: the object's name; functions have their argument types, and what belongs to a table is preceded by it.
        depends_on: the numbers of the entries that must be there before.
    """

    line: str
    id: int
    kind: str
    schema: str
    name: str
    depends_on: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Archive:
    """A custom- or directory-format dump.

    Attributes:
        path: the file or folder.
        entries: in the order in which they are restored.
        server_major: the major version of the server that was dumped.
        dump_major: the major version of the pg_dump that wrote it.
    """

    path: Path
    entries: Sequence[Entry]
    server_major: int
    dump_major: int

    @cached_property
    def without_rows(self) -> frozenset[int]:
        """The numbers of those ``TABLE DATA`` that have no rows, where that can be told at a glance."""
        return frozenset(
            entry.id for entry in self.entries if entry.kind == "TABLE DATA" and _has_no_rows(self.rows_file(entry))
        )

    def rows_file(self, entry: Entry) -> Path:
        """Where a directory-format dump has the rows of a ``TABLE DATA``, gzipped."""
        return self.path / f"{entry.id}.dat.gz"


def _has_no_rows(file: Path) -> bool:
    try:
        with gzip.open(file) as rows:
            return rows.read(len(END_OF_COPY)) == END_OF_COPY
    except (OSError, EOFError, zlib.error):  # it is another format's, or damaged: pg_restore knows
        return False


def read_archive(path: Path, toolsets: Iterable[Toolset]) -> Archive:
    """Read the table of contents of the dump at ``path``, with the newest of ``toolsets``.

    Raises:
        PostgresError: it is not a dump that they can read.
    """
    newest = max(toolsets, key=lambda toolset: toolset.major, default=None)
    if newest is None:
        raise PostgresError("no pg_restore found", hint="Install PostgreSQL's client programs.")
    done = ask([newest.program("pg_restore"), "--list", "--verbose", path])
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        hint = (
            "It was written by a newer pg_dump: install its version's client programs."
            if "unsupported version" in said
            else "A dump in pg_dump's custom (-Fc) or directory (-Fd) format is needed."
        )
        raise PostgresError(
            f"{path} is not a dump that PostgreSQL {newest.major}'s pg_restore can read: {said}", hint=hint
        )
    listing = done.stdout.decode(errors="surrogateescape")
    if re.search(r"^;\s+Format: TAR", listing, re.MULTILINE):
        raise PostgresError(
            f"{path} is a dump in tar format, which several connections cannot restore",
            hint="A dump in pg_dump's custom (-Fc) or directory (-Fd) format is needed.",
        )
    return Archive(
        path,
        list(_entries(listing)),
        _major("from database version", listing, path),
        _major("by pg_dump version", listing, path),
    )


def _entries(listing: str) -> Iterator[Entry]:
    # Not splitlines(), which also splits at what names may hold; pg_restore itself writes line feeds only at ends.
    lines = listing.split("\n")
    owners = _owners(listing)
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line and not line.startswith(";"):
            needed = following.removeprefix(_DEPENDS_ON) if following.startswith(_DEPENDS_ON) else ""
            yield _entry(line, frozenset(map(int, needed.split())), owners)


def _owners(listing: str) -> list[str]:
    """Owners whose names may have spaces, the longest first: the list does not part them from the objects' names.

    What a database or a function is called tells where their owners' names begin.
    """
    database = re.search(r"^;     dbname: (.*)$", listing, re.MULTILINE)
    assert database is not None
    found = re.findall(rf"^\d+; \d+ \d+ DATABASE - {re.escape(database[1])} (.+)$", listing, re.MULTILINE)
    found += re.findall(r"^\d+; \d+ \d+ (?:FUNCTION|PROCEDURE|AGGREGATE) public .*\) (.+)$", listing, re.MULTILINE)
    return sorted(set(found), key=len, reverse=True)


def _entry(line: str, depends_on: frozenset[int], owners: Iterable[str]) -> Entry:
    match = _ENTRY.fullmatch(line)
    if match is None:
        raise PostgresError(f"pg_restore listed an entry that is not understood: {line!r}")
    name = match["name_and_owner"]
    owner = next((owner for owner in owners if name.endswith(f" {owner}")), name.rpartition(" ")[2])
    return Entry(line, int(match["id"]), match["kind"], match["schema"], name.removesuffix(f" {owner}"), depends_on)


def _major(label: str, listing: str, path: Path) -> int:
    match = re.search(rf"Dumped {label}: (\d+)", listing)
    if match is None:
        raise PostgresError(f"{path} does not say which version it was dumped {label.split()[0]}")
    return int(match[1])
