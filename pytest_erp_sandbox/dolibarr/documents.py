"""Documents of a Dolibarr that is served here: a folder of its own, as it was before each scenario."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import AgentError
from ..listing import Entry, Listing, Verb, differences, read_entry, steps_back

__all__ = ["LocalDocuments"]

_LOCK = b"install.lock"
"""Keeps Dolibarr's installer from running: no document, and nothing that is put back."""

_FEW = 5


class LocalDocuments:
    """The documents of one ERP, which may be changed as it likes.

    Args:
        folder: where they will be; made here.
        given: what they begin with, copied, and only ever read; None for nothing.

    Raises:
        AgentError: they cannot be copied, or a link in them leads out of their folder.
    """

    def __init__(self, folder: Path, given: Path | None) -> None:
        self._folder = folder
        self._given = given
        try:
            if given is None:
                folder.mkdir()
            else:
                shutil.copytree(given, folder, symlinks=True)
            (folder / os.fsdecode(_LOCK)).touch()
            self._golden = _listing(folder)
        except OSError as error:
            raise AgentError(
                f"the documents in {given} (sandbox.erp.documents) cannot be copied: {_reason(error)}"
            ) from None
        self._refuse_links_out()

    def put_back(self) -> int:
        """Put back what was added, changed or removed since the beginning; what is as it was is only looked at.

        Returns:
            How many steps it took.

        Raises:
            AgentError: they are not what they were.
        """
        try:
            steps = steps_back(self._golden, _listing(self._folder))
            for verb, path in steps:
                self._take(verb, os.fsdecode(path))
            found = _listing(self._folder) if steps else self._golden
        except OSError as error:
            raise AgentError(f"the documents of the ERP cannot be put back: {_reason(error)}") from None
        if wrong := differences(self._golden, found):
            shown = ", ".join(repr(os.fsdecode(path)) for path in wrong[:_FEW])
            raise AgentError(
                f"{len(wrong)} of the ERP's documents are not what they were, although they were put back: {shown}",
                hint=f"Was {self._given} (sandbox.erp.documents) changed meanwhile? Run again.",
            )
        self._golden = found
        return len(steps)

    def _take(self, verb: Verb, path: str) -> None:
        here = self._folder / path
        if verb is Verb.REMOVE:
            if here.is_dir() and not here.is_symlink():
                shutil.rmtree(here)
            else:
                here.unlink()
            return
        assert self._given is not None  # nothing was there that could have to be made again
        golden = self._given / path
        if verb is Verb.MAKE:
            here.mkdir()
        elif verb is Verb.COPY:
            here.unlink(missing_ok=True)
            shutil.copy2(golden, here, follow_symlinks=False)
        else:
            shutil.copystat(golden, here)

    def _refuse_links_out(self) -> None:
        folder = os.path.realpath(self._folder)
        for path, entry in self._golden.items():
            if not entry.target:
                continue
            leads_to = os.path.realpath(self._folder / os.fsdecode(path))
            if os.path.commonpath([folder, leads_to]) != folder:
                raise AgentError(
                    f"a link in {self._given} (sandbox.erp.documents) leads out of it: {os.fsdecode(path)!r}, to"
                    f" {os.fsdecode(entry.target)!r}",
                    hint="What the ERP writes there would be changed for good.",
                )


def _listing(folder: Path) -> Listing:
    return dict(_entries(os.fsencode(folder), b""))


def _entries(folder: bytes, below: bytes) -> Iterator[tuple[bytes, Entry]]:
    with os.scandir(folder) as found:
        for each in found:
            path = below + each.name
            if path == _LOCK:
                continue
            entry = read_entry(each)
            yield path, entry
            if entry.is_folder:
                yield from _entries(each.path, path + b"/")


def _reason(error: OSError) -> str:
    """The first of what went wrong: copying a tree gathers all of it."""
    first = error.args[0][0][2] if isinstance(error, shutil.Error) and isinstance(error.args[0], list) else error
    return str(first)
