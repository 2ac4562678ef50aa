"""Dumping prod, and the sandbox that a golden dump is prepared in, with pg_dump."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from ..errors import PostgresError
from .archive import read_archive
from .binary import snapshot_of, to_binary
from .blockers import blockers
from .clients import Toolset
from .connection import ProdDatabase, milliseconds
from .lease import Lease
from .program import LineWatcher, run

__all__ = ["DUMP_TIMEOUT", "OnProgress", "PgDump", "PgDumpHere", "dump_prod", "dump_sandbox"]

OnProgress = Callable[[int, int], None]
"""Is called with the number of objects done and of bytes written so far."""

_FORMAT = (
    "--format=directory",  # the only one that several connections can write and restore
    "--compress=1",
    "--schema=public",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-tablespaces",
    "--encoding=UTF8",  # or PGCLIENTENCODING would have a say
    "--no-password",
    "--verbose",
)

DUMP_TIMEOUT = "prod.dump-timeout"
"""The setting that says how long pg_dump of prod may take."""

_BEAT = 0.3
"""Seconds from one telling of progress to the next."""


class PgDump(Protocol):
    """A pg_dump that reaches prod."""

    @property
    def version(self) -> str:
        """Of the program."""
        ...

    def dump(
        self, prod: ProdDatabase, to: Path, options: Sequence[str], *, timeout: timedelta, watch: LineWatcher
    ) -> None:
        """Run it.

        Args:
            prod: where from.
            to: the folder where the dump is afterwards; must not exist yet.
            options: all others.
            timeout: how long it may take.
            watch: is called with each line of what it says.

        Raises:
            PostgresError: it failed, or took too long.
        """
        ...


@dataclass(frozen=True)
class PgDumpHere:
    """One that is installed here."""

    toolset: Toolset

    @property
    def version(self) -> str:
        """Of the program."""
        return self.toolset.version

    def dump(
        self, prod: ProdDatabase, to: Path, options: Sequence[str], *, timeout: timedelta, watch: LineWatcher
    ) -> None:
        """Run it; as the protocol has it."""
        run(
            [self.toolset.program("pg_dump"), *options, f"--file={to}", f"--dbname={prod.public_conninfo()}"],
            prod.secret_environment(),
            doing=f"pg_dump of prod, {prod},",
            timeout=timeout,
            limit=DUMP_TIMEOUT,
            watch=watch,
        )


def dump_prod(
    prod: ProdDatabase,
    to: Path,
    pg_dump: PgDump,
    *,
    jobs: int,
    lock_wait_timeout: timedelta,
    timeout: timedelta,
    on_progress: OnProgress,
) -> None:
    """Dump prod's schema ``public`` into the new folder ``to``, in a session that may only read.

    Args:
        prod: where from.
        to: must not exist yet.
        pg_dump: at least as new as prod.
        jobs: connections to use.
        lock_wait_timeout: how long to wait for a lock, while others on prod queue behind us.
        timeout: how long the whole may take, and so hold its locks.
        on_progress: is told how far it is.

    Raises:
        PostgresError: pg_dump failed, or took too long.
    """
    # The server must say that it refuses writes.
    prod.connect().close()
    try:
        pg_dump.dump(
            prod,
            to,
            [
                *_FORMAT,
                f"--jobs={jobs}",
                f"--lock-wait-timeout={milliseconds(lock_wait_timeout)}",
            ],
            timeout=timeout,
            watch=_Progress(to, on_progress).watch,
        )
    except PostgresError as error:
        # pg_dump's way of saying it, with a list of all tables.
        if "canceling statement due to statement timeout" in str(error):
            raise _locked(prod, lock_wait_timeout) from None
        if "row-level security" in str(error):
            error.hint = "Give prod's login BYPASSRLS (deploy/dump-role.sql): it must read all rows."
        raise


def _locked(prod: ProdDatabase, waited: timedelta) -> PostgresError:
    with prod.connect() as connection:
        holders = "\n".join(f"  {holder}" for holder in blockers(connection, "AccessExclusiveLock"))
    return PostgresError(
        f"prod, {prod}, cannot be dumped: others lock its tables for longer than {waited}\n{holders}".rstrip(),
        hint="Try again when they are done, or raise prod.lock-wait-timeout: others wait behind the dump for so long.",
    )


def dump_sandbox(lease: Lease, to: Path, toolset: Toolset, *, jobs: int, on_progress: OnProgress) -> None:
    """Dump the leased sandbox's schema ``public`` into the new folder ``to``, the rows of large tables as binary.

    Raises:
        PostgresError: pg_dump failed, or the rows cannot be read or written.
    """
    sandbox, progress = lease.database, _Progress(to, on_progress)
    with snapshot_of(lease) as snapshot:
        run(
            [
                toolset.program("pg_dump"),
                *_FORMAT,
                f"--jobs={jobs}",
                f"--role={sandbox.role}",
                f"--snapshot={snapshot.name}",
                f"--file={to}",
                f"--dbname={sandbox.public_conninfo(lease.application_name)}",
            ],
            sandbox.secret_environment(),
            doing=f"pg_dump of the sandbox, {sandbox},",
            watch=progress.watch,
        )
        to_binary(read_archive(to, [toolset]), snapshot, progress.tell)


class _Progress:
    """Tells now and then how far a dump into a folder is."""

    def __init__(self, folder: Path, on_progress: OnProgress) -> None:
        self._folder = folder
        self._on_progress = on_progress
        self._tables, self._told = 0, 0.0

    def watch(self, line: str) -> None:
        self._tables += "dumping contents of table" in line
        self.tell()

    def tell(self) -> None:
        if time.monotonic() - self._told > _BEAT:
            self._told = time.monotonic()
            self._on_progress(self._tables, sum(file.stat().st_size for file in self._folder.glob("*")))
