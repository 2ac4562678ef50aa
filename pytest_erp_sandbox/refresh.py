"""Refresh: prod is dumped, prepared in a sandbox with the ERP down, and dumped again; that is the golden dump."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .dolibarr.quarantine import impose_quarantine, tables_of_quarantine
from .dolibarr.rights import rights_by_company
from .errors import ClusterError, GoldenError, PostgresError, SettingsError
from .golden import Golden, GoldenCache, Manifest, Source
from .origin import Copy, Origin, origin_of
from .postgres.amending import Amendment
from .postgres.clients import Toolset
from .postgres.connection import SandboxConnection
from .postgres.dump import dump_sandbox
from .postgres.extensions import uncreatable_extensions
from .postgres.inventory import not_allowed, object_counts
from .postgres.pg_restore import PgRestore
from .postgres.portable import Obstacle, obstacles_in_archive
from .postgres.scripts import run_scripts
from .progress import Progress
from .reach import golden_claim
from .sandbox import Sandbox
from .settings import Settings

if TYPE_CHECKING:
    from .cluster.claim import GoldenClaim
    from .cluster.toolbox import ToolboxFolder

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
    with golden_claim(settings, progress) as claim:
        if claim is None:
            return _golden_dump(settings, cache, lease_sandbox, run, progress, None)
        with cache.locked(progress.say):
            claim.bring(cache.path)
        golden = _golden_dump(settings, cache, lease_sandbox, run, progress, claim)
        if settings.refresh != "never":
            # What was pruned here, and what was damaged, goes; nothing else comes: the cache may have others' prods.
            claim.keep(cache.ids())
            claim.put_entry(golden.folder)
    return golden


def _golden_dump(
    settings: Settings,
    cache: GoldenCache,
    lease_sandbox: LeaseSandbox,
    run: str,
    progress: Progress,
    claim: GoldenClaim | None,
) -> Golden:
    if settings.refresh == "never":
        return _one_that_is_there(settings, cache, progress)
    origin = origin_of(settings)
    with cache.locked(progress.say):
        wanted = partial(_is_fresh, settings=settings, source=origin.source, run=run)
        golden = cache.newest(wanted, progress.say, remove_damaged=True)
        if golden is None:
            if claim is not None:
                earlier = (each.manifest for each in cache.entries() if each.manifest.source.prod == origin.source.prod)
                claim.require_room(next((manifest.size for manifest in earlier), 0))
            in_toolbox = claim.toolbox.folder() if claim is not None and settings.golden.dump_there else nullcontext()
            with lease_sandbox() as sandbox, sandbox.erp_down(), in_toolbox as there:
                golden = cache.add(partial(_prepare, settings, origin, sandbox, run, progress, there))
        return golden


def _one_that_is_there(settings: Settings, cache: GoldenCache, progress: Progress) -> Golden:
    """The newest golden dump of the prod that the settings name; where they name none, of the only one there is."""
    named = str(settings.prod.database() or settings.prod.dump or "")
    prods = {golden.manifest.source.prod: golden.manifest.source.name for golden in cache.entries()}
    if named in prods.values():
        prods = {prod: name for prod, name in prods.items() if name == named}
    if len(prods) > 1:
        raise GoldenError(
            f"{cache.path} has golden dumps of several prods, and which one to take is not said:\n"
            + "\n".join(f"  {name}" for name in sorted(prods.values())),
            hint="Set prod.dsn or prod.dump to one of them (it is not read), or `erp-sandbox forget` the others.",
        )
    ways = set[str]()

    def is_wanted(manifest: Manifest) -> bool:
        if manifest.source.prod not in prods:
            return False
        ways.update(difference := _other_ways(manifest, settings))
        return not difference

    damages: list[str] = []

    def on_damage(said: str) -> None:
        damages.append(said)
        progress.say(said)

    golden = cache.newest(is_wanted, on_damage)
    if golden is not None:
        return golden
    if ways:
        raise GoldenError(
            f'the golden dumps in {cache.path} were not made as the settings ask for, and refresh is "never":\n'
            + "\n".join(f"  {way}" for way in sorted(ways)),
            hint="Make one with these settings where prod can be reached: `erp-sandbox refresh-from-prod`.",
        )
    others = [name for name in cache.unusable() if not any(name in damage for damage in damages)]
    unusable = [*damages, *(f"golden dump {name} is of another version of this package" for name in others)]
    raise GoldenError(
        f'there is no golden dump in {cache.path} that can be used, and none may be made (refresh or reset = "never")'
        + "".join(f"\n  {each}" for each in unusable),
        hint="Make one where prod can be reached: `erp-sandbox refresh-from-prod`.",
    )


def _is_fresh(manifest: Manifest, *, settings: Settings, source: Source, run: str) -> bool:
    if (manifest.source.kind, manifest.source.identity) != (source.kind, source.identity):
        return False
    if _other_ways(manifest, settings):
        return False
    if manifest.run == run:
        return True
    # A file that has not changed gives the same golden dump again.
    return settings.refresh == "auto" and (source.kind == "file" or manifest.age <= settings.golden.max_age)


def _other_ways(manifest: Manifest, settings: Settings) -> list[str]:
    """In what a golden dump was made in another way than these settings ask for."""
    ways = []
    if set(manifest.quarantine) != set(settings.quarantine):
        ways.append(
            f"quarantine: it was {', '.join(manifest.quarantine) or 'off'},"
            f" and should be {', '.join(settings.quarantine) or 'off'}"
        )
    if manifest.prepared != _digest(settings.golden.prepare):
        ways.append("golden.prepare: its files are not the ones that were run")
    return ways


def _digest(files: Sequence[Path]) -> str:
    """What golden.prepare would run; empty where that is nothing.

    Raises:
        SettingsError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise SettingsError(f"{file} (golden.prepare) cannot be read: {error.strerror}") from None
    return digest.hexdigest() if files else ""


def _prepare(
    settings: Settings,
    origin: Origin,
    sandbox: Sandbox,
    run: str,
    progress: Progress,
    there: ToolboxFolder | None,
    to: Path,
    scratch: Path,
) -> Manifest:
    """Write the golden dump to ``to``: prod's dump, restored into the sandbox, quarantined there, dumped again."""
    prepared = _digest(settings.golden.prepare)
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    copy = origin.copy(scratch / "prod", sandbox.server_major, progress, there)
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
