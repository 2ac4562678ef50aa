"""Files as they were and as they are, wherever they are, and the steps that put them back."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Entry", "Listing", "Step", "Verb", "differences", "read_entry", "read_listing", "steps_back"]


@dataclass(frozen=True)
class Entry:
    """A file, a folder or a symbolic link.

    Attributes:
        mode: what it is, and who may use it (``st_mode``).
        size: bytes.
        owner: user and group, by their numbers.
        modified: when its content was (``st_mtime``), which any program can set.
        changed: when anything of it was (``st_ctime``), which no program can set: equal, so is the content.
        target: where a link points.
    """

    mode: int
    size: int
    owner: bytes
    modified: bytes
    changed: bytes
    target: bytes = b""

    @property
    def kind(self) -> int:
        """What it is."""
        return stat.S_IFMT(self.mode)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)

    def is_copy_of(self, other: Entry) -> bool:
        """Whether it is what a copy of ``other`` is: the same but for the time of its making."""
        return self._lasting() == other._lasting()

    def _lasting(self) -> tuple[object, ...]:
        # A folder's size is its file system's affair; busybox copies times to the second, and none of links.
        size = 0 if self.is_folder else self.size
        modified = b"" if stat.S_ISLNK(self.mode) else self.modified.partition(b".")[0]
        return self.mode, size, self.owner, modified, self.target


Listing = Mapping[bytes, Entry]
"""Paths, each below a folder that is among them, and what is there."""


class Verb(StrEnum):
    """What is done to a path; the letters are those of ``cluster/put_back.sh``."""

    REMOVE = "r"
    MAKE = "m"
    """Make a folder."""
    COPY = "c"
    """Copy a file or a link from the golden copy."""
    SETTLE = "s"
    """Give a folder owner, mode and time of the golden copy's."""


Step = tuple[Verb, bytes]


def steps_back(golden: Listing, found: Listing) -> list[Step]:
    """What makes of the files that were found what they were.

    Args:
        golden: what was there.
        found: what is there.

    Returns:
        The steps, in order; empty where nothing was added, changed or removed.
    """
    # First of all, so that whatever is to be done in them may be done.
    settled = [
        path for path in sorted(golden) if golden[path].is_folder and _is_other_folder(golden[path], found, path)
    ]
    removed = set(_topmost(path for path in found if path not in golden or golden[path].kind != found[path].kind))
    missing = [path for path in sorted(golden) if path not in found or golden[path].kind != found[path].kind]
    made = [path for path in missing if golden[path].is_folder]
    changed = {path for path in golden if path in found and not golden[path].is_folder and golden[path] != found[path]}
    copied = sorted({path for path in missing if not golden[path].is_folder} | changed)
    # Last, and the deepest first: whatever is done in a folder changes its time.
    touched = {*settled, *made, *(_parent(path) for path in (*removed, *made, *copied))}
    return [
        *((Verb.SETTLE, path) for path in settled),
        *((Verb.REMOVE, path) for path in sorted(removed)),
        *((Verb.MAKE, path) for path in made),
        *((Verb.COPY, path) for path in copied),
        *((Verb.SETTLE, path) for path in sorted(touched & golden.keys(), reverse=True)),
    ]


def differences(golden: Listing, found: Listing) -> list[bytes]:
    """The paths at which ``found`` is no copy of ``golden``."""
    return sorted(
        path
        for path in golden.keys() | found.keys()
        if path not in golden or path not in found or not found[path].is_copy_of(golden[path])
    )


def read_entry(found: os.DirEntry[bytes]) -> Entry:
    """What is at a path on this machine.

    Raises:
        OSError: it went meanwhile.
    """
    status = found.stat(follow_symlinks=False)
    target = os.readlink(found.path) if stat.S_ISLNK(status.st_mode) else b""
    owner = f"{status.st_uid}:{status.st_gid}".encode()
    modified, changed = (b"%d.%09d" % divmod(time, 1_000_000_000) for time in (status.st_mtime_ns, status.st_ctime_ns))
    return Entry(status.st_mode, status.st_size, owner, modified, changed, target)


def read_listing(listed: bytes) -> Listing:
    """Read what ``cluster/list.sh`` writes.

    Raises:
        ValueError: it is cut off.
    """
    return dict(_entries(listed))


def _entries(listed: bytes) -> Iterator[tuple[bytes, Entry]]:
    rest = listed
    while rest:
        count, _, rest = rest.partition(b"\n")
        *lines, rest = rest.split(b"\n", int(count))
        *texts, rest = rest.split(b"\0", 2 * int(count))
        for line, path, target in zip(lines, texts[: int(count)], texts[int(count) :], strict=True):
            mode, size, owner, modified, changed = line.split(b"|")
            yield path, Entry(int(mode, 16), int(size), owner, modified, changed, target)


def _is_other_folder(golden: Entry, found: Listing, path: bytes) -> bool:
    return path in found and found[path].is_folder and not found[path].is_copy_of(golden)


def _topmost(paths: Iterator[bytes]) -> Iterator[bytes]:
    """Those that are not below another."""
    last: bytes | None = None
    for path in sorted(paths, key=lambda path: path.split(b"/")):
        if last is None or not path.startswith(last + b"/"):
            last = path
            yield path


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
