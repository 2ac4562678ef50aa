"""The claim (PVC) that golden dumps are kept on: looked at before anything is begun."""

from __future__ import annotations

from ..errors import ClusterError
from .api import Cluster, ask

__all__ = ["require_usable"]

_WRITABLE = ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")


def require_usable(cluster: Cluster, namespace: str, claim: str) -> None:
    """Look at a claim before a pod is to mount it; one that waits for its first pod to be bound will do.

    Raises:
        ClusterError: it is not there, lost its volume, cannot be written, or is being deleted.
    """
    name = f"PVC {namespace}/{claim}"
    found = ask(
        cluster.core.read_namespaced_persistent_volume_claim, claim, namespace, doing=f"reading {name} (verb get)"
    )
    modes = found.spec.access_modes or []
    if not any(mode in _WRITABLE for mode in modes):
        raise ClusterError(
            f"{name} is {', '.join(modes)}: golden dumps cannot be written there",
            hint="Make a claim with ReadWriteOnce or ReadWriteMany (deploy/kubernetes/golden.yaml).",
        )
    if found.metadata.deletion_timestamp is not None:
        raise ClusterError(f"{name} is being deleted", hint="Make a new one, or name another in golden.claim.")
    if found.status.phase == "Lost":
        raise ClusterError(f"{name} has lost its volume", hint="Make a new one, or name another in golden.claim.")
