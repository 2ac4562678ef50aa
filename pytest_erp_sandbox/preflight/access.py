"""Invariants of a Kubernetes cluster: we may do all that we will, and nothing to prod."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ClusterError
from ..reach import cluster_of, in_roles, lacking_rules, prods_namespaces, rules_in_prod, uses_cluster
from ..settings import Settings
from .findings import Finding, Status

__all__ = ["access_findings"]

_ENOUGH = "may do what it will do"
_LITTLE = "may change nothing of prod's"
_KNOWN = "knows prod's namespace"
_CLUSTER = "cluster"


def access_findings(settings: Settings) -> list[Finding]:
    """Ask the API server; nothing where the settings name nothing in a cluster."""
    if not uses_cluster(settings):
        return []
    try:
        return [_enough(settings), *_little(settings)]
    except ClusterError as error:
        return [Finding(_ENOUGH, Status.FAILURE, error.args[0], error.hint, _CLUSTER)]


def _enough(settings: Settings) -> Finding:
    lacking = lacking_rules(settings)
    if not lacking:
        return Finding(_ENOUGH, Status.OK, "all rules are granted", subject=_CLUSTER)
    detail = "may not " + "; may not ".join(map(str, lacking))
    return Finding(_ENOUGH, Status.FAILURE, detail, in_roles(lacking), subject=_CLUSTER)


def _little(settings: Settings) -> Iterator[Finding]:
    from ..cluster.access import excess

    prods = prods_namespaces(settings)
    if settings.refresh != "never" and settings.prod.database() is not None and not prods:
        yield Finding(
            _KNOWN,
            Status.FAILURE if settings.strict else Status.WARNING,
            "whether what the settings name in the cluster is prod's own cannot be told",
            "Set prod.namespace; where prod is in none of this cluster's, to a name that none of them has.",
            _CLUSTER,
        )
    for namespace in sorted(prods):
        found = excess(cluster_of(settings), namespace, rules_in_prod(settings))
        if found:
            yield Finding(
                _LITTLE,
                Status.FAILURE if settings.strict else Status.WARNING,
                f"in namespace {namespace}, this account may {', '.join(found)}",
                "Work with an account that has the Roles of deploy/kubernetes, and no others.",
                subject=_CLUSTER,
            )
        else:
            yield Finding(_LITTLE, Status.OK, f"nothing but what is needed in {namespace}", subject=_CLUSTER)
