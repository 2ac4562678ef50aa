"""The cache of golden dumps: what is in it is whole and private, and what is not is made again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_erp_sandbox.errors import GoldenError
from pytest_erp_sandbox.golden import Golden, GoldenCache, Manifest, Source

from .postgres.pairs import eventually

PROD = Source("server", "'erp' at db:5432", "7/16384", "15.18")


SIZE = 1_000_000


def manifest(source: Source = PROD, run: str = "run", made_at: datetime | None = None) -> Manifest:
    when = (made_at or datetime.now(UTC)).isoformat()
    counts, extensions, quarantine = {"tables": 2}, {"pg_trgm": True}, {"mail": 2}
    rights = {"1": ["societe.lire"]}
    return Manifest(source, when, run, 18, {"prod": "15.18"}, counts, extensions, ["cast x"], quarantine, "", rights)


def write(dump: Path, scratch: Path) -> Manifest:
    dump.mkdir()
    (dump / "toc.dat").write_bytes(b"contents")
    (dump / "1.dat.gz").write_bytes(b"rows " * 1000)
    (scratch / "prod").mkdir()
    (scratch / "prod" / "toc.dat").write_bytes(b"prod's keys")
    return manifest()


@pytest.fixture
def cache(tmp_path: Path) -> GoldenCache:
    return GoldenCache(tmp_path / "cache", keep=2)


@pytest.fixture
def golden(cache: GoldenCache) -> Golden:
    with cache.locked():
        return cache.add(write)


def modes(folder: Path) -> dict[str, int]:
    return {str(each.relative_to(folder)): each.stat().st_mode & 0o777 for each in folder.rglob("*")}


class TestAnEntry:
    def test_is_private_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            cache = GoldenCache(tmp_path / "cache", keep=2)
            with cache.locked():
                golden = cache.add(write)
        finally:
            os.umask(before)
        assert cache.path.stat().st_mode & 0o777 == 0o700
        assert modes(cache.path) == {
            ".lock": 0o600,
            golden.id: 0o700,
            f"{golden.id}/manifest.json": 0o600,
            f"{golden.id}/dump": 0o700,
            f"{golden.id}/dump/toc.dat": 0o600,
            f"{golden.id}/dump/1.dat.gz": 0o600,
        }

    def test_is_private_even_in_a_folder_that_others_may_enter_which_keeps_its_permissions(
        self, tmp_path: Path
    ) -> None:
        volume = tmp_path / "volume"
        volume.mkdir()
        volume.chmod(0o777)
        cache = GoldenCache(volume, keep=2)
        with cache.locked():
            golden = cache.add(write)
        assert volume.stat().st_mode & 0o777 == 0o777
        assert golden.folder.stat().st_mode & 0o777 == 0o700

    def test_says_where_it_came_from(self, cache: GoldenCache, golden: Golden) -> None:
        assert cache.entries() == [golden]
        said = json.loads((golden.folder / "manifest.json").read_text())
        assert said["source"] == {"kind": "server", "name": PROD.name, "identity": "7/16384", "server_version": "15.18"}
        assert said["size"] == len(b"contents") + len(b"rows ") * 1000
        assert (said["counts"], said["extensions"], said["left_out"]) == ({"tables": 2}, {"pg_trgm": True}, ["cast x"])

    def test_leaves_nothing_of_what_it_was_made_from(self, cache: GoldenCache, golden: Golden) -> None:
        assert [path.name for path in cache.path.iterdir() if path.name != ".lock"] == [golden.id]
        assert not [path for path in cache.path.rglob("*") if path.is_file() and b"prod's keys" in path.read_bytes()]

    def test_that_could_not_be_made_whole_is_not_there(self, cache: GoldenCache) -> None:
        def fail(dump: Path, scratch: Path) -> Manifest:
            write(dump, scratch)
            raise RuntimeError

        with cache.locked(), pytest.raises(RuntimeError):
            cache.add(fail)
        assert [path.name for path in cache.path.iterdir()] == [".lock"]

    def test_is_seen_only_when_it_is_whole(self, cache: GoldenCache) -> None:
        def look(dump: Path, scratch: Path) -> Manifest:
            (dump.parent / "manifest.json").write_text("{}")
            assert GoldenCache(cache.path, keep=2).entries() == []
            (dump.parent / "manifest.json").unlink()
            return write(dump, scratch)

        with cache.locked():
            cache.add(look)
        assert len(cache.entries()) == 1


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_in_manifest(text: bytes) -> Callable[[Golden], object]:
    def spoil(golden: Golden) -> None:
        file = golden.folder / "manifest.json"
        flip(file, file.read_bytes().index(text))

    return spoil


DAMAGES: dict[str, Callable[[Golden], object]] = {
    "a flipped byte": lambda golden: flip(golden.dump / "1.dat.gz"),
    "a missing file": lambda golden: (golden.dump / "1.dat.gz").unlink(),
    "a file too many": lambda golden: (golden.dump / "2.dat.gz").write_bytes(b""),
    "a cut file": lambda golden: os.truncate(golden.dump / "1.dat.gz", 4000),
    "no dump": lambda golden: shutil.rmtree(golden.dump),
    "no manifest": lambda golden: (golden.folder / "manifest.json").unlink(),
    "a cut manifest": lambda golden: os.truncate(golden.folder / "manifest.json", 200),
    "an empty manifest": lambda golden: os.truncate(golden.folder / "manifest.json", 0),
    "no object": lambda golden: (golden.folder / "manifest.json").write_text("[1]"),
    "not text": lambda golden: (golden.folder / "manifest.json").write_bytes(b"\xff\xfe"),
    "a flipped byte in the counts": flip_in_manifest(b"2\n"),
    "a flipped byte in the time": flip_in_manifest(b"T"),
    "a flipped byte in a key": flip_in_manifest(b"made_at"),
    "a flipped byte in the format": flip_in_manifest(b"format"),
}


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_is_noticed_and_told(self, cache: GoldenCache, golden: Golden, damage: str) -> None:
        DAMAGES[damage](golden)
        told: list[str] = []
        assert cache.newest(on_damage=told.append) is None
        assert len(told) == 1
        assert f"golden dump {golden.id} is damaged" in told[0]
        assert golden.folder.exists()

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_is_removed_by_whoever_may(self, cache: GoldenCache, golden: Golden, damage: str) -> None:
        DAMAGES[damage](golden)
        with cache.locked():
            assert cache.newest(remove_damaged=True) is None
        assert [path.name for path in cache.path.iterdir()] == [".lock"]

    def test_of_the_newest_gives_the_one_before(self, cache: GoldenCache, golden: Golden) -> None:
        with cache.locked():
            newer = cache.add(write)
        newest = cache.newest()
        assert newest is not None
        flip((newer if newest == newer else golden).dump / "toc.dat")
        assert cache.newest() == (golden if newest == newer else newer)

    def test_is_not_what_another_version_of_this_package_wrote(self, cache: GoldenCache, golden: Golden) -> None:
        file = golden.folder / "manifest.json"
        file.write_text(json.dumps({"format": 4, "of": "another kind"}))
        told: list[str] = []
        with cache.locked():
            assert cache.newest(on_damage=told.append, remove_damaged=True) is None
        assert told == []
        assert golden.folder.exists()


def read_bytes() -> int:
    """How many bytes this process has read so far, from whatever."""
    return int(Path("/proc/self/io").read_text().split()[1])


class TestChecking:
    @pytest.fixture
    def large(self, cache: GoldenCache) -> Golden:
        def large(dump: Path, scratch: Path) -> Manifest:
            made = write(dump, scratch)
            (dump / "2.dat").write_bytes(os.urandom(SIZE))
            return made

        with cache.locked():
            golden = cache.add(large)
        self.await_settled(golden.folder)
        return golden

    def await_settled(self, folder: Path) -> None:
        """A run right after another writer's reads all of it in any case."""
        written = max(file.stat().st_ctime for file in folder.rglob("*"))
        eventually(lambda: time.time() - written > 1.1)

    def reads_it(self, cache: GoldenCache) -> bool:
        before = read_bytes()
        assert cache.newest() is not None
        return read_bytes() - before > SIZE

    def test_reads_it_once_a_day(self, cache: GoldenCache, large: Golden) -> None:
        assert [self.reads_it(cache) for _ in range(3)] == [True, False, False]
        yesterday = time.time() - timedelta(hours=25).total_seconds()
        tomorrow = time.time() + 3600
        for other_day in (yesterday, tomorrow):
            os.utime(large.folder / "checked", (other_day, other_day))
            assert [self.reads_it(cache) for _ in range(2)] == [True, False]

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_finds_what_was_damaged_since(self, cache: GoldenCache, large: Golden, damage: str) -> None:
        assert cache.newest() == large
        DAMAGES[damage](large)
        assert cache.newest() is None

    def test_finds_what_was_damaged_by_somebody_who_put_the_times_back(self, cache: GoldenCache, large: Golden) -> None:
        assert cache.newest() == large
        file = large.dump / "2.dat"
        before = file.stat()
        flip(file)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert cache.newest() is None

    def test_does_not_believe_what_came_with_a_copy(self, cache: GoldenCache, large: Golden, tmp_path: Path) -> None:
        assert cache.newest() == large
        copied = GoldenCache(tmp_path / "copied", keep=2)
        copy = shutil.copytree(large.folder, copied.path / large.id, copy_function=shutil.copyfile)
        flip(copy / "dump" / "2.dat")
        self.await_settled(copy)
        (copy / "checked").touch()
        assert copied.newest() is None


