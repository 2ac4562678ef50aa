"""Prod's dump, made in the toolbox, on the golden dumps' volume; and restored from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ..errors import ClusterError
from ..postgres.archive import Entry
from ..postgres.clients import Toolset
from ..postgres.connection import ProdConnection, ProdDatabase
from ..postgres.dump import DUMP_TIMEOUT, OnProgress
from ..postgres.lease import Lease
from ..postgres.pg_restore import OPTIONS, listing
from ..postgres.program import LineWatcher
from .clients import ProdClients, SandboxClients, prod_clients, sandbox_clients
from .fetching import fetch_folder
from .toolbox import ToolboxFolder
from .unpack import archive_of, unpack

__all__ = ["PgDumpInToolbox", "PgRestoreInToolbox", "pg_dump_in_toolbox", "pg_restore_in_toolbox"]


@dataclass(frozen=True)
class PgDumpInToolbox:
    """The pg_dump of the toolbox's image.

    Attributes:
        clients: with it.
        folder: in which the dump stays.
    """

    clients: ProdClients
    folder: ToolboxFolder

    @property
    def version(self) -> str:
        """Of the program."""
        return self.clients.version

    def place(self, to: Path) -> ToolboxFolder:
        """Where the dump that was brought to ``to`` is in the toolbox."""
        return ToolboxFolder(self.folder.toolbox, f"{self.folder.path}/{to.name}")

    def dump(
        self, prod: ProdDatabase, to: Path, options: Sequence[str], *, timeout: timedelta, watch: LineWatcher
    ) -> None:
        """Dump prod onto the volume, from where ``fetch`` brings it; else as the protocol has it.

        Raises:
            PostgresError: pg_dump failed, or took too long.
            ClusterError: the connection to the toolbox was lost.
        """
        self.clients.run(
            ["pg_dump", *options, f"--file={self.place(to).path}", f"--dbname={self.clients.conninfo}"],
            doing=f"pg_dump of prod, {prod},",
            watch=watch,
            timeout=timeout,
            limit=DUMP_TIMEOUT,
        )

    def fetch(self, to: Path, on_progress: OnProgress) -> None:
        """Bring the dump that was made for ``to``.

        Raises:
            ClusterError: it cannot be read to its end, or not be written here.
        """
        fetch_folder(self.clients.toolbox, self.folder.path, to.name, to.parent, "prod's dump", on_progress)


def pg_dump_in_toolbox(
    folder: ToolboxFolder, prod: ProdDatabase, connection: ProdConnection, *, at_least: int, at_most: int
) -> PgDumpInToolbox:
    """Find the toolbox's pg_dump, where it can dump prod, and its dump be restored.

    Args:
        folder: of a toolbox's, where the dump will be.
        prod: prod.
        connection: with it, from here.
        at_least: the major version of prod's server.
        at_most: the major version of the programs that will restore the dump.

    Raises:
        ClusterError: it cannot be used; the message says why.
    """
    clients = prod_clients(folder.toolbox, prod, connection)
    if not at_least <= clients.major <= at_most:
        raise ClusterError(
            f"its pg_dump is {clients.version}; prod's server is {at_least}, and what restores here is {at_most}"
        )
    clients.require_prod(connection)
    return PgDumpInToolbox(clients, folder)


@dataclass(frozen=True)
class PgRestoreInToolbox:
    """The pg_restore of the toolbox's image, beside the dump that it restores.

    Attributes:
        clients: with it.
        dump: it.
    """

    clients: SandboxClients
    dump: ToolboxFolder

    def run(
        self, lease: Lease, entries: Sequence[Entry], settings: str, options: Sequence[str], watch: LineWatcher
    ) -> None:
        """Restore entries; as the protocol has it.

        Raises:
            PostgresError: pg_restore failed.
            ClusterError: the connection to the toolbox was lost.
        """
        toolbox, database = self.clients.toolbox, lease.database
        conninfo = self.clients.with_options(settings, application_name=lease.application_name)
        with toolbox.folder() as scratch, listing(entries) as file:
            unpack(toolbox.cluster, toolbox.pod, f"{scratch.path}/list", archive_of(file), lambda _: None)
            self.clients.run(
                [
                    "pg_restore",
                    *OPTIONS,
                    f"--use-list={scratch.path}/list/tree/{file.name}",
                    f"--role={database.role}",
                    f"--dbname={conninfo}",
                    *options,
                    self.dump.path,
                ],
                doing=f"pg_restore into the sandbox, {database},",
                watch=watch,
            )


def pg_restore_in_toolbox(dump: ToolboxFolder, lease: Lease, programs: Toolset) -> PgRestoreInToolbox:
    """Find the toolbox's pg_restore, where it reaches the sandbox and does the same as that of ``programs``.

    Args:
        dump: in a toolbox.
        lease: of the sandbox.
        programs: those that would restore the dump here.

    Raises:
        ClusterError: it cannot be used; the message says why.
    """
    clients = sandbox_clients(dump.toolbox, lease.database, lease.connection)
    server = lease.connection.info.server_version // 10000
    if not clients.major == programs.major == server:
        raise ClusterError(
            f"its pg_restore is {clients.version}; the sandbox's server is {server}, and what restores here is"
            f" {programs.version}"
        )
    clients.require_sandbox(lease.connection)
    return PgRestoreInToolbox(clients, dump)
