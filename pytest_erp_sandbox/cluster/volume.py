"""The claim (PVC) that golden dumps are kept on: looked at before anything is begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ClusterError
from .api import Cluster, ask, await_condition

__all__ = ["require_usable"]

_WRITABLE = ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")


_BOUND_WITHIN = 30.0
"""Seconds within which a volume that is there is bound to a new claim; the cluster looks every 15."""


def require_usable(
    cluster: Cluster, namespace: str, claim: str, on_wait: Callable[[str], None] = lambda _: None
) -> None:
    """Look at a claim before a pod is to mount it.

    One that is not bound will do where it has a storage class, which makes the volume, perhaps only for the first pod.
    When it does so, and whether there is such a class, is not known here: classes are the whole cluster's.

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
        on_wait(f"{name} is not bound yet: {_waits_for(found)}")
        await_condition(
            lambda: _without_a_maker(_read(cluster, namespace, claim)),
            _BOUND_WITHIN,
            f"{name} was not bound",
            hint="Make the claim anew with a storage class, or a PersistentVolume that fits it.",
        )


def _read(cluster: Cluster, namespace: str, claim: str) -> Any:
    return ask(
        cluster.core.read_namespaced_persistent_volume_claim,
        claim,
        namespace,
        doing=f"reading PVC {namespace}/{claim} (verb get)",
    )


def _waits_for(found: Any) -> str:
    if found.spec.storage_class_name:
        return f"it waits for a volume of its storage class, {found.spec.storage_class_name}"
    return "it has no storage class that would make a volume, and waits for one that fits it"


def _without_a_maker(found: Any) -> str | None:
    return _waits_for(found) if found.status.phase == "Pending" and not found.spec.storage_class_name else None
