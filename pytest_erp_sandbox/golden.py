"""The cache of golden dumps: entries, manifests, lock, staleness."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import GoldenError

__all__ = ["Golden", "GoldenCache", "Manifest", "Source"]

_MANIFEST = "manifest.json"
_DUMP = "dump"
_HALF_MADE = ".making-"

_IN_USE = timedelta(hours=1)
"""An entry that was restored from so recently may still be in use: pruning passes it over."""


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
        size: of the dump, in bytes.
        sha256: of the dump.
    """

    source: Source
    made_at: str
    run: str
    server_major: int
    tools: dict[str, str]
    counts: dict[str, int]
    extensions: dict[str, bool]
    left_out: list[str]
    size: int = 0
    sha256: str = ""

    @property
    def age(self) -> timedelta:
        """How long ago prod was dumped."""
        return datetime.now(UTC) - datetime.fromisoformat(self.made_at)


@dataclass(frozen=True)
class Golden:
    """A whole entry of the cache: a dump and its manifest."""

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

    def verify(self) -> None:
        """Read the dump once, and compare its checksum.

        Raises:
            GoldenError: it is not what was written.
        """
        try:
            size, digest = _checksum(self.dump)
        except OSError as error:
            raise GoldenError(f"golden dump {self.id} cannot be read: {error}") from None
        if (size, digest) != (self.manifest.size, self.manifest.sha256):
            raise GoldenError(
                f"golden dump {self.id} is damaged: its checksum is not the manifest's",
                hint="Remove it with `erp-sandbox forget`; the next refresh makes it again.",
            )

    def mark_used(self) -> None:
        """Keep it from being pruned for a while."""
        os.utime(self.folder)


class GoldenCache:
    """A folder of golden dumps, shared by all runs that are given it.

    Args:
        path: the folder; made, for its owner alone, if it is not there.
        keep: how many entries of each source pruning leaves.

    Raises:
        GoldenError: the folder cannot be made or written.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self._keep = keep
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from None

    @contextmanager
    def locked(self, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Hold the cache: only its holder adds or removes entries; ``on_wait`` is told if that takes waiting."""
        lock = FileLock(self.path / ".lock", mode=0o600)
        try:
            try:
                lock.acquire(timeout=0.5)
            except Timeout:
                on_wait(f"another run has the golden dumps in {self.path}")
                lock.acquire()
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            self._remove_half_made()
            yield
        finally:
            lock.release()

    def entries(self) -> list[Golden]:
        """All entries whose manifest can be read, the newest first."""
        found = []
        for folder in self.path.glob("*Z-*"):
            try:
                content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
                source = Source(**content.pop("source"))
                found.append(Golden(folder, Manifest(source=source, **content)))
            except (OSError, ValueError, TypeError, KeyError):
                continue  # half removed, or of another version: no entry
        return sorted(found, key=lambda golden: golden.id, reverse=True)

    def newest(
        self, wanted: Callable[[Manifest], bool] = lambda _: True, on_damage: Callable[[str], None] = lambda _: None
    ) -> Golden | None:
        """The newest whole entry that is ``wanted``; ``on_damage`` is told of damaged ones, which are passed over."""
        for golden in self.entries():
            if not wanted(golden.manifest):
                continue
            try:
                golden.verify()
            except GoldenError as error:
                on_damage(str(error))
                continue
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
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        making = self.path / f"{_HALF_MADE}{name}"
        try:
            (making / "scratch").mkdir(mode=0o700, parents=True)
            making.chmod(0o700)
            manifest = write(making / _DUMP, making / "scratch")
            shutil.rmtree(making / "scratch")
            manifest = _complete(making / _DUMP, manifest)
            _write_private(making / _MANIFEST, json.dumps(asdict(manifest), indent=2))
            making.rename(self.path / name)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        finally:
            shutil.rmtree(making, ignore_errors=True)
        golden = Golden(self.path / name, manifest)
        self._prune(golden)
        return golden

    def forget(self, entries: Sequence[Golden]) -> None:
        """Remove entries; call it with the cache locked."""
        for golden in entries:
            # Renamed first: an entry is there whole, or not at all.
            gone = self.path / f"{_HALF_MADE}{golden.id}"
            golden.folder.rename(gone)
            shutil.rmtree(gone)

    def _prune(self, newest: Golden) -> None:
        same = [
            golden for golden in self.entries() if golden.manifest.source.identity == newest.manifest.source.identity
        ]
        idle = [
            golden
            for golden in same[self._keep :]
            if time.time() - golden.folder.stat().st_mtime > _IN_USE.total_seconds()
        ]
        self.forget(idle)

    def _remove_half_made(self) -> None:
        for folder in self.path.glob(f"{_HALF_MADE}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _complete(dump: Path, manifest: Manifest) -> Manifest:
    dump.chmod(0o700)
    for file in dump.iterdir():
        file.chmod(0o600)
    size, digest = _checksum(dump)
    fields: dict[str, Any] = {**vars(manifest), "size": size, "sha256": digest}
    return Manifest(**fields)


def _checksum(dump: Path) -> tuple[int, str]:
    total, digest = 0, hashlib.sha256()
    for file in sorted(dump.iterdir()):
        with file.open("rb") as content:
            each = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
        total += size
        digest.update(f"{file.name} {size} {each}\n".encode())
    return total, digest.hexdigest()


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _unwritable(path: Path, error: OSError) -> GoldenError:
    return GoldenError(
        f"the golden dumps' folder {path} cannot be written: {error.strerror or error}",
        hint="Give golden.path a folder with room that this user may write; in a cluster, check the volume's mount.",
    )
