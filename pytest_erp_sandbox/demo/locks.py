"""Locks between processes that the kernel releases when their holder is gone, however it ended."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

__all__ = ["exclusive", "shared", "taken"]


def shared(path: Path) -> BinaryIO:
    """Wait until nobody has ``path`` exclusively; closing the file gives the lock back.

    Programs that are started meanwhile do not inherit it.
    """
    return _locked(path, fcntl.LOCK_SH)


def exclusive(path: Path) -> BinaryIO:
    """Wait until nobody else has ``path``; closing the file gives the lock back."""
    return _locked(path, fcntl.LOCK_EX)


def taken(path: Path) -> bool:
    """Whether somebody has ``path``."""
    try:
        _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB).close()
    except BlockingIOError:
        return True
    return False


def _locked(path: Path, how: int) -> BinaryIO:
    file = path.open("ab")
    try:
        fcntl.flock(file, how)
    except BaseException:
        file.close()
        raise
    return file
