"""Refresh: prod is dumped, prepared in a sandbox with the ERP down, and dumped again; that is the golden dump."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from .errors import GoldenError, PostgresError
from .golden import Golden, GoldenCache, Manifest, Source
from .postgres.archive import Archive, read_archive
from .postgres.clients import Clients, choose_clients, installed_toolsets
from .postgres.connection import ProdDatabase, identify
from .postgres.dump import dump_prod, dump_sandbox
from .postgres.extensions import Extension, extensions_of_prod, uncreatable_extensions
from .postgres.inventory import not_allowed, object_counts
from .postgres.portable import Obstacle, obstacles_in_archive, obstacles_in_prod
from .progress import Progress, human_size
from .sandbox import Sandbox
from .settings import Settings

__all__ = ["LeaseSandbox", "golden_dump"]

_DUMPS_SHARE = 0.3
"""What the two dumps take together, compressed, as a share of the tables' size: a guess, and a generous one."""


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
        golden = cache.newest(on_damage=progress.say)
        if golden is None:
            raise GoldenError(
                f'there is no golden dump in {cache.path}, and refresh is "never"',
                hint="Make one where prod can be reached: `erp-sandbox refresh-from-prod`.",
            )
        return golden
    source = _source(settings)
    with cache.locked(progress.say):
        golden = cache.newest(partial(_is_fresh, settings=settings, source=source, run=run), progress.say)
        if golden is None:
            _check_room(settings, cache.path)
            with lease_sandbox() as sandbox:
                golden = cache.add(partial(_prepare, settings, source, sandbox, run, progress))
        return golden


def _is_fresh(manifest: Manifest, *, settings: Settings, source: Source, run: str) -> bool:
    if manifest.source.identity != source.identity:
        return False
    if manifest.run == run:
        return True
    # A file that has not changed gives the same golden dump again.
    return settings.refresh == "auto" and (source.kind == "file" or manifest.age <= settings.golden.max_age)


def _source(settings: Settings) -> Source:
    prod, file = settings.prod.database(), settings.prod.dump
    if prod is not None:
        with prod.connect() as connection:
            version = connection.info.parameter_status("server_version") or ""
            return Source("server", str(prod), str(identify(connection)), version.split()[0])
    assert file is not None  # the settings are complete
    try:
        # A directory-format dump is written last where its table of contents is.
        status = (file / "toc.dat" if file.is_dir() else file).stat()
    except OSError as error:
        raise GoldenError(f"the dump {file} (prod.dump) cannot be read: {error.strerror}") from None
    archive = read_archive(file, installed_toolsets(settings.programs))
    identity = f"{file} {status.st_size} {status.st_mtime_ns}"
    return Source("file", str(file), identity, str(archive.server_major))


def _check_room(settings: Settings, folder: Path) -> None:
    """Stop before a dump that would fill the disk."""
    prod = settings.prod.database()
    if prod is None:
        return
    with prod.connect() as connection:
        row = connection.execute(
            "SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM pg_class"
            " WHERE relkind IN ('r', 'm') AND relnamespace = to_regnamespace('public')"
        ).fetchone()
    assert row is not None
    needed, free = int(row[0] * _DUMPS_SHARE), shutil.disk_usage(folder).free
    if free < needed:
        raise GoldenError(
            f"{folder} has {human_size(free)} free; a golden dump of prod takes about {human_size(needed)}",
            hint="Make room (`erp-sandbox forget` removes golden dumps), or set golden.path to a larger place.",
        )


