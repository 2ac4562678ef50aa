"""Golden dumps on a claim, from outside of the cluster."""

from __future__ import annotations

import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster.claim import bring, locked, names_on_claim, put, remove
from pytest_erp_sandbox.cluster.toolbox import CACHE, Toolbox, ToolboxImage, toolbox

from .kubernetes import IMAGE, Kubernetes, until
from .town import needs_this_machine

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
    with locked(box, lambda _: None):
        put(box, entry(tmp_path, NAMES[0]))
    assert box.run(["ls", "-A", CACHE], doing="the test").split() == [".lock", NAMES[0], NAMES[1]]


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


@pytest.fixture
def small_box(kubernetes: Kubernetes, tmp_path: Path) -> Iterator[Toolbox]:
    """A toolbox with a claim on a volume of 40 MB."""
    core: Any = kubernetes.cluster.core
    name, where, size = f"small-{secrets.token_hex(3)}", tmp_path / "volume", {"storage": "40Mi"}
    volume: Any = {
        "metadata": {"name": name},
        "spec": {
            "capacity": size,
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": str(where)},
        },
    }
    spec: Any = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": size},
        "storageClassName": "",
        "volumeName": name,
    }
    where.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=40m,mode=0777", name, where], check=True)
    try:
        core.create_persistent_volume(volume)
        core.create_namespaced_persistent_volume_claim(kubernetes.sandbox, {"metadata": {"name": name}, "spec": spec})
        with toolbox(kubernetes.cluster, kubernetes.sandbox, name, ToolboxImage(IMAGE)) as running:
            yield running
        until(lambda: running.pod.name not in kubernetes.pods(kubernetes.sandbox, ""), "the pod is gone")
    finally:
        core.delete_persistent_volume(name)
        subprocess.run(["/bin/umount", "--lazy", where], check=True)


@needs_this_machine
def test_a_claim_that_is_full_is_said_before_anything_is_sent_and_forgetting_makes_room(
    small_box: Toolbox, tmp_path: Path
) -> None:
    name = small_box.claim
    small_box.require_room()
    put(small_box, entry(tmp_path, NAMES[0], secrets.token_bytes(20_000_000)))
    with pytest.raises(ClusterError, match=rf"{name} is full: 2\d\.\d MB are free, and 36.8 MB are needed\n.*forget"):
        put(small_box, entry(tmp_path, NAMES[1], secrets.token_bytes(20_000_000)))
    small_box.run(["sh", "-c", 'head -c 9000000 /dev/urandom >"$1/.making-x"', "sh", CACHE], doing="the test")
    with pytest.raises(ClusterError, match=f"{name} is full"):
        small_box.require_room()
    # What a killed run has left is nobody's, once the lock is had.
    with locked(small_box, lambda _: None):
        small_box.require_room()
        assert names_on_claim(small_box) == [NAMES[0]]
        remove(small_box, [NAMES[0]])
        put(small_box, tmp_path / NAMES[1])
    assert names_on_claim(small_box) == [NAMES[1]]


@needs_this_machine
def test_a_volume_that_fills_up_meanwhile_leaves_nothing_half_there(
    small_box: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the room is not asked for stands for others, who fill the volume after it was."""
    monkeypatch.setattr(Toolbox, "require_room", lambda _box, _needed=0: None)
    with pytest.raises(ClusterError, match=r"No space left|Wrote only"):
        put(small_box, entry(tmp_path, NAMES[0], secrets.token_bytes(60_000_000)))
    with locked(small_box, lambda _: None):
        assert small_box.run(["ls", "-A", CACHE], doing="the test").split() == [".lock"]