class TestPruning:
    def age(self, *entries: Golden) -> None:
        """Let them be used last some hours ago, the first the longest."""
        for hours, golden in enumerate(reversed(entries), 2):
            when = datetime.now().timestamp() - hours * 3600
            os.utime(golden.folder, (when, when))

    def add(self, cache: GoldenCache, day: int, source: Source = PROD) -> Golden:
        """An entry that was made on a day."""

        def made(dump: Path, scratch: Path) -> Manifest:
            write(dump, scratch)
            return manifest(source)

        with cache.locked():
            golden = cache.add(made)
            name = f"202501{day:02}T000000.000000Z"
            return Golden(golden.folder.rename(cache.path / name), golden.manifest)

    def test_keeps_the_last(self, cache: GoldenCache) -> None:
        entries = [self.add(cache, day) for day in (1, 2, 3)]
        self.age(*entries)
        with cache.locked():
            newest = cache.add(write)
        assert cache.entries() == [newest, entries[2]]

    def test_passes_over_what_is_in_use(self, cache: GoldenCache) -> None:
        entries = [self.add(cache, day) for day in (1, 2, 3)]
        self.age(*entries)
        entries[0].mark_used()
        with cache.locked():
            newest = cache.add(write)
        assert cache.entries() == [newest, entries[2], entries[0]]

    def test_of_one_prod_leaves_those_of_another(self, cache: GoldenCache) -> None:
        other = self.add(cache, 1, Source("server", "other", "8/16384", "15.18"))
        entries = [self.add(cache, day) for day in (2, 3)]
        self.age(other, *entries)
        with cache.locked():
            newest = cache.add(write)
        assert cache.entries() == [newest, entries[1], other]

    def test_of_a_file_that_was_written_anew_keeps_the_last(self, cache: GoldenCache) -> None:
        entries = [self.add(cache, day, Source("file", "/prod.dump", f"/prod.dump {day}", "15")) for day in (1, 2)]
        self.age(*entries)
        with cache.locked():
            newest = cache.add(
                lambda dump, scratch: replace(
                    write(dump, scratch), source=replace(entries[0].manifest.source, identity="new")
                )
            )
        assert cache.entries() == [newest, entries[1]]

    def test_forgetting_removes_what_it_is_told(self, cache: GoldenCache) -> None:
        entries = [self.add(cache, day) for day in (1, 2)]
        with cache.locked():
            cache.forget([entries[1].id])
        assert cache.entries() == [entries[0]]
        assert sorted(path.name for path in cache.path.iterdir()) == [".lock", entries[0].id]


