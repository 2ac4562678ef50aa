"""Refresh: prod is dumped, prepared in a sandbox with the ERP down, and dumped again; that is the golden dump."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from .errors import GoldenError, PostgresError
from .golden import Golden, GoldenCache, Manifest, Source
from .origin import Copy, Origin, origin_of
from .postgres.clients import Toolset
from .postgres.dump import dump_sandbox
from .postgres.extensions import uncreatable_extensions
from .postgres.inventory import not_allowed, object_counts
from .postgres.portable import Obstacle, obstacles_in_archive
from .progress import Progress
from .sandbox import Sandbox
from .settings import Settings

__all__ = ["LeaseSandbox", "golden_dump"]


class LeaseSandbox(Protocol):
    """Gives a sandbox for a while."""

    def __call__(self) -> AbstractContextManager[Sandbox]: ...  # noqa: D102 - as said above


def golden_dump(settings: Settings, lease_sandbox: LeaseSandbox, *, run: str, progress: Progress) -> Golden:
    """The golden dump that this run restores: one that is there and fresh enough, or a new one.

    Args:
        settings: among them when to refresh, and how old a golden dump may be.
        lease_sandbox: where a new one is prepared.
        run: names this run: with ``refresh = "always"``, its workers together make one.
        progress: is told what is done.

    Raises:
        GoldenError: there is none, and none may be made; or the cache cannot be used.
        PostgresError: prod cannot be dumped, or the dump not be restored.
    """
    cache = GoldenCache(settings.golden.path, settings.golden.keep)
    if settings.refresh == "never":
        return _one_that_is_there(settings, cache, progress)
    origin = origin_of(settings)
    with cache.locked(progress.say):
        wanted = partial(_is_fresh, settings=settings, source=origin.source, run=run)
        golden = cache.newest(wanted, progress.say, remove_damaged=True)
        if golden is None:
            with lease_sandbox() as sandbox:
                golden = cache.add(partial(_prepare, settings, origin, sandbox, run, progress))
        return golden


def _one_that_is_there(settings: Settings, cache: GoldenCache, progress: Progress) -> Golden:
    """The newest golden dump of the prod that the settings name; where they name none, of the only one there is."""
    named = str(settings.prod.database() or settings.prod.dump or "")
    names = {golden.manifest.source.name for golden in cache.entries()}
    if named in names:
        names = {named}
    if len(names) > 1:
        raise GoldenError(
            f"{cache.path} has golden dumps of several prods, and which one to take is not said:\n"
            + "\n".join(f"  {name}" for name in sorted(names)),
            hint="Set prod.dsn or prod.dump to one of them (it is not read), or `erp-sandbox forget` the others.",
        )
    golden = cache.newest(lambda manifest: manifest.source.name in names, progress.say)
    if golden is None:
        raise GoldenError(
            f'there is no golden dump in {cache.path}, and refresh is "never"',
            hint="Make one where prod can be reached: `erp-sandbox refresh-from-prod`.",
        )
    return golden


def _is_fresh(manifest: Manifest, *, settings: Settings, source: Source, run: str) -> bool:
    if (manifest.source.kind, manifest.source.identity) != (source.kind, source.identity):
        return False
    if manifest.run == run:
        return True
    # A file that has not changed gives the same golden dump again.
    return settings.refresh == "auto" and (source.kind == "file" or manifest.age <= settings.golden.max_age)


def _prepare(
    settings: Settings, origin: Origin, sandbox: Sandbox, run: str, progress: Progress, to: Path, scratch: Path
) -> Manifest:
    """Write the golden dump to ``to``: prod's dump, restored into the sandbox, quarantined there, dumped again."""
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    copy = origin.copy(scratch / "prod", sandbox.server_major, progress)
    programs = sandbox.programs_for(copy.archive)
    obstacles = list(_obstacles(copy, sandbox, programs))
    _refuse(not_allowed(obstacles, sandbox.lease.database.may_lose))
    extensions = {extension.name: extension.needed for extension in copy.extensions}
    sandbox.rebuild(copy.archive, extensions, [obstacle.object for obstacle in obstacles if obstacle.object])
    # Quarantine belongs here: between this restore and the dump of its result.
    with progress.step("dumping the golden state", "tables") as on_progress:
        dump_sandbox(sandbox.lease, to, programs, jobs=settings.jobs, on_progress=on_progress)
    return Manifest(
        source=origin.source,
        made_at=made_at,
        run=run,
        server_major=sandbox.server_major,
        tools={"prod": copy.made_with, "sandbox": programs.version},
        counts=object_counts(sandbox.lease.connection, sandbox.lease.database.role),
        extensions=extensions,
        left_out=[obstacle.label for obstacle in obstacles],
    )


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
