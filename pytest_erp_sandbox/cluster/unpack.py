"""Unpacking a tar stream in a pod, with constant memory, and a checksum of what arrived."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from importlib.resources import files

from ..errors import ClusterError
from .ahead import read_ahead
from .api import Cluster
from .exec import Exec, PodReference

__all__ = ["script", "unpack"]

_UNIT = 1 << 16
_UNITS = 32
"""What is announced to the receiving end at once: 2 MiB, the last filled up with zeros, as tar archives may be."""


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
    # Against what gets lost or mixed up, not against forgers: sha256sum costs busybox as much as all the rest.
    sent, done = hashlib.md5(usedforsecurity=False), 0
    with (
        Exec(cluster, pod, ["sh", "-c", script("receive"), "sh", folder], stdin=True) as target,
        closing(read_ahead(_in_units(pieces, sent.update), _UNITS)) as units,
    ):
        for unit in units:
            target.write(unit)
            if said := target.said_so_far:
                raise _failed(folder, pod, said)
            done += len(unit)
            on_sent(done)
        answer = b"".join(bytes(piece) for piece in target.output()).decode(errors="replace")
        if target.wait() != 0:
            raise _failed(folder, pod, answer or target.reason)
    if answer.split()[:1] != [sent.hexdigest()]:
        raise ClusterError(
            f"what arrived in {pod} is not what was sent; what was there is as it was", hint="Run again."
        )


def _failed(folder: str, pod: PodReference, said: str) -> ClusterError:
    return ClusterError(
        f"an archive cannot be unpacked into {folder} of {pod}, where all else is as it was:"
        f" {said.removeprefix('failed: ').strip()}",
        hint="Is there room for two copies, and may the pod's user write there?",
    )


def _in_units(pieces: Iterable[memoryview], note: Callable[[bytes], None]) -> Iterator[bytes]:
    """The bytes of ``pieces`` in units, each few of them announced by their number on a line; at the end, 0.

    Units, but not their announcements, are noted with ``note``.
    """
    rest = bytearray()
    units = 0

    def announced(unit: bytes) -> Iterator[bytes]:
        nonlocal units
        if units % _UNITS == 0:
            yield f"{_UNITS}\n".encode()
        units += 1
        note(unit)
        yield unit

    for piece in pieces:
        rest += piece
        while len(rest) >= _UNIT:
            yield from announced(bytes(rest[:_UNIT]))
            del rest[:_UNIT]
    if rest:
        yield from announced(bytes(rest).ljust(_UNIT, b"\0"))
    while units % _UNITS:
        yield from announced(bytes(_UNIT))
    yield b"0\n"
