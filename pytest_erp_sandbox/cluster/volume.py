"""The claim (PVC) that golden dumps are kept on: looked at before anything is begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ClusterError
from .api import Cluster, ask, await_condition

__all__ = ["require_usable"]

_WRITABLE = ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")
_FORBIDDEN, _MISSING = 403, 404

_BOUND_WITHIN = 30.0
"""Seconds within which a volume that is there is bound to a new claim; the cluster looks every 15."""


def require_usable(
    cluster: Cluster, namespace: str, claim: str, on_wait: Callable[[str], None] = lambda _: None
) -> None:
    """Look at a claim before a pod is to mount it.

    One that is not bound will do where it has a storage class, which makes the volume, perhaps only for the first pod.
    Classes are the whole cluster's: where they may not be read, it is taken for granted that there is such a one.

    Args:
        cluster: where it is.
        namespace: where it is there.
        claim: its name.
        on_wait: is told that it is not bound yet.

    Raises:
        ClusterError: it is not there, lost its volume, cannot be written, or is being deleted; or it is not bound, and
            nothing makes a volume for it.
    """
    name = f"PVC {namespace}/{claim}"
    found = _read(cluster, namespace, claim)
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
    if found.status.phase == "Pending":
        has_maker, waits_for = _maker(cluster, found.spec.storage_class_name)
        on_wait(f"{name} is not bound yet: {waits_for}")
        if not has_maker:
            await_condition(
                lambda: waits_for if _read(cluster, namespace, claim).status.phase == "Pending" else None,
                _BOUND_WITHIN,
                f"{name} was not bound",
                hint="Make the claim anew with a storage class that is there, or a PersistentVolume that fits it.",
            )


def _read(cluster: Cluster, namespace: str, claim: str) -> Any:
    return ask(
        cluster.core.read_namespaced_persistent_volume_claim,
        claim,
        namespace,
        doing=f"reading PVC {namespace}/{claim} (verb get)",
    )


def _maker(cluster: Cluster, storage_class: str | None) -> tuple[bool, str]:
    """Whether something makes volumes of this class, as far as is known; and what claims wait for, in words."""
    if not storage_class:
        return False, "it has no storage class that would make a volume, and waits for one that fits it"
    try:
        ask(cluster.storage.read_storage_class, storage_class, doing=f"reading StorageClass {storage_class}")
    except ClusterError as error:
        if error.status == _MISSING:
            return False, f"there is no storage class {storage_class}, and it waits for a volume that fits it"
        if error.status != _FORBIDDEN:
            raise
    return True, f"it waits for a volume of its storage class, {storage_class}"