HOLD = """
import sys, time
from pathlib import Path
from tests.test_golden import write
from pytest_erp_sandbox.golden import GoldenCache

def slow(dump, scratch):
    write(dump, scratch)
    Path(sys.argv[2]).touch()
    time.sleep(100)

cache = GoldenCache(Path(sys.argv[1]), keep=2)
with cache.locked():
    cache.add(slow)
"""


@pytest.fixture
def holder(cache: GoldenCache, tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process that is making an entry."""
    begun = tmp_path / "begun"
    process = subprocess.Popen([sys.executable, "-c", HOLD, cache.path, begun], cwd=Path(__file__).parents[1])
    eventually(begun.exists)
    return process


class TestTheLock:
    def test_is_waited_for_and_that_is_told(self, cache: GoldenCache, holder: subprocess.Popen[bytes]) -> None:
        told: list[str] = []

        def tell(text: str) -> None:
            told.append(text)
            holder.send_signal(signal.SIGTERM)

        with cache.locked(tell):
            assert holder.wait() == -signal.SIGTERM
        assert told == [f"waiting for the golden dumps in {cache.path}: another run is making one"]

    def test_of_a_killed_holder_is_free_and_what_it_left_goes(
        self, cache: GoldenCache, holder: subprocess.Popen[bytes]
    ) -> None:
        holder.kill()
        holder.wait()
        assert [path for path in cache.path.rglob("*") if path.is_file() and b"prod's keys" in path.read_bytes()]
        with cache.locked():
            assert [path.name for path in cache.path.iterdir()] == [".lock"]

    def test_what_was_half_removed_goes_too(self, cache: GoldenCache, golden: Golden) -> None:
        golden.folder.rename(cache.path / f".removing-{golden.id}")
        with cache.locked():
            assert [path.name for path in cache.path.iterdir()] == [".lock"]


FILL_UP = """
import shutil
from contextlib import suppress
from pathlib import Path
import pytest
from tests.test_golden import write
from pytest_erp_sandbox.errors import GoldenError
from pytest_erp_sandbox.golden import GoldenCache

def fill_up(dump, scratch):
    manifest = write(dump, scratch)
    shutil.rmtree(scratch / "prod")
    with suppress(OSError), (dump / "2.dat.gz").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return manifest

cache = GoldenCache(Path({path!r}), keep=2)
with pytest.raises(GoldenError, match="cannot be written: No space left on device"), cache.locked():
    cache.add(fill_up)
assert [path.name for path in cache.path.iterdir()] == [".lock"]
"""

READ = """
from pathlib import Path
from pytest_erp_sandbox.golden import GoldenCache
assert GoldenCache(Path({path!r}), keep=2).newest().id == {id!r}
"""


def mounted(mount: str, script: str) -> None:
    """Run a script with a mount of its own."""
    command = f'{mount} || exit 77; exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, sys.executable, script],  # noqa: S607 - wherever it is
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("no mounts of one's own here")
    assert done.returncode == 0, done.stderr


class TestThePlace:
    def test_that_is_a_file_is_named(self, tmp_path: Path) -> None:
        place = tmp_path / "file"
        place.touch()
        with pytest.raises(GoldenError, match=f"{place} cannot be written.*\n.*golden.path"):
            GoldenCache(place, keep=2)

    def test_without_room_is_named_and_nothing_is_left(self, tmp_path: Path) -> None:
        mounted(
            f"mount -t tmpfs -o size=64k none {shlex.quote(str(tmp_path))}",
            FILL_UP.format(path=str(tmp_path)),
        )

    def test_can_be_read_by_those_who_may_not_write(self, cache: GoldenCache, golden: Golden) -> None:
        # Even root may not write what is mounted read-only.
        place = shlex.quote(str(cache.path))
        mounted(
            f"mount --bind {place} {place} && mount -o remount,bind,ro {place}",
            READ.format(path=str(cache.path), id=golden.id),
        )

    def test_the_age_is_that_of_prods_state(self) -> None:
        assert manifest(made_at=datetime.now(UTC) - timedelta(hours=3)).age >= timedelta(hours=3)
