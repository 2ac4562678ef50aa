"""Amending rows of a dump before anybody can see them: they are loaded and amended in one transaction."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ..errors import PostgresError
from .archive import END_OF_COPY, Entry
from .connection import SandboxConnection
from .lease import Lease
from .program import LineWatcher, ask

__all__ = ["UNKNOWN_TO_OLDER_SERVERS", "Amendment", "load_amended", "refused", "without_psqls"]

# A pg_restore of 17 or newer has this in its preamble, which older servers do not know.
UNKNOWN_TO_OLDER_SERVERS = b"SET transaction_timeout = 0;\n"

_COPY = re.compile(rb"COPY .* FROM stdin;\n")


@dataclass(frozen=True)
class Amendment:
    """What is done to rows of a dump before they are committed.

    Attributes:
        tables: those of schema ``public`` whose rows it looks at; the dump may lack some.
        amend: is given a session in the transaction that loaded their rows, with the sequences as they are to be, and
            without keys, indexes and triggers; its ``search_path`` is empty, and committing is not its business.
    """

    tables: Collection[str]
    amend: Callable[[SandboxConnection], None]

    def concerns(self, entry: Entry) -> bool:
        """Whether an entry of the dump is to be loaded before: a table's rows, or what a new row's key comes from."""
        return entry.kind == "SEQUENCE SET" or (entry.kind == "TABLE DATA" and entry.name in self.tables)


def load_amended(
    lease: Lease,
    script: Sequence[str | Path],
    options: str,
    amendment: Amendment,
    watch: LineWatcher,
    load_more: Callable[[SandboxConnection], None],
) -> None:
    """Load rows into the tables that are there, and amend them; or nothing.

    Args:
        lease: of the sandbox.
        script: the pg_restore that writes what to load, but for where to.
        options: further settings of the session.
        amendment: what is done to them.
        watch: is called with each line that pg_restore says.
        load_more: loads those rows that no script can have.

    Raises:
        PostgresError: pg_restore cannot read the dump, or the server refused a row; the message tells no rows.
    """
    written = ask([*script, "--section=data", "--file=-"])
    said = written.stderr.decode(errors="replace")
    if written.returncode:
        raise PostgresError(f"pg_restore cannot read {script[-1]}: {said.strip()}")
    with lease.at_work(options) as connection:
        _play(connection, without_psqls(written.stdout).replace(UNKNOWN_TO_OLDER_SERVERS, b"", 1))
        # The dump has an encoding of its own.
        connection.execute("SET LOCAL client_encoding = 'UTF8'")
        load_more(connection)
        amendment.amend(connection)
    for line in said.splitlines():
        watch(line)


def _play(connection: SandboxConnection, script: bytes) -> None:
    """Run a script of pg_restore's, in which rows follow their COPY."""
    lines, statements = io.BytesIO(script), bytearray()
    for line in lines:
        if not _COPY.fullmatch(line):
            statements += line
            continue
        _run(connection, bytes(statements))
        statements.clear()
        try:
            with connection.cursor().copy(line) as copy:
                for row in iter(lines.readline, END_OF_COPY):
                    copy.write(row)
        except psycopg.Error as error:
            raise refused(line, error) from None
    _run(connection, bytes(statements))


def _run(connection: SandboxConnection, statements: bytes) -> None:
    try:
        connection.execute(statements)
    except psycopg.Error as error:
        raise refused(b"", error) from None


def refused(copy: bytes, error: psycopg.Error) -> PostgresError:
    """The error of rows that the server does not take, without the rows.

    Args:
        copy: the statement that loads them; empty where it is another.
        error: the server's.
    """
    into = copy.partition(b"(")[0].decode(errors="replace").removeprefix("COPY ").strip()
    # Only the first words: the others quote rows.
    return PostgresError(
        f"rows of the dump cannot be loaded into the sandbox{f', into {into}' if into else ''}:"
        f" {error.diag.message_primary or type(error).__name__}"
    )


def without_psqls(script: bytes) -> bytes:
    r"""The script without the two lines that are for psql alone: ``\restrict KEY`` and ``\unrestrict KEY``."""
    if (restrict := re.search(rb"^\\restrict (\S+)\n", script, re.MULTILINE)) is not None:
        for command in (b"restrict", b"unrestrict"):
            script = script.replace(b"\n\\%s %s\n" % (command, restrict[1]), b"\n")
    return script