def _prepare(
    settings: Settings, source: Source, sandbox: Sandbox, run: str, progress: Progress, to: Path, scratch: Path
) -> Manifest:
    """Write the golden dump to ``to``: prod's dump, restored into the sandbox, quarantined there, dumped again."""
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    connection, role = sandbox.lease.connection, sandbox.lease.database.role
    archive, extensions, obstacles, tools = _copy_of_prod(settings, sandbox, scratch, progress)
    clients = _clients(settings, sandbox, archive)
    obstacles = [*obstacles, *obstacles_in_archive(archive, clients.sandbox, connection, role)]
    obstacles += [
        Obstacle(f"extension {name}", "not trusted: only a superuser creates it in the sandbox")
        for name in uncreatable_extensions(connection, extensions)
    ]
    _refuse(not_allowed(obstacles, sandbox.lease.database.may_lose))
    sandbox.rebuild(
        archive,
        {extension.name: extension.needed for extension in extensions},
        [obstacle.object for obstacle in obstacles if obstacle.object],
    )
    # Quarantine belongs here: between this restore and the dump of its result.
    with progress.step("dumping the golden state", "tables") as on_progress:
        dump_sandbox(sandbox.lease, to, clients.sandbox, jobs=settings.jobs, on_progress=on_progress)
    return Manifest(
        source=source,
        made_at=made_at,
        run=run,
        server_major=clients.sandbox_major,
        tools={**tools, "sandbox": clients.sandbox.version},
        counts=object_counts(connection, role),
        extensions={extension.name: extension.needed for extension in extensions},
        left_out=[obstacle.label for obstacle in obstacles],
    )


def _copy_of_prod(
    settings: Settings, sandbox: Sandbox, scratch: Path, progress: Progress
) -> tuple[Archive, Sequence[Extension], Sequence[Obstacle], dict[str, str]]:
    """Prod's dump, the extensions it counts on, what a dump leaves behind, and what it was dumped with."""
    toolsets = installed_toolsets(settings.programs)
    prod, file = settings.prod.database(), settings.prod.dump
    if prod is None:
        assert file is not None  # the settings are complete
        archive = read_archive(file, toolsets)
        return archive, _extensions_in(archive), [], {"prod": f"{archive.dump_major}"}
    toolset, extensions, obstacles = _look_at_prod(prod, settings, sandbox)
    with progress.step(f"dumping prod, {prod}", "tables") as on_progress:
        dump_prod(
            prod,
            scratch / "prod",
            toolset.prod or toolset.sandbox,
            jobs=settings.prod.jobs,
            lock_wait_timeout=settings.prod.lock_wait_timeout,
            timeout=settings.prod.dump_timeout,
            on_progress=on_progress,
        )
    archive = read_archive(scratch / "prod", toolsets)
    return archive, extensions, obstacles, {"prod": (toolset.prod or toolset.sandbox).version}


def _look_at_prod(
    prod: ProdDatabase, settings: Settings, sandbox: Sandbox
) -> tuple[Clients, Sequence[Extension], Sequence[Obstacle]]:
    with prod.connect() as connection:
        clients = choose_clients(
            installed_toolsets(settings.programs),
            prod=connection.info.server_version // 10000,
            sandbox=sandbox.server_major,
        )
        return clients, extensions_of_prod(connection), obstacles_in_prod(connection)


def _clients(settings: Settings, sandbox: Sandbox, archive: Archive) -> Clients:
    return choose_clients(
        installed_toolsets(settings.programs),
        prod=None,
        sandbox=sandbox.server_major,
        archive=(archive.server_major, archive.dump_major),
    )


def _extensions_in(archive: Archive) -> list[Extension]:
    """A dump of a whole database names its extensions; whether they are needed it does not say."""
    return [
        Extension(entry.name, needed=True)
        for entry in archive.entries
        if entry.kind == "EXTENSION" and entry.name != "plpgsql"
    ]


def _refuse(obstacles: Sequence[Obstacle]) -> None:
    if obstacles:
        raise PostgresError(
            "not everything of prod's can come along into the sandbox; nothing was wiped\n"
            + "\n".join(f"  {obstacle}" for obstacle in obstacles),
            hint="Prepare it there as a superuser, or list it in sandbox.may-lose, as named here (* matches).",
        )
