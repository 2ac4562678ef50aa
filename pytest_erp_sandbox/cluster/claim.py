"""Golden dumps on a claim (PVC), from outside of the cluster: brought here when needed, put there when made."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ClusterError
from ..progress import Progress
from .exec import Exec, kept_open
from .fetching import fetch_folder
from .toolbox import CACHE, OTHER_USER, Toolbox
from .unpack import archive_of, unpack

__all__ = ["GoldenClaim", "locked_claim"]

_ENTRY = re.compile(r"[0-9]{8}T[0-9.]+Z")
"""Names of golden dumps, as the cache makes them."""

# The very lock that a run inside takes, with the volume mounted. What a killed holder left half made goes first.
_LOCK = """
umask 077
exec 9>>"$1/.lock" || exit 1
flock -n 9 || { echo waiting; flock 9; }
rm -rf "$1"/.making-* "$1"/.removing-*
echo locked
exec 3>&1
cat >/dev/null
"""


class GoldenClaim:
    """The golden dumps on a claim, which nobody else has meanwhile.

    Args:
        toolbox: with the claim mounted, and locked.
        progress: is told how far what takes long is.
        is_held: tells whether the lock is still ours.

    Attributes:
        toolbox: the same.
    """

    def __init__(self, toolbox: Toolbox, progress: Progress, is_held: Callable[[], bool]) -> None:
        self.toolbox = toolbox
        self._progress = progress
        self._is_held = is_held
        self._used = _when_used(toolbox)

    @property
    def names(self) -> list[str]:
        """The names of all that is there, damaged ones and another version's among them."""
        return sorted(self._used)

    def require_room(self, needed: int = 0) -> None:
        """Stop where another one of ``needed`` bytes could not be put.

        Raises:
            ClusterError: there is no room for it, or the volume cannot be written.
        """
        self.toolbox.require_room(needed)

    def bring(self, cache: Path) -> None:
        """Bring each that is not in the cache here yet; with that locked.

        Raises:
            ClusterError: one cannot be read to its end, or not be written here.
        """
        for name, used in sorted(self._used.items()):
            folder = cache / name
            if folder.exists():
                used = max(used, int(folder.stat().st_mtime))
            else:
                what = f"golden dump {name}"
                with self._progress.step(f"bringing {what} from {self.toolbox.place}", "files") as on_progress:
                    fetch_folder(self.toolbox, CACHE, name, cache, what, on_progress)
            # It is pruned by when it was used last, here or there, and not by when it was brought.
            os.utime(folder, (used, used))

    def put_entry(self, entry: Path) -> None:
        """Put one there that is not there yet, whole or not at all.

        Raises:
            ClusterError: there is no room, or what arrived is not what was sent.
        """
        if entry.name in self._used:
            return
        toolbox = self.toolbox
        self.require_room(sum(file.stat().st_size for file in entry.rglob("*")))
        with (
            toolbox.folder() as making,
            self._progress.step(f"putting golden dump {entry.name} on {toolbox.place}") as on_progress,
        ):
            folder = f"{making.path}/arriving"
            unpack(toolbox.cluster, toolbox.pod, folder, archive_of(entry), lambda size: on_progress(0, size))
            self._require_held()
            toolbox.run(["mv", f"{folder}/tree/{entry.name}", CACHE], doing="putting a golden dump there")
            self._used[entry.name] = int(entry.stat().st_mtime)

    def keep(self, names: Collection[str]) -> None:
        """Remove all others.

        Raises:
            ClusterError: they cannot be removed.
        """
        for name in self.names:
            if name not in names:
                self._require_held()
                # Renamed first, so that one is there whole, or not at all.
                script = 'cd "$1" && mv "$2" ".removing-$2" && rm -rf ".removing-$2"'
                self.toolbox.run(["sh", "-c", script, "sh", CACHE, name], doing="removing a golden dump")
                del self._used[name]

    def _require_held(self) -> None:
        if not self._is_held():
            raise ClusterError(
                f"the hold on the golden dumps on {self.toolbox.place} was lost, and another run may have them by now",
                hint="Was the network cut? Run again.",
            )


@contextmanager
def locked_claim(toolbox: Toolbox, progress: Progress) -> Iterator[GoldenClaim]:
    """Hold the golden dumps on the claim; the hold ends with this program.

    Raises:
        ClusterError: the volume cannot be written, or another user's run has the lock's file.
    """
    with Exec(toolbox.cluster, toolbox.pod, ["sh", "-c", _LOCK, "sh", CACHE], stdin=True) as lock:
        told = False
        while "locked" not in lock.said_so_far:
            if not lock.listen():
                raise ClusterError(
                    f"the golden dumps on {toolbox.place} cannot be locked: {lock.reason}", hint=OTHER_USER
                )
            if not told and "waiting" in lock.said_so_far:
                progress.say("waiting for the golden dumps on the claim: another run is making one")
                told = True
        with kept_open(lock) as is_held:
            yield GoldenClaim(toolbox, progress, is_held)


def _when_used(toolbox: Toolbox) -> dict[str, int]:
    """All golden dumps there, and when each was used last (seconds since the epoch)."""
    script = 'cd "$1" && for each in [0-9]*Z; do if [ -d "$each" ]; then stat -c "%Y %n" "$each"; fi; done'
    answer = toolbox.run(["sh", "-c", script, "sh", CACHE], doing="listing golden dumps")
    found = (line.partition(" ") for line in answer.splitlines())
    return {name: int(used) for used, _, name in found if _ENTRY.fullmatch(name)}
