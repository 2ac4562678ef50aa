"""Refresh: a golden dump that is fresh enough, or a new one, which is prepared in a sandbox with the ERP down."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .errors import GoldenError, SettingsError
from .golden import Golden, GoldenCache, Manifest, Source
from .origin import origin_of
from .progress import Progress, human_size
from .reach import golden_claim
from .sandbox import Sandbox
from .settings import Settings

if TYPE_CHECKING:
    from .cluster.claim import GoldenClaim

__all__ = ["LeaseSandbox", "digest_of", "golden_dump"]


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
    with golden_claim(settings, progress, for_refresh=True) as claim:
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
            room = origin.room()
            _require_room(cache.path, room)
            if claim is not None:
                claim.require_room(room)
            # Here, as on most days a run needs none of it.
            from .preparing import prepare

            in_toolbox = claim.toolbox.folder() if claim is not None and settings.may_dump_there else nullcontext()
            with lease_sandbox() as sandbox, sandbox.erp_down(), in_toolbox as there:
                golden = cache.add(partial(prepare, settings, origin, sandbox, run, progress, there))
        return golden


def _require_room(folder: Path, needed: int) -> None:
    """Stop before a dump that would fill the disk, while the ERP is still up."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise GoldenError(
            f"{folder} has {human_size(free)} free; a golden dump of prod takes about {human_size(needed)}",
            hint="Make room (`erp-sandbox forget` removes golden dumps), or set golden.path to a larger place.",
        )


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
    if manifest.prepared != digest_of(settings.golden.prepare):
        ways.append("golden.prepare: its files are not the ones that were run")
    return ways


def digest_of(files: Sequence[Path]) -> str:
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
