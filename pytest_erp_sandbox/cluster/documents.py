"""Documents: folders of prod's pod, streamed into the sandbox's pod, tar to tar, and swapped in when whole."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..errors import ClusterError, NotASandboxError, SettingsError
from .api import Cluster, PodReference, ask, refuse_prods
from .exec import Exec, run_in_pod
from .tarstream import CheckedTar
from .unpack import script, unpack

__all__ = [
    "MARKER",
    "ProdDocuments",
    "SandboxDocuments",
    "adopt_documents",
    "refuse_scattered",
    "require_marker_of",
    "sh",
    "sh_command",
    "sync_documents",
]

MARKER = ".erp-sandbox"
"""In a sandbox's documents folder: says whose it is. Without it nothing there is ever replaced or removed."""

OnProgress = Callable[[int, int], None]

_WITNESS = ".erp-sandbox-witness-"
"""The names of files that are in the sandbox's folder for a moment, to see whether they are in prod's."""

_OWN_VOLUME = "Let the sandbox's ERP have a volume of its own."

_ATTEMPTS = 3
_CHANGED = re.compile(r"changed as we read it|removed before we read it|File shrank|short read")
"""What GNU tar and busybox tar say when prod's ERP wrote meanwhile."""


@dataclass(frozen=True)
class _Documents:
    pod: PodReference
    path: str
    folders: tuple[str, ...] = ("mycompany",)

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or self.path.strip("/") == "" or ".." in self.path.split("/"):
            raise SettingsError(f"a documents folder is an absolute path, and not / itself: {self.path}")
        for folder in self.folders:
            if not folder or "/" in folder or folder.startswith((".", "-")):
                raise SettingsError(f"not the name of a folder of documents: {folder!r}")

    def __str__(self) -> str:
        return f"{self.path} of {self.pod}"


@dataclass(frozen=True)
class ProdDocuments(_Documents):
    """Prod's documents; only ever read.

    Attributes:
        pod: one of prod's ERP.
        path: the ERP's data root there, such as ``/var/www/documents``.
        folders: what is copied of it.
    """


@dataclass(frozen=True)
class SandboxDocuments(_Documents):
    """A sandbox's documents.

    Attributes:
        pod: one of the sandbox's ERP.
        path: the ERP's data root there.
        folders: what is replaced in it.
        owner: what the marker says: whose documents they are, such as ``Deployment erp-sandbox/dolibarr``.
    """

    owner: str = field(kw_only=True)


def adopt_documents(
    cluster: Cluster, sandbox: SandboxDocuments, prods: Collection[str], prod: ProdDocuments | None = None
) -> None:
    """Mark a folder as the documents of ``sandbox.owner``.

    Args:
        cluster: where it is.
        sandbox: the documents.
        prods: prod's namespaces, in which nothing is ever marked.
        prod: prod's documents, if it has any: they are never marked, wherever they are mounted.

    Raises:
        NotASandboxError: it is in prod's namespace, is prod's or shares files with it, or is marked as somebody else's.
        ClusterError: the folder is not there, or cannot be written, or each pod has another.
    """
    refuse_prods(sandbox, sandbox.pod.namespace, prods, "written")
    refuse_scattered(cluster, sandbox)
    if prod is not None:
        _refuse_same(cluster, prod, sandbox)
    marked = _marker(cluster, sandbox)
    if marked not in ("", sandbox.owner):
        raise NotASandboxError(f"{sandbox} is marked as {marked}'s, not {sandbox.owner}'s; it was left so")
    script = 'cd -- "$1" && printf "%s\\n" "$2" >"$3"'
    sh(cluster, sandbox, script, sandbox.path, sandbox.owner, MARKER, doing="marking the documents")


def sync_documents(
    cluster: Cluster, prod: ProdDocuments, sandbox: SandboxDocuments, prods: Collection[str], on_progress: OnProgress
) -> int:
    """Copy prod's documents into the sandbox: beside what is there, checked, and swapped in as a whole.

    Until the swap, whatever happens, the sandbox has its old documents. Nobody else may sync the same sandbox
    meanwhile: hold its lease.

    Args:
        cluster: where both are.
        prod: where from; the same folders are replaced in the sandbox.
        sandbox: where to.
        prods: prod's namespaces, in which nothing is ever written.
        on_progress: is told how many files, folders and links, and how many bytes have passed.

    Returns:
        How many files, folders and links there are.

    Raises:
        NotASandboxError: the sandbox's folder is not marked as its own, or is prod's, or one is in the other.
        ClusterError: either end failed, what arrived is not what was sent, an entry would lead out of its folder, or
            one pod's documents are not all of them.
    """
    refuse_prods(sandbox, sandbox.pod.namespace, prods, "written")
    for place in (prod, sandbox):
        refuse_scattered(cluster, place)
    _refuse_same(cluster, prod, sandbox)
    require_marker_of(sandbox, _marker(cluster, sandbox))
    for attempt in range(1, _ATTEMPTS + 1):
        sh(cluster, sandbox, script("tidy"), sandbox.path, doing="tidying up the documents")
        try:
            return _sync(cluster, prod, sandbox, on_progress)
        except _ChangedMeanwhileError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


