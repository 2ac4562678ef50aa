"""The cache of golden dumps: entries, manifests, lock, damage."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import GoldenError

__all__ = ["Golden", "GoldenCache", "Manifest", "Source", "newest_of"]

_FORMAT = 3
"""Of entries. Those of another version of this package are not ours to judge."""

_MANIFEST = "manifest.json"
_DUMP = "dump"

_CHECKED = "checked"
"""Beside the dump: how its files looked from outside when they were last read and found right."""

_CHECK_HOLDS = timedelta(days=1)
"""As long as they look so. What a disk forgets by itself is found out the day after."""

_SETTLED = 1.0
"""Seconds after which a file that is written to again does not have the same time, however slowly its clock ticks."""

_ENTRIES = "[0-9]*Z"
"""Named for their time, to the microsecond: the names' order is theirs."""

_MAKING = ".making-"
_REMOVING = ".removing-"

_IN_USE = timedelta(hours=1)
"""An entry that was restored from so recently may still be in use: pruning passes it over."""

_SOON = 0.5
"""Seconds of waiting from which on people are told of it."""


@dataclass(frozen=True)
class Source:
    """Where a golden dump came from.

    Attributes:
        kind: ``server`` or ``file``.
        name: for people: database, host, port; or the file. Never a password.
        identity: tells sources apart: system identifier and oid; or the file's path, size and time.
        server_version: of the server that was dumped, such as ``15.18``.
    """

    kind: str
    name: str
    identity: str
    server_version: str

    @property
    def prod(self) -> str:
        """Tells prods apart: a server has one identity, by whatever way it was reached; a file has its name."""
        return self.identity if self.kind == "server" else self.name


@dataclass(frozen=True)
class Manifest:
    """What is known about a golden dump.

    Attributes:
        source: where it came from.
        made_at: when prod was dumped (ISO 8601, UTC).
        run: the test run, or the command, that made it.
        server_major: major version of the sandbox server that it was prepared on; older ones cannot restore it.
        tools: the client programs' versions, by what they did.
        counts: the objects in schema ``public``, by kind; a restore must give as many.
        extensions: those of prod's, by name: whether something in schema ``public`` needs it.
        left_out: what could not come along, and may be lost.
        quarantine: how many rows each part of the quarantine changed, by its name; parts that were off are missing.
        prepared: the digest of the SQL files that were run in it (``golden.prepare``); empty where there were none.
        rights: names of the rights that an agent could have, by the number of the company (entity).
        size: of the dump, in bytes.
        sha256: of the dump, and of all else that is said here.
    """

    source: Source
    made_at: str
    run: str
    server_major: int
    tools: dict[str, str]
    counts: dict[str, int]
    extensions: dict[str, bool]
    left_out: list[str]
    quarantine: dict[str, int]
    prepared: str
    rights: dict[str, list[str]]
    size: int = 0
    sha256: str = ""

    @property
    def age(self) -> timedelta:
        """How long ago prod was dumped."""
        return datetime.now(UTC) - datetime.fromisoformat(self.made_at)


@dataclass(frozen=True)
class Golden:
    """An entry of the cache: a dump and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """The entry's name, which begins with its time."""
        return self.folder.name

    @property
    def dump(self) -> Path:
        """The dump, in pg_dump's directory format."""
        return self.folder / _DUMP

    def plain(self) -> dict[str, object]:
        """What is known about it, in JSON's types."""
        known = asdict(self.manifest)
        return {
            "id": self.id,
            **{name: known[name] for name in ("source", "made_at", "server_major", "size", "counts", "quarantine")},
            "prepared": bool(self.manifest.prepared),
            "left_out": self.manifest.left_out,
        }

    def verify(self) -> None:
        """Read all of it, and compare the checksum; once a day, where nobody writes to it.

        Raises:
            GoldenError: it is not what was written.
        """
        try:
            looks = _looks(self.folder)
            if looks is not None and looks == _checked(self.folder):
                return
            measured = _measured(self.dump, self.manifest)
        except OSError as error:
            raise GoldenError(f"golden dump {self.id} is damaged: {error.strerror}: {error.filename}") from None
        if measured != self.manifest:
            raise GoldenError(f"golden dump {self.id} is damaged: it does not have the checksum that it was made with")
        if looks is not None:
            # Those who can only read the cache read all of it each time.
            with suppress(OSError):
                _note_checked(self.folder, looks)

    def mark_used(self) -> None:
        """Keep it from being pruned for a while."""
        # Those who can only read the cache use it, too.
        with suppress(OSError):
            os.utime(self.folder)


