"""Golden dumps on a claim (PVC), from outside of the cluster: brought here when needed, put there when made."""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ClusterError
from .exec import Exec, kept_open
from .toolbox import CACHE, OTHER_USER, Toolbox
from .unpack import unpack

__all__ = ["bring", "locked", "names_on_claim", "put", "remove"]

_ENTRY = re.compile(r"[0-9]{8}T[0-9.]+Z")
"""Names of golden dumps, as the cache makes them."""

_PIECE = 1 << 16
_BLOCK = 512

# The very lock that a run inside takes, with the volume mounted. What a killed holder left half made goes first.
_LOCK = """
umask 077
exec 9>>"$1/.lock" || exit 1
flock -n 9 || { echo waiting; flock 9; }
rm -rf "$1"/.making-* "$1"/.removing-*
echo locked
exec 3>&1
cat >/dev/null
"""


@contextmanager
def locked(toolbox: Toolbox, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the golden dumps on the claim; the hold ends with this program.

    Raises:
        ClusterError: the volume cannot be written.
    """
    with Exec(toolbox.cluster, toolbox.pod, ["sh", "-c", _LOCK, "sh", CACHE], stdin=True) as lock:
        told = False
        while "locked" not in lock.said_so_far:
            if not lock.listen():
                raise ClusterError(
                    f"the golden dumps on {toolbox.place} cannot be locked: {lock.reason}", hint=OTHER_USER
                )
            if not told and "waiting" in lock.said_so_far:
                on_wait("waiting for the golden dumps on the claim: another run is making one")
                told = True
        with kept_open(lock):
            yield


def names_on_claim(toolbox: Toolbox) -> list[str]:
    """The names of all golden dumps on the claim.

    Raises:
        ClusterError: they cannot be listed.
    """
    script = 'cd "$1" && for each in *; do if [ -f "$each/manifest.json" ]; then echo "$each"; fi; done'
    answer = toolbox.run(["sh", "-c", script, "sh", CACHE], doing="listing golden dumps")
    return [name for name in answer.splitlines() if _ENTRY.fullmatch(name)]


def bring(toolbox: Toolbox, cache: Path) -> list[str]:
    """Bring each golden dump on the claim that is not here yet; returns the names of all that are there.

    Raises:
        ClusterError: one cannot be read to its end.
    """
    names = names_on_claim(toolbox)
    for name in names:
        if not (cache / name).exists():
            _bring(toolbox, cache, name)
    return names


def put(toolbox: Toolbox, entry: Path) -> None:
    """Put a golden dump on the claim, whole or not at all; with the claim locked.

    Raises:
        ClusterError: there is no room, or what arrived is not what was sent.
    """
    toolbox.require_room(sum(file.stat().st_size for file in entry.rglob("*")))
    making = f".making-{secrets.token_hex(4)}"
    unpack(toolbox.cluster, toolbox.pod, f"{CACHE}/{making}", _archive(entry), lambda _: None)
    script = 'cd "$1" && mv "$2/tree/$3" "$3" && rm -rf "$2"'
    toolbox.run(["sh", "-c", script, "sh", CACHE, making, entry.name], doing="putting a golden dump on the claim")


def remove(toolbox: Toolbox, names: Iterable[str]) -> None:
    """Remove golden dumps from the claim; with the claim locked.

    Raises:
        ClusterError: they cannot be removed.
    """
    for name in names:
        # Renamed first, so that one is there whole, or not at all.
        script = 'cd "$1" && mv "$2" ".removing-$2" && rm -rf ".removing-$2"'
        toolbox.run(["sh", "-c", script, "sh", CACHE, name], doing="removing a golden dump from the claim")


def _bring(toolbox: Toolbox, cache: Path, name: str) -> None:
    making = cache / f".making-{name}-{secrets.token_hex(4)}"
    making.mkdir(mode=0o700)
    try:
        with Exec(toolbox.cluster, toolbox.pod, ["tar", "-C", CACHE, "-cf", "-", name]) as source:
            with tarfile.open(fileobj=_Stream(source.output()), mode="r|") as archive:
                for member in archive:
                    _extract(archive, member, making, name)
            if source.wait():
                raise ClusterError(f"golden dump {name} cannot be read in {toolbox.pod}: {source.reason}")
        (making / name).rename(cache / name)
    except tarfile.TarError as error:
        raise ClusterError(f"golden dump {name} did not come whole from {toolbox.pod}: {error}") from None
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path, name: str) -> None:
    parts = Path(member.name).parts
    if parts[0] != name or ".." in parts:
        raise ClusterError(f"golden dump {name} has {member.name!r}, which leads out of it")
    path = to.joinpath(*parts)
    if member.isdir():
        path.mkdir(mode=0o700, exist_ok=True)
    elif (content := archive.extractfile(member)) is not None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(content, file, _PIECE)


class _Stream(io.RawIOBase):
    """Pieces as a file, as far as tarfile needs one."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        got = bytearray()
        while len(got) < size:
            if not self._rest:
                self._rest = next(self._pieces, memoryview(b""))
                if not self._rest:
                    break
            taken = self._rest[: size - len(got)]
            got += taken
            self._rest = self._rest[len(taken) :]
        return bytes(got)


def _archive(entry: Path) -> Iterator[memoryview]:
    """A tar archive of a folder of files."""
    for path in [entry, *sorted(entry.rglob("*"))]:
        member = tarfile.TarInfo(str(path.relative_to(entry.parent)))
        if path.is_dir():
            member.type, member.mode = tarfile.DIRTYPE, 0o700
            yield memoryview(member.tobuf(tarfile.GNU_FORMAT))
            continue
        member.size, member.mode = path.stat().st_size, 0o600
        yield memoryview(member.tobuf(tarfile.GNU_FORMAT))
        with path.open("rb") as content:
            while piece := content.read(_PIECE):
                yield memoryview(piece)
        yield memoryview(bytes(-member.size % _BLOCK))
    yield memoryview(bytes(2 * _BLOCK))