class _ChangedMeanwhileError(ClusterError):
    """Prod's ERP wrote into what was being read."""


def _sync(cluster: Cluster, prod: ProdDocuments, sandbox: SandboxDocuments, on_progress: OnProgress) -> int:
    run = secrets.token_hex(4)
    incoming, old = f".erp-sandbox-incoming-{run}", f".erp-sandbox-old-{run}"
    with Exec(cluster, prod.pod, sh_command(script("send"), prod.path, *prod.folders)) as source:
        archive = CheckedTar(source.output(), prod.folders)

        def whole() -> Iterator[memoryview]:
            yield from archive
            _require_success(source, prod)
            if not archive.is_complete:
                raise ClusterError(f"what {prod.pod} sent has no end; the sandbox's documents are as they were")

        unpack(
            cluster, sandbox.pod, f"{sandbox.path}/{incoming}", whole(), lambda size: on_progress(archive.entries, size)
        )
    sh(cluster, sandbox, script("swap"), sandbox.path, incoming, old, *prod.folders, doing="swapping documents in")
    return archive.entries


def _require_success(source: Exec, prod: ProdDocuments) -> None:
    code = source.wait()
    if code == 0:
        return
    failed = f"tar in {prod.pod} failed (exit code {code}): {source.reason}"
    if code == 1 and _CHANGED.search(source.said):
        raise _ChangedMeanwhileError(failed, hint="Prod's ERP wrote meanwhile, each time: run again at a quieter hour.")
    raise ClusterError(failed, hint="See documents.path and documents.folders; tar must be in prod's image.")


def refuse_scattered(cluster: Cluster, place: _Documents) -> None:
    """Stop where the pod is one of several of a StatefulSet, and its documents are on a volume of its own.

    Raises:
        ClusterError: they are.
    """
    pod = place.pod
    found = ask(
        cluster.core.list_namespaced_pod,
        pod.namespace,
        field_selector=f"metadata.name={pod.name}",
        doing=f"looking at {pod} (verb list)",
    )
    owners = ((each, owner) for each in found.items for owner in each.metadata.owner_references or ())
    for each, owner in ((each, owner.name) for each, owner in owners if owner.kind == "StatefulSet"):
        name = f"StatefulSet {pod.namespace}/{owner}"
        read = cluster.apps.read_namespaced_stateful_set
        spec = ask(read, owner, pod.namespace, doing=f"reading {name} (verb get)").spec
        own = {template.metadata.name for template in spec.volume_claim_templates or ()}
        if spec.replicas > 1 and own & {_volume(each, place, folder) for folder in place.folders}:
            raise ClusterError(
                f"{name} has {spec.replicas} pods, and each has a volume of its own (volumeClaimTemplates):"
                f" {place} are not all of its documents; nothing was changed",
                hint="Let its pods have one volume in common for the documents, or let it have one pod.",
            )


def _volume(pod: Any, place: _Documents, folder: str) -> str | None:
    """The name of the volume that a folder of the documents is on, if it is on any."""
    path = f"{place.path.rstrip('/')}/{folder}/"
    mounts = {
        mount.mount_path.rstrip("/") + "/": mount.name
        for container in pod.spec.containers
        if place.pod.container in (None, container.name)
        for mount in container.volume_mounts or ()
    }
    return mounts.get(max((mount for mount in mounts if path.startswith(mount)), key=len, default=""))


def _refuse_same(cluster: Cluster, prod: ProdDocuments, sandbox: SandboxDocuments) -> None:
    """One volume can be mounted in two places: the folders themselves say which they are.

    What is above a mount no pod can see: whether prod mounts a folder that is deep in the sandbox's (by ``subPath``)
    is not known, but for the folders that are replaced. Two that look like one are told apart where a marker allows it.
    """
    prods, sandboxes = _whereabouts(cluster, prod), _whereabouts(cluster, sandbox)
    shared = prods.shared_with(sandboxes)
    prods_marker = _marker(cluster, prod)
    if shared and _marker(cluster, sandbox) == sandbox.owner and not prods_marker:
        shared = _really_shared(cluster, prod, sandbox)
    if shared and prods.itself.name == sandboxes.itself.name:
        raise NotASandboxError(
            f"{sandbox} is the very folder of prod's documents, {prod}, or looks so; nothing was changed",
            hint=f"{_OWN_VOLUME} If it has one (on NFS, and on clones, folders look alike), say so: write"
            f" {sandbox.owner!r} into {MARKER} in that folder, and run again. Then it is proved by a file.",
        )
    if shared:
        raise NotASandboxError(
            f"{sandbox} and prod's documents, {prod}, share files: one is in the other; nothing was changed",
            hint=_OWN_VOLUME,
        )
    if prods_marker:
        raise NotASandboxError(f"{prod}, which should be prod's, is marked as the documents of {prods_marker}")


