"""Where a golden dump comes from: prod's server, or a file that pg_dump made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psycopg

from .errors import ClusterError, GoldenError, PostgresError
from .golden import Source
from .postgres.clients import Clients, Toolset, choose_clients, installed_toolsets
from .postgres.connection import ProdConnection, ProdDatabase, identify
from .progress import Progress
from .settings import ProdSettings, Settings

if TYPE_CHECKING:
    from .cluster.dumping import PgDumpInToolbox
    from .cluster.toolbox import ToolboxFolder
    from .postgres.archive import Archive
    from .postgres.extensions import Extension
    from .postgres.portable import Obstacle

__all__ = ["Copy", "Origin", "origin_of"]

_DUMPS_SHARE = 0.15
"""What prod's dump and the golden dump take together, as a share of the database's files: a generous guess."""


@dataclass(frozen=True)
class Copy:
    """Prod's dump as it is, and what must be known before it is restored elsewhere.

    Attributes:
        archive: the dump.
        extensions: those that it counts on.
        left_behind: what is prod's and not in the dump.
        made_with: the version of the pg_dump that made it.
        there: where it is in a toolbox, if it was made in one.
    """

    archive: Archive
    extensions: Sequence[Extension]
    left_behind: Sequence[Obstacle]
    made_with: str
    there: ToolboxFolder | None = None


class Origin(Protocol):
    """What a golden dump is made from."""

    source: Source

    def room(self) -> int:
        """How many bytes prod's dump and the golden dump may take together.

        Raises:
            PostgresError: prod's server cannot be reached.
        """
        ...

    def copy(self, to: Path, sandbox_major: int, progress: Progress, there: ToolboxFolder | None = None) -> Copy:
        """Get prod's dump.

        Args:
            to: a place for it, in the cache's folder, where the golden dump will be, too; not there yet.
            sandbox_major: the major version of the server that it will be restored into.
            progress: is told how far it is.
            there: a folder in a toolbox, where pg_dump runs if it can.

        Raises:
            PostgresError: prod cannot be dumped, or its dump not be restored into that version.
            ClusterError: the connection to the toolbox was lost, or prod's dump cannot be brought from there.
        """
        ...


def origin_of(settings: Settings) -> Origin:
    """Find out what prod is, by one look at it.

    Args:
        settings: among them where it is.

    Raises:
        GoldenError: the file that takes prod's place cannot be read.
        PostgresError: prod's server cannot be reached, or the file is not a dump.
    """
    toolsets = installed_toolsets(settings.programs)
    database, file = settings.prod.database(), settings.prod.dump
    if database is not None:
        return _Server(database, settings.prod, toolsets)
    assert file is not None  # the settings are complete
    return _File(file, toolsets)


class _Server:
    def __init__(self, database: ProdDatabase, settings: ProdSettings, toolsets: Sequence[Toolset]) -> None:
        self._database = database
        self._settings = settings
        self._toolsets = toolsets
        with _reading(database) as connection:
            version = (connection.info.parameter_status("server_version") or "").split()[0]
            self.source = Source("server", str(database), str(identify(connection)), version)

    def room(self) -> int:
        with _reading(self._database) as connection:
            return int(_size(connection) * _DUMPS_SHARE)

    def copy(self, to: Path, sandbox_major: int, progress: Progress, there: ToolboxFolder | None = None) -> Copy:
        # Here, as on most days nothing is copied.
        from .postgres.archive import read_archive
        from .postgres.dump import PgDumpHere, dump_prod
        from .postgres.extensions import extensions_of_prod
        from .postgres.portable import obstacles_in_prod

        with _reading(self._database) as connection:
            major = connection.info.server_version // 10000
            clients = choose_clients(self._toolsets, prod=major, sandbox=sandbox_major)
            extensions, left_behind = extensions_of_prod(connection), obstacles_in_prod(connection)
            in_toolbox = None if there is None else self._pg_dump_in_toolbox(there, connection, clients, progress)
            assert clients.prod is not None  # there is a prod to dump
            pg_dump = in_toolbox or PgDumpHere(clients.prod)
        with progress.step(f"dumping prod, {self._database}", "tables") as on_progress:
            dump_prod(
                self._database,
                to,
                pg_dump,
                jobs=self._settings.jobs,
                lock_wait_timeout=self._settings.lock_wait_timeout,
                timeout=self._settings.dump_timeout,
                on_progress=on_progress,
            )
        place = None
        if in_toolbox is not None:
            place = in_toolbox.place(to)
            with progress.step(f"bringing prod's dump from {place.toolbox.place}", "files") as on_progress:
                in_toolbox.fetch(to, on_progress)
        return Copy(read_archive(to, self._toolsets), extensions, left_behind, pg_dump.version, place)

    def _pg_dump_in_toolbox(
        self, there: ToolboxFolder, connection: ProdConnection, clients: Clients, progress: Progress
    ) -> PgDumpInToolbox | None:
        from .cluster.dumping import pg_dump_in_toolbox

        major, restores = connection.info.server_version // 10000, clients.sandbox.major
        try:
            return pg_dump_in_toolbox(there, self._database, connection, at_least=major, at_most=restores)
        except ClusterError as reason:
            progress.say(f"pg_dump of prod runs here, as it cannot in {there.toolbox.pod}: {reason}")
            return None


class _File:
    def __init__(self, file: Path, toolsets: Sequence[Toolset]) -> None:
        from .postgres.archive import read_archive

        try:
            # Of a folder's files, pg_dump writes the table of contents last.
            status = (file / "toc.dat" if file.is_dir() else file).stat()
        except OSError as error:
            raise GoldenError(f"the dump {file} (prod.dump) cannot be read: {error.strerror}") from None
        self._archive = read_archive(file, toolsets)
        identity = f"{file} {status.st_size} {status.st_mtime_ns}"
        self.source = Source("file", str(file), identity, str(self._archive.server_major))

    def room(self) -> int:
        path = self._archive.path
        return sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else [path]))

    def copy(self, to: Path, sandbox_major: int, progress: Progress, there: ToolboxFolder | None = None) -> Copy:  # noqa: ARG002 - it needs no copying
        from .postgres.extensions import Extension

        extensions = [
            # Whether something needs it, the dump does not say.
            Extension(entry.name, needed=True)
            for entry in self._archive.entries
            if entry.kind == "EXTENSION" and entry.name != "plpgsql"
        ]
        return Copy(self._archive, extensions, [], str(self._archive.dump_major))


@contextmanager
def _reading(prod: ProdDatabase) -> Iterator[ProdConnection]:
    """A session with prod; what its server refuses is said as an error of ours."""
    with prod.connect() as connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise PostgresError(f"prod, {prod}, cannot be read: {error.diag.message_primary or error}") from None


def _size(connection: ProdConnection) -> int:
    # Of the files, indexes and all: to be told the size of a table takes a lock on it.
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])
