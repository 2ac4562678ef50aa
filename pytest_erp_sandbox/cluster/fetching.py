"""Bringing a folder from the toolbox's volume, as a tar stream: whole, or not at all."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import ClusterError
from ..progress import OnProgress
from .exec import Exec
from .toolbox import Toolbox

__all__ = ["fetch_folder"]

_PIECE = 1 << 16


def fetch_folder(
    toolbox: Toolbox, parent: str, name: str, to: Path, what: str, on_progress: OnProgress = lambda _done, _size: None
) -> None:
    """Bring a folder of plain files and folders.

    Args:
        toolbox: where it is.
        parent: the folder there that it is in.
        name: its own, there and here.
        to: the folder that it will be in; it is not there yet.
        what: what it is, for the error.
        on_progress: is told how many files and bytes have come.

    Raises:
        ClusterError: it cannot be read to its end, or not be written here; then nothing of it is here.
    """
    making = to / f".making-{name}-{secrets.token_hex(4)}"
    try:
        making.mkdir(mode=0o700)
        with Exec(toolbox.cluster, toolbox.pod, ["tar", "-C", parent, "-cf", "-", name]) as source:
            with tarfile.open(fileobj=_Stream(source.output()), mode="r|") as archive:
                for done, member in enumerate(archive):
                    on_progress(done, archive.offset)
                    _extract(archive, member, making, name, what)
            if source.wait():
                raise ClusterError(f"{what} cannot be read in {toolbox.pod}: {source.reason}")
        (making / name).rename(to / name)
    except tarfile.TarError as error:
        raise ClusterError(f"{what} did not come whole from {toolbox.pod}: {error}") from None
    except OSError as error:
        raise ClusterError(
            f"{what} cannot be written to {to}: {error.strerror or error}",
            hint="Make room, or set golden.path to a folder that you may write.",
        ) from None
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path, name: str, what: str) -> None:
    parts = Path(member.name).parts
    if parts[0] != name or ".." in parts:
        raise ClusterError(f"{what} has {member.name!r}, which leads out of it")
    path = to.joinpath(*parts)
    if member.isdir():
        path.mkdir(mode=0o700, exist_ok=True)
    elif (content := archive.extractfile(member)) is not None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(content, file, _PIECE)


class _Stream(io.RawIOBase):
    """Pieces as a file, as far as tarfile needs one."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        got = bytearray()
        while len(got) < size:
            if not self._rest:
                self._rest = next(self._pieces, memoryview(b""))
                if not self._rest:
                    break
            taken = self._rest[: size - len(got)]
            got += taken
            self._rest = self._rest[len(taken) :]
        return bytes(got)