def _really_shared(cluster: Cluster, prod: ProdDocuments, sandbox: SandboxDocuments) -> set[tuple[_Folder, _Folder]]:
    """Those of the folders of the same name that are not proved to be on two file systems.

    A file in the sandbox's own folder, which is marked, is not in prod's of that name: so another file system has that
    name, too, as NFS (which has none), XFS (which has its device's) and clones of volumes do. No cache can hide the
    file: it has a name that nobody has looked for before.
    """
    witness = f"{_WITNESS}{secrets.token_hex(8)}"
    sh(cluster, sandbox, 'cd -- "$1" && : >"$2"', sandbox.path, witness, doing="writing a file to be looked for")
    try:
        prods, sandboxes = _whereabouts(cluster, prod, witness), _whereabouts(cluster, sandbox, witness)
    finally:
        sh(cluster, sandbox, 'cd -- "$1" && rm -f -- "$2"', sandbox.path, witness, doing="removing that file")
    shared, ours, theirs = prods.shared_with(sandboxes), sandboxes.itself, prods.itself
    if ours.name != theirs.name or not ours.is_seen or any(each.is_seen for each in prods.folders | prods.above):
        return shared
    return {pair for pair in shared if (pair[0].device, pair[1].device) != (theirs.device, ours.device)}


@dataclass(frozen=True)
class _Folder:
    """A folder, as a pod sees it.

    Attributes:
        name: its file system's name, and its number there.
        device: the number of its file system in this pod.
        is_seen: whether what was looked for is there.
    """

    name: str
    device: str
    is_seen: bool


@dataclass(frozen=True)
class _Whereabouts:
    """Where documents are.

    Attributes:
        itself: the documents' folder.
        folders: it, and those that are copied or replaced in it.
        above: those that it is in, up to its mount.
    """

    itself: _Folder
    folders: frozenset[_Folder]
    above: frozenset[_Folder]

    def shared_with(self, other: _Whereabouts) -> set[tuple[_Folder, _Folder]]:
        """Folders of the same name, of which at least one is copied or replaced."""
        pairs = {*product(self.folders, other.folders | other.above), *product(self.above, other.folders)}
        return {(ours, theirs) for ours, theirs in pairs if ours.name == theirs.name}


def _whereabouts(cluster: Cluster, place: _Documents, witness: str = "") -> _Whereabouts:
    said = sh(cluster, place, script("where"), place.path, witness, *place.folders, doing="looking for documents")
    folders, above = ([_folder(line) for line in part.splitlines()] for part in said.split("\n\n"))
    return _Whereabouts(folders[0], frozenset(folders), frozenset(above))


def _folder(line: str) -> _Folder:
    system, number, device, seen = line.split(" ")
    return _Folder(f"{system} {number}", device, seen == "seen")


def require_marker_of(sandbox: SandboxDocuments, marked: str) -> None:
    """Stop unless what a folder's marker says is whose documents they are to be.

    Raises:
        NotASandboxError: it says something else, or nothing.
    """
    if marked != sandbox.owner:
        found = f"is marked as {marked}'s" if marked else f"has no marker ({MARKER})"
        raise NotASandboxError(
            f"{sandbox} {found}, so it is not known to be {sandbox.owner}'s; nothing was changed",
            hint="If it is, mark it: `erp-sandbox adopt`.",
        )


def _marker(cluster: Cluster, place: _Documents) -> str:
    script = 'cd -- "$1" && if [ -f "$2" ]; then cat -- "$2"; fi'
    return sh(cluster, place, script, place.path, MARKER, doing="looking for the documents' marker").strip()


def sh(cluster: Cluster, place: _Documents, script: str, *arguments: str, doing: str) -> str:
    """Run a shell script where documents are, and give back what it wrote.

    Raises:
        ClusterError: it failed.
    """
    return run_in_pod(cluster, place.pod, sh_command(script, *arguments), doing=doing)


def sh_command(script: str, *arguments: str) -> Sequence[str]:
    """A shell script with its arguments, as a command."""
    return ["sh", "-c", script, "sh", *arguments]
