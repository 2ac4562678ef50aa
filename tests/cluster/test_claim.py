"""Golden dumps on a claim, from outside of the cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster.claim import bring, locked, put, remove
from pytest_erp_sandbox.cluster.toolbox import CACHE, Toolbox, ToolboxImage, toolbox

from .kubernetes import IMAGE, Kubernetes

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


def test_what_one_puts_there_another_brings_back_byte_by_byte(box: Toolbox, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    for number, name in enumerate(NAMES):
        put(box, entry(ours, name, bytes(range(256)) * (1 + 9000 * number)))
    assert bring(box, theirs) == list(NAMES)
    assert files(theirs) == files(ours)
    assert {path.name for path in theirs.iterdir()} == set(NAMES)
    assert (theirs / NAMES[0]).stat().st_mode & 0o777 == 0o700
    assert (theirs / NAMES[0] / "dump" / "1.dat.gz").stat().st_mode & 0o777 == 0o600


def test_what_is_here_is_not_brought_again(box: Toolbox, tmp_path: Path) -> None:
    put(box, entry(tmp_path / "ours", NAMES[0], b"theirs"))
    here = entry(tmp_path / "here", NAMES[0], b"here")
    assert bring(box, tmp_path / "here") == [NAMES[0]]
    assert (here / "dump" / "1.dat.gz").read_bytes() == b"here"


def test_half_made_ones_are_none(box: Toolbox, tmp_path: Path) -> None:
    box.run(["mkdir", "-p", f"{CACHE}/.making-x/{NAMES[0]}", f"{CACHE}/{NAMES[1]}"], doing="the test")
    assert bring(box, tmp_path) == []
    put(box, entry(tmp_path, NAMES[0]))
    assert box.run(["ls", "-A", CACHE], doing="the test").split() == [NAMES[0], NAMES[1]]


def test_removed_ones_are_gone(box: Toolbox, tmp_path: Path) -> None:
    for name in NAMES:
        put(box, entry(tmp_path / "ours", name))
    remove(box, [NAMES[0]])
    assert bring(box, tmp_path / "ours") == [NAMES[1]]


def test_one_that_cannot_be_read_leaves_nothing_here(box: Toolbox, tmp_path: Path) -> None:
    put(box, entry(tmp_path / "ours", NAMES[0]))
    box.run(["chmod", "000", f"{CACHE}/{NAMES[0]}/dump"], doing="the test")
    here = tmp_path / "here"
    here.mkdir()
    try:
        with pytest.raises(ClusterError, match="Permission denied"):
            bring(box, here)
    finally:
        box.run(["chmod", "700", f"{CACHE}/{NAMES[0]}/dump"], doing="the test")
    assert list(here.iterdir()) == []


def test_only_one_at_a_time_holds_the_lock_and_others_say_that_they_wait(box: Toolbox) -> None:
    held, waits, order = threading.Event(), threading.Event(), list[str]()

    def second() -> None:
        held.wait(30)
        with locked(box, lambda _: waits.set()):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with locked(box, lambda _: pytest.fail("nobody else has it")):
        held.set()
        assert waits.wait(30)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]
