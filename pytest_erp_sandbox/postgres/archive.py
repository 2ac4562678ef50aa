"""What is in a dump: its table of contents, as ``pg_restore --list`` gives it."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import PostgresError
from .clients import Toolset

__all__ = ["Archive", "Entry", "read_archive"]

_ENTRY = re.compile(
    r"(?P<id>\d+); \d+ \d+ "
    r"(?P<kind>[A-Z]+(?: [A-Z]+)*) "
    r"(?P<schema>\S+) (?P<name>.*) (?P<owner>\S*)"
)


@dataclass(frozen=True)
class Entry:
    """One entry of a dump.

    Attributes:
        line: as the list has it; ``pg_restore --use-list`` takes it back.
        kind: such as ``TABLE``, ``TABLE DATA``, ``FK CONSTRAINT``, ``FUNCTION``.
        schema: ``-`` for what is in none.
        name: the object's name; functions have their argument types, and what belongs to a table is preceded by it.
    """

    line: str
    kind: str
    schema: str
    name: str


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

    def counts(self) -> dict[str, int]:
        """How many entries of each kind there are."""
        return dict(sorted(Counter(entry.kind for entry in self.entries).items()))


def read_archive(path: Path, toolsets: Iterable[Toolset]) -> Archive:
    """Read the table of contents of the dump at ``path``, with the newest of ``toolsets``.

    Raises:
        PostgresError: it is not a dump that they can read.
    """
    newest = max(toolsets, key=lambda toolset: toolset.major, default=None)
    if newest is None:
        raise PostgresError("no pg_restore found", hint="Install PostgreSQL's client programs.")
    done = subprocess.run(
        [newest.program("pg_restore"), "--list", str(path)],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
    )
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
    return Archive(
        path,
        [_entry(line) for line in listing.splitlines() if line and not line.startswith(";")],
        _major("from database version", listing, path),
        _major("by pg_dump version", listing, path),
    )


def _entry(line: str) -> Entry:
    match = _ENTRY.fullmatch(line)
    if match is None:
        raise PostgresError(f"pg_restore listed an entry that is not understood: {line!r}")
    return Entry(line, match["kind"], match["schema"], match["name"])


def _major(label: str, listing: str, path: Path) -> int:
    match = re.search(rf"Dumped {label}: (\d+)", listing)
    if match is None:
        raise PostgresError(f"{path} does not say which version it was dumped {label.split()[0]}")
    return int(match[1])