class GoldenCache:
    """A folder of golden dumps, shared by all runs that are given it.

    Each dump is in a folder for its owner alone (0700, files 0600). So is the cache where it is made here; a folder
    that was there before, a volume's mount say, keeps its permissions: its names can be seen then, the dumps not.

    Args:
        path: the folder.
        keep: how many entries of each prod pruning leaves.

    Raises:
        GoldenError: the folder cannot be made.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self._keep = keep
        with self._writing():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def locked(self, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Hold the cache: only its holder adds or removes entries; ``on_wait`` is told if that takes waiting.

        What a holder that was killed left half made, or half removed, goes first.

        Raises:
            GoldenError: the folder cannot be written.
        """
        lock = FileLock(self.path / ".lock", mode=0o600)
        with self._writing():
            try:
                lock.acquire(timeout=_SOON)
            except Timeout:
                on_wait(f"waiting for the golden dumps in {self.path}: another run is making one")
                lock.acquire()
        try:
            for half in [*self.path.glob(f"{_MAKING}*"), *self.path.glob(f"{_REMOVING}*")]:
                self._remove(half)
            yield
        finally:
            lock.release()

    def entries(self) -> list[Golden]:
        """All entries whose manifest can be read, the newest first."""
        found = []
        for folder in self._folders():
            with suppress(GoldenError):
                found.append(_read(folder))
        return [golden for golden in found if golden is not None]

    def entry(self, name: str) -> Golden:
        """The entry of that name.

        Raises:
            GoldenError: it is not there any more, or damaged.
        """
        golden = _read(self.path / name)
        if golden is None:
            raise GoldenError(f"golden dump {name} is of another version of this package")
        return golden

    def ids(self) -> list[str]:
        """The names of all that is there, the newest first; damaged ones, and another version's, among them."""
        return [folder.name for folder in self._folders()]

    def unusable(self) -> list[str]:
        """The names of those whose manifest cannot be read: damaged ones, and another version's."""
        return sorted({*self.ids()} - {golden.id for golden in self.entries()})

    def newest(
        self,
        wanted: Callable[[Manifest], bool] = lambda _: True,
        on_damage: Callable[[str], None] = lambda _: None,
        *,
        remove_damaged: bool = False,
    ) -> Golden | None:
        """The newest whole entry that is ``wanted``.

        Args:
            wanted: says of a manifest whether it will do.
            on_damage: is told of damaged entries, which are passed over.
            remove_damaged: whether they are removed, too; with the cache locked.
        """
        for folder in self._folders():
            try:
                golden = _read(folder)
                if golden is None or not wanted(golden.manifest):
                    continue
                golden.verify()
            except GoldenError as error:
                on_damage(f"{error}; it {'was removed' if remove_damaged else 'is passed over'}")
                if remove_damaged:
                    self._remove(folder)
            else:
                golden.mark_used()
                return golden
        return None

    def add(self, write: Callable[[Path, Path], Manifest]) -> Golden:
        """Make an entry, whole or not at all; call it with the cache locked.

        Args:
            write: is given a place for the dump, which it must make, and a folder for whatever else it needs, which is
                removed afterwards; it returns the manifest, but for size and checksum.

        Raises:
            GoldenError: the cache cannot be written.
        """
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        making = self.path / f"{_MAKING}{name}"
        dump, scratch = making / _DUMP, making / "scratch"
        try:
            with self._writing():
                making.mkdir(mode=0o700)
                scratch.mkdir(mode=0o700)
            manifest = write(dump, scratch)
            with self._writing():
                shutil.rmtree(scratch)
                _make_private(dump)
                manifest = _measured(dump, manifest)
                _write_private(making / _MANIFEST, json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=2))
                making.rename(self.path / name)
        finally:
            if making.exists():
                self._remove(making)
        golden = Golden(self.path / name, manifest)
        self._prune(manifest.source)
        return golden

    def forget(self, ids: Iterable[str]) -> None:
        """Remove entries, whole or damaged, in use or not; call it with the cache locked."""
        for each in ids:
            self._remove(self.path / each)

    def _folders(self) -> list[Path]:
        return sorted(self.path.glob(_ENTRIES), reverse=True)

    def _prune(self, source: Source) -> None:
        same = [golden for golden in self.entries() if golden.manifest.source.prod == source.prod]
        self.forget(golden.id for golden in same[self._keep :] if not _is_in_use(golden))

    def _remove(self, folder: Path) -> None:
        # Renamed first: an entry is there whole, or not at all; and a pg_dump that outlived its killed run, and writes
        # here still, does not find the place any more.
        with self._writing():
            if not folder.name.startswith(_REMOVING):
                folder = folder.rename(self.path / f"{_REMOVING}{folder.name}")
            shutil.rmtree(folder)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise GoldenError(
                f"the golden dumps' folder {self.path} cannot be written: {error.strerror or error}",
                hint="Give golden.path a folder with room that this user may write; in a cluster, check the volume's"
                " mount.",
            ) from None


