"""Writing a report's file: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["require_writable", "write_whole"]


def require_writable(file: Path) -> None:
    """Make sure that a file can be written, before there is anything to be written; its folder is made.

    Raises:
        OSError: it cannot.
    """
    if file.is_dir():
        raise IsADirectoryError(None, "there is a folder of that name")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=file.parent):
        pass


def write_whole(file: Path, text: str) -> None:
    """Write a file beside the place, and rename it: whoever looks finds the old one, or the new.

    Raises:
        OSError: it cannot be written.
    """
    number, beside = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8", errors="replace") as writing:
            writing.write(text)
            os.fchmod(writing.fileno(), 0o666 & ~_umask())
        Path(beside).replace(file)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
