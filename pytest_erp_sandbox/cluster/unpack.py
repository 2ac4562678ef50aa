"""Unpacking a tar stream in a pod, with constant memory; what arrived is compared with what was sent."""

from __future__ import annotations

import hashlib
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from ..errors import ClusterError
from .ahead import read_ahead
from .api import Cluster, PodReference
from .exec import Exec

__all__ = ["archive_of", "script", "unpack"]

_UNIT = 1 << 16
_BATCH = 128 * _UNIT
"""Bytes that are announced at once."""

_BLOCK = 512
"""Bytes; an archive is made of such."""

_AHEAD = 2
"""How much of it is read before it can be sent."""

_WHOLE, _DAMAGED = "whole\n", "what arrived is not what was sent"
"""What the receiving end says when all of it is unpacked, and when a checksum is another."""

_PATIENCE = 600.0
"""Seconds for unpacking what is still on its way when all is sent."""


def script(name: str) -> str:
    """A shell script of this package."""
    return (files(__package__) / f"{name}.sh").read_text(encoding="utf-8")


def unpack(
    cluster: Cluster, pod: PodReference, folder: str, pieces: Iterable[memoryview], on_sent: Callable[[int], None]
) -> None:
    """Unpack an archive into ``tree`` in a new folder of a pod; whoever wants it takes it from there.

    Args:
        cluster: where the pod is.
        pod: with tar, GNU's or busybox's.
        folder: is made.
        pieces: the archive.
        on_sent: is told how many bytes have been sent.

    Raises:
        ClusterError: it cannot be unpacked, or what arrived is not what was sent.
    """
    done = 0
    with (
        Exec(cluster, pod, ["sh", "-c", script("receive"), "sh", folder], stdin=True) as target,
        closing(read_ahead(_in_batches(pieces), _AHEAD)) as batches,
    ):
        for announcement, batch in batches:
            target.write(announcement)
            for begin in range(0, len(batch), _UNIT):
                target.write(batch[begin : begin + _UNIT])
                if said := target.said_so_far:
                    raise _failed(folder, pod, said)
                done += _UNIT
                on_sent(done)
        answer = _answer(target)
        if answer != _WHOLE or target.wait() != 0:
            raise _failed(folder, pod, answer or target.reason)


def archive_of(entry: Path) -> Iterator[memoryview]:
    """A tar archive of a file, or of a folder of files."""
    for path in [entry, *sorted(entry.rglob("*"))]:
        member = tarfile.TarInfo(str(path.relative_to(entry.parent)))
        member.mtime = int(path.stat().st_mtime)
        if path.is_dir():
            member.type, member.mode = tarfile.DIRTYPE, 0o700
            yield memoryview(member.tobuf(tarfile.GNU_FORMAT))
            continue
        member.size, member.mode = path.stat().st_size, 0o600
        yield memoryview(member.tobuf(tarfile.GNU_FORMAT))
        with path.open("rb") as content:
            while piece := content.read(_UNIT):
                yield memoryview(piece)
        yield memoryview(bytes(-member.size % _BLOCK))
    yield memoryview(bytes(2 * _BLOCK))


def _answer(target: Exec) -> str:
    """What the receiving end says. It may wait for bytes that were lost; and, where it failed, for stdin's end."""
    deadline = time.monotonic() + _PATIENCE
    while not target.said_so_far.endswith("\n") and target.listen():
        if time.monotonic() > deadline:
            return f"failed: {_DAMAGED}: it waits for more"
    return target.said_so_far


def _failed(folder: str, pod: PodReference, said: str) -> ClusterError:
    hint = "Is there room for two copies, and may the pod's user write there?"
    return ClusterError(
        f"an archive cannot be unpacked into {folder} of {pod}, where all else is as it was:"
        f" {said.removeprefix('failed: ').strip()}",
        hint="Run again." if said.startswith(f"failed: {_DAMAGED}") else hint,
    )


def _in_batches(pieces: Iterable[memoryview]) -> Iterator[tuple[bytes, bytes]]:
    """The bytes of ``pieces`` in batches, each with its announcement: how many units; at the end none, and a checksum.

    The last is filled up with zeros, as tar archives may be.
    """
    # Against what gets lost or mixed up, not against forgers: sha256sum costs busybox as much as all the rest.
    checksum = hashlib.md5(usedforsecurity=False)
    for batch in _gathered(pieces):
        checksum.update(batch)
        yield f"{len(batch) // _UNIT}\n".encode(), batch
    yield f"0 {checksum.hexdigest()}\n".encode(), b""


def _gathered(pieces: Iterable[memoryview]) -> Iterator[bytes]:
    size, gathered = 0, list[memoryview]()
    for piece in pieces:
        while size + len(piece) >= _BATCH:
            missing = _BATCH - size
            yield b"".join([*gathered, piece[:missing]])
            size, gathered, piece = 0, [], piece[missing:]
        size += len(piece)
        gathered.append(piece)
    if size:
        yield b"".join(gathered).ljust(-(-size // _UNIT) * _UNIT, b"\0")
