"""Large tables' rows in COPY's binary format, which a server reads in half the processor time that text takes.

In a dump in directory format the rows of a table are a file, which pg_restore hands on as it is to the ``COPY`` that
the table of contents has for it. So it restores a binary file by a ``COPY … (FORMAT binary)`` like any other. Only a
script, which is text, cannot have it.
"""

from __future__ import annotations

import gzip
import re
import shutil
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from ..errors import PostgresError
from ._sql import query
from .amending import refused
from .archive import Archive, Entry
from .connection import SandboxConnection
from .lease import Lease
from .program import LineWatcher

__all__ = ["Snapshot", "in_binary", "load_binary", "snapshot_of", "to_binary"]

_WORTH_IT = 1 << 20
"""Compressed bytes of a table's rows from which on it pays: as text they take a server some 0.1 s."""

_LOOKING = (
    "-c row_security=off"  # as pg_dump: hidden rows are an error
    " -c search_path=pg_catalog"
)

_AT_ONCE = 1 << 18
"""Bytes of rows that are compressed at once."""

# A table whose name pg_dump quotes does not match: its rows stay text.
_COPY = re.compile(rb"COPY public\.(?P<table>[a-z_][a-z0-9_]*) \([^()]*\) FROM stdin(?: \(FORMAT binary\))?;\n")
_TEXT = b" FROM stdin;\n"
_BINARY = b" FROM stdin (FORMAT binary);\n"


@dataclass(frozen=True)
class Snapshot:
    """What a sandbox held at one moment.

    Attributes:
        name: what ``pg_dump --snapshot`` takes.
        session: sees it, as the sandbox's owner, and can only read.
    """

    name: str
    session: SandboxConnection


@contextmanager
def snapshot_of(lease: Lease) -> Iterator[Snapshot]:
    """What the leased sandbox holds now, for as long as this context."""
    with lease.at_work(_LOOKING) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = session.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        yield Snapshot(row[0], session)


def to_binary(archive: Archive, snapshot: Snapshot, on_written: Callable[[], None]) -> None:
    """Write the rows of a dump's large tables once more, as binary, where all their columns are of plain types.

    Args:
        archive: the dump, in directory format; nobody uses it yet.
        snapshot: what was dumped.
        on_written: is called each time that some more is written.

    Raises:
        PostgresError: the rows cannot be read, or not be written.
    """
    contents_file = archive.path / "toc.dat"
    try:
        contents = contents_file.read_bytes()
        statements = _statements(contents)
        files = {entry.name: archive.rows_file(entry) for entry in archive.entries if entry.kind == "TABLE DATA"}
        large = [name for name, file in files.items() if statements.get(name, b"").endswith(_TEXT) and _is_large(file)]
        for table in _plain(snapshot.session, large):
            text = statements[table]
            _write(snapshot.session, text.replace(_TEXT, b" TO stdout (FORMAT binary)"), files[table], on_written)
            contents = contents.replace(_string(text), _string(text.replace(_TEXT, _BINARY)))
        contents_file.write_bytes(contents)
    except psycopg.Error as error:
        # Only the first words: the others may quote rows.
        reason = error.diag.message_primary or type(error).__name__
        raise PostgresError(f"the rows of large tables cannot be dumped: {reason}") from None
    except OSError as error:
        raise PostgresError(f"{archive.path} cannot be written: {error.strerror or error}") from None


def _plain(session: SandboxConnection, tables: Sequence[str]) -> list[str]:
    """Those that may be written, and that nobody empties or rewrites meanwhile."""
    if not tables:
        return []
    names = sql.SQL(", ").join(sql.Identifier("public", table) for table in tables)
    # pg_dump's own locks are gone; and a snapshot does not see the rows that a table had before a TRUNCATE.
    session.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
    rows = session.execute(query(__package__, "plain_tables.sql"), {"tables": list(tables)})
    return [table for (table,) in rows]


def _write(session: SandboxConnection, statement: bytes, file: Path, on_written: Callable[[], None]) -> None:
    with gzip.open(file, "wb", compresslevel=1) as rows, session.cursor().copy(statement) as copy:
        gathered = bytearray()
        for row in copy:
            gathered += row
            if len(gathered) >= _AT_ONCE:  # each alone would take half as long again
                rows.write(gathered)
                gathered.clear()
                on_written()
        rows.write(gathered)


def in_binary(archive: Archive, entries: Sequence[Entry]) -> list[Entry]:
    """Those of a dump's entries whose rows are binary."""
    statements = _statements_of(archive)
    return [
        entry for entry in entries if entry.kind == "TABLE DATA" and statements.get(entry.name, b"").endswith(_BINARY)
    ]


def load_binary(session: SandboxConnection, archive: Archive, entries: Sequence[Entry], watch: LineWatcher) -> None:
    """Load binary rows into the tables that are there, where pg_restore can only write a script.

    Args:
        session: in a transaction, as the sandbox's owner.
        archive: the dump.
        entries: those whose rows are binary.
        watch: is called with a line for each, like pg_restore's.

    Raises:
        PostgresError: the dump cannot be read, or the server refused a row; the message tells no rows.
    """
    statements = _statements_of(archive)
    for entry in entries:
        watch(f"erp-sandbox: processing data for table {entry.name}")
        try:
            with gzip.open(archive.rows_file(entry)) as file, session.cursor().copy(statements[entry.name]) as copy:
                shutil.copyfileobj(file, copy)
        except (OSError, EOFError, zlib.error) as error:
            raise PostgresError(f"the rows of {entry.name} in {archive.path} cannot be read: {error}") from None
        except psycopg.Error as error:
            raise refused(statements[entry.name], error) from None


def _is_large(file: Path) -> bool:
    return file.is_file() and file.stat().st_size >= _WORTH_IT


def _statements_of(archive: Archive) -> dict[str, bytes]:
    contents = archive.path / "toc.dat"
    return _statements(contents.read_bytes()) if contents.is_file() else {}


def _statements(contents: bytes) -> dict[str, bytes]:
    """The ``COPY`` of each table in a table of contents, but where another name there looks like one."""
    found = defaultdict[str, list[bytes]](list)
    for each in _COPY.finditer(contents):
        if contents.endswith(_string(each[0]), 0, each.end()):
            found[each["table"].decode()].append(each[0])
    return {table: statements[0] for table, statements in found.items() if len(statements) == 1}


def _string(text: bytes) -> bytes:
    """A string as a table of contents has it: its length's sign and four bytes, the least significant first."""
    return struct.pack("<xI", len(text)) + text
