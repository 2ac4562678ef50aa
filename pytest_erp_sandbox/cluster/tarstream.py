"""A tar stream that passes through, each entry looked at: nothing in it may lead out of its folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from ..errors import ClusterError

__all__ = ["CheckedTar"]

_BLOCK = 512
_LONGEST_NAME = 1 << 16
"""Bytes of a long name that are read into memory; PATH_MAX is 4096."""

_FILES = frozenset(b"0\0")
_HARD_LINK, _SYMLINK, _FOLDER, _LONG_LINK, _LONG_NAME = b"125KL"

_MAGIC = b"ustar  \0"
"""Of the one form that both write; what stands in another's headers, the programs that unpack do not agree on."""

_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")


class CheckedTar:
    """A tar archive, as it streams by, in the form that GNU tar and busybox tar both write and read.

    Whoever can write in prod's pod can send any bytes: what one of those programs could read in another way than this
    does is refused, and not only what leads out.

    Memory does not grow with the archive, but for the names of its symbolic links.

    Args:
        pieces: the archive, in pieces of any size.
        folders: what it may have at its top; links may not lead from one into another.

    Attributes:
        entries: how many have gone by.
        is_complete: whether the archive's end has gone by.
    """

    def __init__(self, pieces: Iterable[bytes | memoryview], folders: Collection[str]) -> None:
        self.entries = 0
        self.is_complete = False
        self._pieces = pieces
        self._folders = [folder.encode() for folder in folders]
        self._links: dict[bytes, bytes] = {}  # where each points
        self._long: dict[int, bytes] = {}
        self._begun = bytearray()  # of a header, or of a long name
        self._wanted = _BLOCK
        self._collecting = 0  # the kind of long name that is being read; 0 for a header
        self._length = 0  # of that
        self._passing = 0  # bytes of a file's content that are still to come
        self._empty_blocks = 0

    def __iter__(self) -> Iterator[memoryview]:
        """The same archive, each piece only after what it begins was found harmless.

        Raises:
            ClusterError: an entry would lead out, or is neither file, folder nor link; or this is no tar archive.
        """
        for piece in self._pieces:
            view = memoryview(piece)
            # Whatever follows the end has not been looked at.
            yield view[: self._look_at(view)]

    def _look_at(self, piece: memoryview) -> int:
        position = 0
        while position < len(piece) and not self.is_complete:
            if self._passing:
                passed = min(self._passing, len(piece) - position)
                self._passing -= passed
                position += passed
                continue
            taken = piece[position : position + self._wanted - len(self._begun)]
            self._begun += taken
            position += len(taken)
            if len(self._begun) == self._wanted:
                whole, self._begun, self._wanted = bytes(self._begun), bytearray(), _BLOCK
                if self._collecting:
                    self._long[self._collecting] = _long_name(whole, self._length)
                    self._collecting = 0
                else:
                    self._read_header(whole)
        return position

    def _read_header(self, header: bytes) -> None:
        if not any(header) and not self._long:
            self._empty_blocks += 1
            self.is_complete = self._empty_blocks == 2
            return
        if header[257:265] != _MAGIC or _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise _no_archive("no header where one should be")
        # busybox takes a header without a name for the archive's end.
        if self._empty_blocks or not header[0] or any(header[345:]):
            raise _no_archive("a header that may be read in more than one way")
        kind, size = header[156], _size(header[124:136])
        if kind in (_LONG_NAME, _LONG_LINK):
            if size > _LONGEST_NAME:
                raise ClusterError(f"the archive has a name of {size} bytes")
            self._collecting, self._length, self._wanted = kind, size, _whole_blocks(size)
            return
        name = self._long.pop(_LONG_NAME, None) or _text(header[:100])
        target = self._long.pop(_LONG_LINK, None) or _text(header[157:257])
        self._check(kind, name, target)
        if size and kind not in _FILES:
            raise _refused("it has content, and is no file", name)
        self._passing = _whole_blocks(size)
        self.entries += 1

    def _check(self, kind: int, name: bytes, target: bytes) -> None:
        path = _path(name)
        if not path or path[0] not in self._folders or (len(path) == 1 and kind != _FOLDER):
            raise _refused("its name leads out of the folder", name)
        if _beyond(path, self._links):
            raise _refused("it lies beyond a symbolic link of the same archive", name)
        if kind == _SYMLINK:
            self._take_link(path, name, target)
        elif kind == _HARD_LINK:
            there = _path(target) or []
            if there[:1] != path[:1]:
                raise _refused(f"it is a link out of the folder, to {_shown(target)}", name)
            if _beyond(there[:-1], self._links):
                raise _refused(f"it is a link to what lies beyond a symbolic link, {_shown(target)}", name)
            # One more name for a symbolic link is one more symbolic link, and may be in a folder less deep.
            if (points_to := self._links.get(b"/".join(there))) is not None:
                self._take_link(path, name, points_to)
        elif kind not in _FILES and kind != _FOLDER:
            raise _refused(f"it is neither a file, a folder nor a link (type {chr(kind)!r})", name)
        elif target:
            # busybox makes a hard link of it.
            raise _refused(f"it points to {_shown(target)}, and is no link", name)
        if kind != _FOLDER and name.endswith(b"/"):
            # GNU tar makes a folder of it, and takes what is in it for more of the archive.
            raise _refused("it is called as folders are, and is none", name)

    def _take_link(self, path: list[bytes], name: bytes, target: bytes) -> None:
        # No .. after a name: what is before it may be another link, and .. of that is anywhere.
        up, rest = _split_up(target)
        if target.startswith(b"/") or up > len(path) - 2 or b".." in rest:
            raise _refused(f"it points out of the folder, to {_shown(target)}", name)
        self._links[b"/".join(path)] = target


def _beyond(path: list[bytes], links: Collection[bytes]) -> bool:
    """Whether a path is a link, or goes through one."""
    return any(b"/".join(path[:depth]) in links for depth in range(1, len(path) + 1))


def _path(name: bytes) -> list[bytes] | None:
    """The parts of a relative path; None where it is absolute, or goes up."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    return None if name.startswith(b"/") or b".." in parts else parts


def _split_up(target: bytes) -> tuple[int, list[bytes]]:
    """How many levels a link goes up at its beginning, and what follows."""
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    up = next((index for index, part in enumerate(parts) if part != b".."), len(parts))
    return up, parts[up:]


def _refused(why: str, name: bytes) -> ClusterError:
    return ClusterError(
        f"prod's documents have {_shown(name)}, which was not copied: {why}; the sandbox's documents are as they were",
        hint="Remove it from prod's folder, or choose the folders (documents.folders) without it.",
    )


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="replace"))


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _long_name(whole: bytes, length: int) -> bytes:
    """A name that is ended by a NUL, as all of them are: what comes after one, some programs read, and some do not."""
    name, _, rest = whole.partition(b"\0")
    if not name or len(name) + 1 != length or any(rest):
        raise _no_archive("a long name that does not end where it should")
    return name


def _octal(field: bytes) -> int:
    if (digits := _OCTAL.fullmatch(field)) is None:
        raise _no_archive("something else where a number should be")
    return int(digits[1], 8)


def _size(field: bytes) -> int:
    """Octal digits, or, from 8 GB on, a binary number."""
    marked, number = field[:5], field[5:]
    return int.from_bytes(number, "big") if marked == b"\x80\0\0\0\0" else _octal(field)


def _no_archive(why: str) -> ClusterError:
    return ClusterError(
        f"what prod's pod sent is not a tar archive as GNU's tar and busybox's write it: {why}",
        hint="Is its tar one of these, and does it write to stdout?",
    )


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
