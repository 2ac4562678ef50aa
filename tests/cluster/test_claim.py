"""Golden dumps on a claim, from outside of the cluster."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster.claim import _LOCK, GoldenClaim, locked_claim
from pytest_erp_sandbox.cluster.toolbox import CACHE, Toolbox, ToolboxImage, toolbox
from pytest_erp_sandbox.golden import GoldenCache
from pytest_erp_sandbox.progress import Lines, OnProgress, Progress

from .kubernetes import IMAGE, Kubernetes, until
from .town import needs_this_machine, small_claim

NAMES = ("20261124T000001.000001Z", "20261124T000002.000002Z")


def entry(folder: Path, name: str, content: bytes = b"x") -> Path:
    (folder / name / "dump").mkdir(parents=True)
    (folder / name / "manifest.json").write_text("{}")
    (folder / name / "dump" / "1.dat.gz").write_bytes(content)
    (folder / name / "dump" / "toc.dat").write_bytes(b"")
    return folder / name


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def claim(kubernetes: Kubernetes) -> str:
    return kubernetes.claim("claimed")


@pytest.fixture(scope="module")
def box(kubernetes: Kubernetes, claim: str) -> Iterator[Toolbox]:
    with toolbox(kubernetes.cluster, kubernetes.sandbox, claim, ToolboxImage(IMAGE)) as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(box: Toolbox) -> None:
    box.run(["sh", "-c", 'rm -rf "$1"/* "$1"/.making-*', "sh", CACHE], doing="emptying the volume")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


class Steps(Progress):
    """Keeps what is told of each step."""

    def __init__(self) -> None:
        self.steps = dict[str, list[tuple[int, int]]]()

    @contextmanager
    def step(self, doing: str, unit: str = "objects", total: int | None = None) -> Iterator[OnProgress]:
        del unit, total
        told = self.steps.setdefault(doing, [])
        yield lambda done, size: told.append((done, size))


def put(box: Toolbox, *entries: Path) -> None:
    with locked_claim(box, Progress()) as claim:
        for each in entries:
            claim.put_entry(each)


def bring(box: Toolbox, cache: Path) -> list[str]:
    with locked_claim(box, Progress()) as claim:
        claim.bring(cache)
        return claim.names


def test_what_one_puts_there_another_brings_back_byte_by_byte(box: Toolbox, tmp_path: Path, cache: Path) -> None:
    ours = tmp_path / "ours"
    put(box, *(entry(ours, name, bytes(range(256)) * (1 + 9000 * number)) for number, name in enumerate(NAMES)))
    assert bring(box, cache) == list(NAMES)
    assert files(cache) == files(ours)
    assert {path.name for path in cache.iterdir()} == set(NAMES)
    assert (cache / NAMES[0]).stat().st_mode & 0o777 == 0o700
    assert (cache / NAMES[0] / "dump" / "1.dat.gz").stat().st_mode & 0o777 == 0o600


def test_how_far_putting_and_bringing_are_is_told(box: Toolbox, tmp_path: Path, cache: Path) -> None:
    ours, told = entry(tmp_path / "ours", NAMES[0], secrets.token_bytes(20_000_000)), Steps()
    with locked_claim(box, told) as claim:
        claim.put_entry(ours)
    with locked_claim(box, told) as claim:
        claim.bring(cache)
    putting, bringing = told.steps
    assert "putting golden dump" in putting
    assert "bringing golden dump" in bringing
    assert 10_000_000 < max(size for _, size in told.steps[putting]) < 30_000_000
    files, size = told.steps[bringing][-1]
    assert files == 4
    assert size > 20_000_000


def test_what_is_here_is_not_brought_again_but_when_it_was_used_is_known(
    box: Toolbox, tmp_path: Path, cache: Path
) -> None:
    theirs, here = entry(tmp_path / "theirs", NAMES[0], b"theirs"), entry(cache, NAMES[0], b"here")
    for folder, used in ((theirs, 2_000_000_000), (here, 1_000_000_000)):
        os.utime(folder, (used, used))
    put(box, theirs)
    assert bring(box, cache) == [NAMES[0]]
    assert (here / "dump" / "1.dat.gz").read_bytes() == b"here"
    assert here.stat().st_mtime == 2_000_000_000


def test_one_that_is_brought_is_as_old_as_it_was(box: Toolbox, tmp_path: Path, cache: Path) -> None:
    """Else nothing that is brought could be pruned: what was used a moment ago is not."""
    ours = entry(tmp_path, NAMES[0])
    os.utime(ours, (1_000_000_000, 1_000_000_000))
    put(box, ours)
    bring(box, cache)
    assert (cache / NAMES[0]).stat().st_mtime == 1_000_000_000


def test_half_made_ones_are_gone_with_the_next_hold(box: Toolbox, tmp_path: Path, cache: Path) -> None:
    box.run(["mkdir", "-p", f"{CACHE}/.making-x/{NAMES[0]}", f"{CACHE}/.removing-x"], doing="the test")
    assert bring(box, cache) == []
    put(box, entry(tmp_path, NAMES[0]))
    assert box.run(["ls", "-A", CACHE], doing="the test").split() == [".lock", NAMES[0]]


def test_damaged_ones_can_be_removed_too(box: Toolbox) -> None:
    box.run(["mkdir", "-p", f"{CACHE}/{NAMES[0]}"], doing="the test")
    with locked_claim(box, Progress()) as claim:
        assert claim.names == [NAMES[0]]
        claim.keep([])
        assert claim.names == []
    assert box.run(["ls", CACHE], doing="the test") == ""


def test_what_is_not_kept_is_gone(box: Toolbox, tmp_path: Path, cache: Path) -> None:
    put(box, *(entry(tmp_path, name) for name in NAMES))
    with locked_claim(box, Progress()) as claim:
        claim.keep([NAMES[1], "another"])
    assert bring(box, cache) == [NAMES[1]]


def test_one_that_cannot_be_read_leaves_nothing_here(box: Toolbox, tmp_path: Path, cache: Path) -> None:
    put(box, entry(tmp_path, NAMES[0]))
    box.run(["chmod", "000", f"{CACHE}/{NAMES[0]}/dump"], doing="the test")
    try:
        with pytest.raises(ClusterError, match="Permission denied"):
            bring(box, cache)
    finally:
        box.run(["chmod", "700", f"{CACHE}/{NAMES[0]}/dump"], doing="the test")
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said(box: Toolbox, tmp_path: Path) -> None:
    put(box, entry(tmp_path, NAMES[0]))
    with pytest.raises(ClusterError, match=r"cannot be written to .*missing: No such file(.|\n)*golden.path"):
        bring(box, tmp_path / "missing")


def test_only_one_at_a_time_has_the_claim_and_others_say_that_they_wait(box: Toolbox) -> None:
    held, waits, order = threading.Event(), threading.Event(), list[str]()

    def second() -> None:
        held.wait(30)
        with locked_claim(box, Lines(lambda _: waits.set())):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with locked_claim(box, Lines(lambda _: pytest.fail("nobody else has it"))):
        held.set()
        assert waits.wait(30)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]


def test_a_run_inside_and_one_outside_exclude_each_other(tmp_path: Path) -> None:
    """A shell of this machine's, on a folder of its own, stands for the toolbox's on the claim."""
    cache, waits, order = GoldenCache(tmp_path, keep=1), threading.Event(), list[str]()

    def inside() -> None:
        with cache.locked(lambda _: waits.set()):
            order.append("inside")

    with cache.locked():
        outside = subprocess.Popen(
            ["/bin/sh", "-c", _LOCK, "sh", tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert outside.stdin is not None
        assert outside.stdout is not None
        assert outside.stdout.readline() == "waiting\n"
        order.append("the first inside")
    assert outside.stdout.readline() == "locked\n"
    other = threading.Thread(target=inside)
    other.start()
    assert waits.wait(30)
    order.append("outside")
    outside.stdin.close()
    other.join(30)
    assert order == ["the first inside", "outside", "inside"]
    assert outside.wait(30) == 0


def test_a_hold_that_was_lost_writes_and_removes_nothing_any_more(box: Toolbox, tmp_path: Path) -> None:
    put(box, entry(tmp_path, NAMES[0]))
    claim = GoldenClaim(box, Progress(), is_held=lambda: False)
    with pytest.raises(ClusterError, match=r"the hold on the golden dumps on PVC .* was lost"):
        claim.put_entry(entry(tmp_path, NAMES[1]))
    with pytest.raises(ClusterError, match="was lost"):
        claim.keep([])
    assert box.run(["ls", CACHE], doing="the test").split() == [NAMES[0]]


@pytest.fixture
def small_box(kubernetes: Kubernetes, tmp_path: Path) -> Iterator[Toolbox]:
    with small_claim(kubernetes, tmp_path / "volume", megabytes=40) as name:
        with toolbox(kubernetes.cluster, kubernetes.sandbox, name, ToolboxImage(IMAGE)) as running:
            yield running
        until(lambda: running.pod.name not in kubernetes.pods(kubernetes.sandbox, ""), "the pod is gone")


@needs_this_machine
def test_a_claim_that_is_full_is_said_before_anything_is_sent_and_forgetting_makes_room(
    small_box: Toolbox, tmp_path: Path
) -> None:
    first, second = (entry(tmp_path, name, secrets.token_bytes(20_000_000)) for name in NAMES)
    with locked_claim(small_box, Progress()) as claim:
        claim.put_entry(first)
        with pytest.raises(
            ClusterError, match=rf"{small_box.claim} is full: 2\d\.\d MB are free, and 36.8 MB are needed\n.*forget"
        ):
            claim.put_entry(second)
        with pytest.raises(ClusterError, match="is full"):
            claim.require_room(10_000_000)
        claim.keep([])
        claim.put_entry(second)
    assert small_box.run(["ls", CACHE], doing="the test").split() == [NAMES[1]]


@needs_this_machine
def test_a_volume_that_fills_up_meanwhile_leaves_nothing_half_there(
    small_box: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the room is not asked for stands for others, who fill the volume after it was."""
    monkeypatch.setattr(Toolbox, "require_room", lambda _box, _needed=0: None)
    with locked_claim(small_box, Progress()) as claim:
        with pytest.raises(ClusterError, match=r"No space left|Wrote only"):
            claim.put_entry(entry(tmp_path, NAMES[0], secrets.token_bytes(60_000_000)))
        assert small_box.run(["ls", "-A", CACHE], doing="the test").split() == [".lock"]
