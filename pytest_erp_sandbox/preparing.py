"""Preparing a golden dump: prod is dumped, restored into a sandbox, quarantined there, and dumped again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .dolibarr.quarantine import CONSTANTS, impose_quarantine, tables_of_quarantine, unknown
from .dolibarr.rights import rights_by_company
from .errors import ClusterError, PostgresError
from .golden import Manifest
from .origin import Copy, Origin
from .postgres.amending import Amendment
from .postgres.archive import Archive
from .postgres.clients import Toolset
from .postgres.connection import SandboxConnection
from .postgres.dump import dump_sandbox
from .postgres.extensions import uncreatable_extensions
from .postgres.inventory import not_allowed, object_counts
from .postgres.pg_restore import PgRestore
from .postgres.portable import Obstacle, obstacles_in_archive
from .postgres.scripts import run_scripts
from .progress import Progress
from .refresh import digest_of
from .sandbox import Sandbox
from .settings import Settings

if TYPE_CHECKING:
    from .cluster.toolbox import ToolboxFolder

__all__ = ["prepare"]


def prepare(
    settings: Settings,
    origin: Origin,
    sandbox: Sandbox,
    run: str,
    progress: Progress,
    there: ToolboxFolder | None,
    to: Path,
    scratch: Path,
) -> Manifest:
    """Write the golden dump to ``to``: prod's dump, restored into the sandbox, quarantined there, dumped again.

    Args:
        settings: among them what is kept from the outside world, and what is run in it besides.
        origin: prod.
        sandbox: where it is prepared, with the ERP down.
        run: names this run.
        progress: is told what is done.
        there: a folder in a toolbox, where prod is dumped, and restored from, if that can be.
        to: a place for the golden dump, not there yet.
        scratch: a folder for all else.

    Raises:
        GoldenError: there is too little room.
        PostgresError: prod cannot be dumped, or the dump not be restored.
        QuarantineError: it is not known what of prod's leads to the outside world, or that does not stay closed.
    """
    prepared = digest_of(settings.golden.prepare)
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    copy = origin.copy(scratch / "prod", sandbox.server_major, progress, there)
    if settings.quarantine and not _has_table(copy.archive, CONSTANTS):
        raise unknown("prod")
    programs = sandbox.programs_for(copy.archive)
    obstacles = list(_obstacles(copy, sandbox, programs))
    _refuse(not_allowed(obstacles, sandbox.lease.database.may_lose))
    extensions = {extension.name: extension.needed for extension in copy.extensions}
    quarantined: dict[str, int] = {}

    def quarantine(connection: SandboxConnection) -> None:
        quarantined.update(impose_quarantine(connection, settings.quarantine))

    # Not after the restore: an ERP may be up in front of the sandbox, and must not see a state that is not quarantined.
    amendment = Amendment(tables_of_quarantine(settings.quarantine), quarantine) if settings.quarantine else None
    left_out = [obstacle.object for obstacle in obstacles if obstacle.object]
    pg_restore = _pg_restore_in_toolbox(copy.there, sandbox, programs, progress)
    sandbox.rebuild(copy.archive, extensions, left_out, amendment, pg_restore)
    if settings.golden.prepare:
        with progress.step("running golden.prepare"):
            run_scripts(sandbox.lease, settings.golden.prepare, programs)
    sandbox.check_quarantine()
    with progress.step("dumping the golden state", "tables") as on_progress:
        dump_sandbox(sandbox.lease, to, programs, jobs=settings.connections, on_progress=on_progress)
    return Manifest(
        source=origin.source,
        made_at=made_at,
        run=run,
        server_major=sandbox.server_major,
        tools={"prod": copy.made_with, "sandbox": programs.version},
        counts=object_counts(sandbox.lease.connection, sandbox.lease.database.role),
        extensions=extensions,
        left_out=[obstacle.label for obstacle in obstacles],
        quarantine=quarantined,
        prepared=prepared,
        rights=rights_by_company(sandbox.lease.connection),
    )


def _pg_restore_in_toolbox(
    dump: ToolboxFolder | None, sandbox: Sandbox, programs: Toolset, progress: Progress
) -> PgRestore | None:
    if dump is None:
        return None
    from .cluster.dumping import pg_restore_in_toolbox

    try:
        return pg_restore_in_toolbox(dump, sandbox.lease, programs)
    except ClusterError as reason:
        progress.say(f"pg_restore runs here, as it cannot in {dump.toolbox.pod}: {reason}")
        return None


def _has_table(archive: Archive, name: str) -> bool:
    return any((entry.kind, entry.schema, entry.name) == ("TABLE", "public", name) for entry in archive.entries)


def _obstacles(copy: Copy, sandbox: Sandbox, programs: Toolset) -> Iterable[Obstacle]:
    connection = sandbox.lease.connection
    yield from copy.left_behind
    yield from obstacles_in_archive(copy.archive, programs, connection, sandbox.lease.database.role)
    for name in uncreatable_extensions(connection, copy.extensions):
        yield Obstacle(
            f"extension {name}", "not trusted, or not where prod has it: a superuser must create it in the sandbox"
        )


def _refuse(obstacles: Sequence[Obstacle]) -> None:
    if obstacles:
        raise PostgresError(
            "not everything of prod's can come along into the sandbox; nothing was wiped\n"
            + "\n".join(f"  {obstacle}" for obstacle in obstacles),
            hint="Prepare it there as a superuser, or list it in sandbox.may-lose, as named here (* matches).",
        )
