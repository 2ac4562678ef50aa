"""A tar stream that passes through, each entry looked at: nothing in it may lead out of its folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ..errors import ClusterError

__all__ = ["CheckedTar"]

_BLOCK = 512
_LONGEST_NAME = 1 << 16
"""Bytes of a long name that are read into memory; PATH_MAX is 4096."""

_FILES = frozenset(b"0\0")
_HARD_LINK, _SYMLINK, _FOLDER, _LONG_LINK, _LONG_NAME = b"125KL"


class CheckedTar:
    """A tar archive, as it streams by, in the form that GNU tar and busybox tar both write and read.

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
        self._links: set[bytes] = set()
        self._long: dict[int, bytes] = {}
        self._begun = bytearray()  # of a header, or of a long name
        self._wanted = _BLOCK
        self._collecting = 0  # the kind of long name that is being read; 0 for a header
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
                    self._long[self._collecting] = whole.rstrip(b"\0")
                    self._collecting = 0
                else:
                    self._read_header(whole)
        return position

    def _read_header(self, header: bytes) -> None:
        if not any(header):
            self._empty_blocks += 1
            self.is_complete = self._empty_blocks == 2
            return
        self._empty_blocks = 0
        if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise ClusterError("what prod's pod sent is not a tar archive", hint="Does its tar write to stdout?")
        kind, size = header[156], _number(header[124:136])
        if kind in (_LONG_NAME, _LONG_LINK):
            if size > _LONGEST_NAME:
                raise ClusterError(f"the archive has a name of {size} bytes")
            self._collecting, self._wanted = kind, _whole_blocks(size)
            return
        prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else b""
        name = self._long.pop(_LONG_NAME, None) or b"/".join(filter(None, (prefix, _text(header[:100]))))
        target = self._long.pop(_LONG_LINK, None) or _text(header[157:257])
        self._check(kind, name, target)
        self._passing = _whole_blocks(size) if kind in _FILES else 0
        self.entries += 1

    def _check(self, kind: int, name: bytes, target: bytes) -> None:
        path = _path(name)
        if not path or path[0] not in self._folders or (len(path) == 1 and kind != _FOLDER):
            raise _refused("its name leads out of the folder", name)
        if any(b"/".join(path[:depth]) in self._links for depth in range(1, len(path) + 1)):
            raise _refused("it lies beyond a symbolic link of the same archive", name)
        if kind == _SYMLINK:
            # No .. after a name: what is before it may be another link, and .. of that is anywhere.
            up, rest = _split_up(target)
            if target.startswith(b"/") or up > len(path) - 2 or b".." in rest:
                raise _refused(f"it points out of the folder, to {_shown(target)}", name)
            self._links.add(b"/".join(path))
        elif kind == _HARD_LINK:
            if (_path(target) or [])[:1] != path[:1]:
                raise _refused(f"it is a link out of the folder, to {_shown(target)}", name)
        elif kind not in _FILES and kind != _FOLDER:
            raise _refused(f"it is neither a file, a folder nor a link (type {chr(kind)!r})", name)


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


def _number(field: bytes) -> int:
    """Octal digits, or, with the first bit set, a binary number (from 8 GB on)."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise ClusterError("what prod's pod sent is not a tar archive") from None


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