def newest_of(path: Path, source: str | None) -> str | None:
    """When the newest golden dump of a source, or of any, was made, as its manifest says; None where there is none."""
    for folder in sorted(path.glob(_ENTRIES), reverse=True):
        with suppress(GoldenError):
            golden = _read(folder)
            if golden is not None and source in (None, golden.manifest.source.name):
                return golden.manifest.made_at
    return None


def _read(folder: Path) -> Golden | None:
    """The entry in ``folder``; None for one of another version's."""
    try:
        content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        made_in = content.pop("format")
        if isinstance(made_in, int) and made_in != _FORMAT:
            return None
        manifest = Manifest(source=Source(**content.pop("source")), **content)
        _ = manifest.age  # its time can be read
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise GoldenError(f"golden dump {folder.name} is damaged: its manifest cannot be read") from None
    return Golden(folder, manifest)


def _is_in_use(golden: Golden) -> bool:
    return time.time() - golden.folder.stat().st_mtime <= _IN_USE.total_seconds()


def _measured(dump: Path, manifest: Manifest) -> Manifest:
    """The manifest with the dump's size and checksum as they are."""
    unmeasured = replace(manifest, size=0, sha256="")
    total, digest = 0, hashlib.sha256(json.dumps(asdict(unmeasured), sort_keys=True).encode())
    for file in sorted(dump.iterdir()):
        with file.open("rb") as content:
            each = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
        total += size
        digest.update(f"\n{file.name} {size} {each}".encode())
    return replace(manifest, size=total, sha256=digest.hexdigest())


def _looks(folder: Path) -> bytes | None:
    """Other bytes, as many, once somebody writes to an entry's files, or puts others in their place.

    None right after that has happened: if it happened again, it could look the same.
    """
    now, digest = time.time(), hashlib.sha256()
    for file in [folder / _MANIFEST, *sorted((folder / _DUMP).iterdir())]:
        found = file.stat()
        if now - max(found.st_ctime, found.st_mtime) < _SETTLED:
            return None
        looks = (file.name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        digest.update(repr(looks).encode())
    return digest.digest()


def _checked(folder: Path) -> bytes | None:
    """How they looked when they were last read and found right; None where that is too long ago."""
    try:
        age = time.time() - (folder / _CHECKED).stat().st_mtime
        return (folder / _CHECKED).read_bytes() if 0 <= age < _CHECK_HOLDS.total_seconds() else None
    except OSError:
        return None


def _note_checked(folder: Path, looks: bytes) -> None:
    # In place: whoever copies the entry meanwhile finds a file of this size. Half of it is no harm.
    with os.fdopen(os.open(folder / _CHECKED, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(looks)


def _make_private(dump: Path) -> None:
    dump.chmod(0o700)
    for file in dump.iterdir():
        file.chmod(0o600)


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
