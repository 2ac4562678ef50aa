"""Running pg_restore into a leased sandbox, with a part of a dump."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .archive import Archive, Entry
from .clients import Toolset
from .lease import Lease
from .program import LineWatcher, run

__all__ = ["OPTIONS", "PgRestore", "PgRestoreHere", "listing"]

OPTIONS = (
    "--exit-on-error",
    "--no-owner",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-tablespaces",
    "--no-password",
    "--verbose",
)


class PgRestore(Protocol):
    """A pg_restore of the sandbox's server's version, which reaches that, and has a dump at hand."""

    def run(
        self, lease: Lease, entries: Sequence[Entry], settings: str, options: Sequence[str], watch: LineWatcher
    ) -> None:
        """Run it, as the sandbox's role.

        Args:
            lease: of the sandbox.
            entries: of the dump, those that are restored.
            settings: of its sessions, ``-c name=value …``.
            options: which sections, how many jobs.
            watch: is called with each line of what it says.

        Raises:
            PostgresError: it failed; the message has its first error.
        """
        ...


@dataclass(frozen=True)
class PgRestoreHere:
    """One that is installed here.

    Attributes:
        toolset: with it.
        archive: the dump.
    """

    toolset: Toolset
    archive: Archive

    @contextmanager
    def script(self, entries: Sequence[Entry]) -> Iterator[list[str | Path]]:
        """The command that writes entries as a script, but for where to (``--file``)."""
        with listing(entries) as file:
            yield [self.toolset.program("pg_restore"), *OPTIONS, f"--use-list={file}", self.archive.path]

    def run(
        self, lease: Lease, entries: Sequence[Entry], settings: str, options: Sequence[str], watch: LineWatcher
    ) -> None:
        """Run it; as the protocol has it."""
        database = lease.database
        into = [f"--role={database.role}", f"--dbname={database.public_conninfo(lease.application_name, settings)}"]
        with self.script(entries) as script:
            run(
                [*script, *into, *options],
                database.secret_environment(),
                doing=f"pg_restore into the sandbox, {database},",
                watch=watch,
            )


@contextmanager
def listing(entries: Sequence[Entry]) -> Iterator[Path]:
    """A file that makes pg_restore take these entries alone (``--use-list``)."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape", suffix=".list") as file:
        file.writelines(f"{entry.line}\n" for entry in entries)
        file.flush()
        yield Path(file.name)
