"""Documents as they were: a golden copy beside them in the sandbox's pod, from which changes are undone."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..errors import ClusterError
from ..listing import Listing, Step, differences, read_listing, steps_back
from .api import Cluster, refuse_prods
from .documents import SandboxDocuments, refuse_scattered, require_marker_of, sh, sh_command
from .exec import Exec
from .unpack import script

__all__ = ["keep_golden", "put_back"]

_ATTEMPTS = 2
"""What is in a folder that was closed shows only when it was opened again."""

_FEW = 5
_SYNC_THEM = "Sync them again: `erp-sandbox sync-documents`."


def keep_golden(cluster: Cluster, sandbox: SandboxDocuments) -> None:
    """Keep a copy of the documents as they are; ``put_back`` makes them so again.

    Raises:
        ClusterError: there is no room for it.
    """
    arguments = (sandbox.path, script("list"), *sandbox.folders)
    sh(cluster, sandbox, script("keep"), *arguments, doing="keeping a golden copy of the documents")


def put_back(cluster: Cluster, sandbox: SandboxDocuments, prods: Collection[str]) -> int:
    """Put back what was added, changed or removed in the documents since ``keep_golden``.

    What is as it was is only looked at. Nobody else may put the same documents back meanwhile: hold the lease.

    Args:
        cluster: where they are.
        sandbox: the documents.
        prods: prod's namespaces, in which nothing is ever written.

    Returns:
        How many steps it took; 0 where all was as it was.

    Raises:
        NotASandboxError: the folder is not marked as the sandbox's own, or is prod's.
        ClusterError: there is no golden copy, or it is one of other folders; they are not what they were; or one pod's
            are not all of them.
    """
    refuse_prods(sandbox, sandbox.pod.namespace, prods, "written")
    refuse_scattered(cluster, sandbox)
    golden, found = _look(cluster, sandbox)
    steps = steps_back(golden, found)
    if not steps:
        return 0
    for _ in range(_ATTEMPTS):
        found = _take(cluster, sandbox, steps_back(golden, found))
        if not differences(golden, found):
            _note_found(cluster, sandbox)
            return len(steps)
    raise _not_put_back(sandbox, differences(golden, found))


def _look(cluster: Cluster, sandbox: SandboxDocuments) -> tuple[Listing, Listing]:
    """What was there, and what is."""
    arguments = (sandbox.path, script("list"), *sandbox.folders)
    said = _bytes(sh(cluster, sandbox, script("look"), *arguments, doing="looking through the documents"))
    marker, size, listings = said.split(b"\n", 2)
    require_marker_of(sandbox, marker.decode(errors="replace"))
    golden = _read(sandbox, listings[: int(size)])
    if not golden:
        raise ClusterError(f"there is no golden copy of {sandbox} to put them back to", hint=_SYNC_THEM)
    # What was not kept would count as added since, and be removed.
    kept, wanted = {path for path in golden if b"/" not in path}, {_bytes(folder) for folder in sandbox.folders}
    if kept != wanted:
        raise ClusterError(
            f"the golden copy of {sandbox} has {_shown(kept)}, but documents.folders has {_shown(wanted)};"
            " nothing was changed",
            hint=_SYNC_THEM,
        )
    return golden, _read(sandbox, listings[int(size) :])


def _take(cluster: Cluster, sandbox: SandboxDocuments, steps: Sequence[Step]) -> Listing:
    """Take the steps; returns what is there then."""
    command = sh_command(script("put_back"), sandbox.path, sandbox.owner, script("list"), *sandbox.folders)
    said = b"".join(verb.encode() + path + b"\0" for verb, path in steps)
    with Exec(cluster, sandbox.pod, command, stdin=True) as running:
        running.write(f"{len(said)}\n".encode() + said)
        found = b"".join(map(bytes, running.output()))
        if running.wait():
            raise ClusterError(f"the documents cannot be put back in {sandbox}: {running.reason}", hint=_SYNC_THEM)
    return _read(sandbox, found)


def _read(sandbox: SandboxDocuments, listed: bytes) -> Listing:
    try:
        return read_listing(listed)
    except ValueError:
        raise ClusterError(f"a listing of the documents in {sandbox} is cut off", hint=_SYNC_THEM) from None


def _note_found(cluster: Cluster, sandbox: SandboxDocuments) -> None:
    """From now on the files that are there are those that have not been changed."""
    note = 'cd -- "$1/.erp-sandbox-golden" && mv found listing'
    sh(cluster, sandbox, note, sandbox.path, doing="noting what was put back")


def _not_put_back(sandbox: SandboxDocuments, wrong: Sequence[bytes]) -> ClusterError:
    return ClusterError(
        f"{len(wrong)} of the documents in {sandbox} are not what they were, although they were put back:"
        f" {_shown(wrong[:_FEW])}",
        hint=f"Does anything write there between scenarios? {_SYNC_THEM}",
    )


def _shown(paths: Collection[bytes]) -> str:
    return ", ".join(repr(path.decode(errors="replace")) for path in sorted(paths))


def _bytes(said: str) -> bytes:
    return said.encode(errors="surrogateescape")
