"""What we may do in the cluster: each verb that is used is asked for, and too much power over prod is named."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .api import Cluster, ask
from .credentials import SecretReference
from .workload import Workload

__all__ = [
    "Rule",
    "excess",
    "exec_rules",
    "forward_rules",
    "missing",
    "ready_pod_rules",
    "scale_rules",
    "secret_rules",
    "toolbox_rules",
]

_READING = frozenset({"get", "list", "watch"})

_EVERYBODYS = frozenset(
    {
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
    }
)
"""What every account may do (``system:basic-user``): ask who it is, and what it may do. By group and resource."""

_REACHING = frozenset({"attach", "exec", "portforward", "proxy"})
"""Subresources that reach into pods and services: by them reading runs programs."""

_CHANGING = ("create", "patch", "update", "delete")
_HARMFUL = (
    ("", ("pods", "services", "persistentvolumeclaims", "secrets", "configmaps"), _CHANGING),
    ("apps", ("deployments", "statefulsets", "daemonsets"), _CHANGING),
    ("batch", ("jobs", "cronjobs"), _CHANGING),
    ("rbac.authorization.k8s.io", ("roles", "rolebindings"), _CHANGING),
    ("apps", ("deployments/scale", "statefulsets/scale"), ("patch", "update")),
    ("", ("secrets",), ("get", "list")),
    ("", ("pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy"), ("get", "create")),
)
"""What is asked for, one by one, where the API server cannot list what we may do: groups, resources and verbs."""


@dataclass(frozen=True)
class Rule:
    """One thing that is done in the cluster.

    Attributes:
        namespace: where.
        verb: ``get``, ``list``, ``create``, ``patch``, ``delete``.
        resource: such as ``deployments``, ``pods/exec``.
        name: of the object; empty where it is any, or not known before.
        group: the API group; empty for the core one.
    """

    namespace: str
    verb: str
    resource: str
    name: str = ""
    group: str = ""

    @property
    def grant(self) -> str:
        """What a Role in the namespace must have for it."""
        names = f' resourceNames: ["{self.name}"],' if self.name else ""
        return f'{{apiGroups: ["{self.group}"], resources: ["{self.resource}"],{names} verbs: ["{self.verb}"]}}'

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f' {self.name}' if self.name else ''} in namespace {self.namespace}"


def secret_rules(secret: SecretReference) -> Iterator[Rule]:
    """What reading credentials takes."""
    yield Rule(secret.namespace, "get", "secrets", secret.name)


def ready_pod_rules(workload: Workload) -> Iterator[Rule]:
    """What finding a pod of ``workload`` takes."""
    yield _on(workload, "get")
    yield Rule(workload.namespace, "list", "pods")


def scale_rules(workload: Workload) -> Iterator[Rule]:
    """What scaling to 0 and back takes."""
    yield from ready_pod_rules(workload)
    yield _on(workload, "patch")


def exec_rules(namespace: str) -> Iterator[Rule]:
    """What running a program in a pod takes: a websocket begins with a GET, SPDY with a POST; 1.35 asks for both."""
    yield Rule(namespace, "get", "pods/exec")
    yield Rule(namespace, "create", "pods/exec")


def forward_rules(workload: Workload) -> Iterator[Rule]:
    """What a port-forward takes."""
    yield from ready_pod_rules(workload)
    yield Rule(workload.namespace, "get", "pods/portforward")
    yield Rule(workload.namespace, "create", "pods/portforward")


def toolbox_rules(namespace: str, claim: str, *, dumps: bool) -> Iterator[Rule]:
    """What a toolbox pod takes; with a Secret for prod's login where it dumps prod."""
    for verb in ("create", "get", "list", "delete"):
        yield Rule(namespace, verb, "pods")
    if dumps:
        for verb in ("create", "list", "delete"):
            yield Rule(namespace, verb, "secrets")
    yield Rule(namespace, "get", "persistentvolumeclaims", claim)
    yield from exec_rules(namespace)


def missing(cluster: Cluster, rules: Iterable[Rule]) -> list[Rule]:
    """Those of ``rules`` that the API server does not allow us.

    Raises:
        ClusterError: it cannot be asked.
    """
    return [rule for rule in dict.fromkeys(rules) if not _is_allowed(cluster, rule)]


def excess(cluster: Cluster, prod: str, needed: Collection[Rule]) -> list[str]:
    """What we may do in prod's namespace although nothing here needs it: writing, and reading secrets.

    What other authorizers than RBAC allow, as a cloud's IAM does, no API server can list: there it is asked for what
    would be harmful.

    Args:
        cluster: that is asked.
        prod: prod's namespace.
        needed: what is needed there.

    Returns:
        Verbs and resources, in words; empty where all is well.

    Raises:
        ClusterError: the API server cannot be asked.
    """
    body = {"spec": {"namespace": prod}}
    review = ask(
        cluster.authorization.create_self_subject_rules_review, body, doing=f"asking what we may do in namespace {prod}"
    )
    found: dict[str, None] = {}
    for granted in review.status.resource_rules or ():
        for group in granted.api_groups or ():
            for resource in granted.resources or ():
                for verb in granted.verbs:
                    if (group, resource) not in _EVERYBODYS and _is_harmful(verb, resource):
                        found.update(dict.fromkeys(_unneeded(granted, group, resource, verb, prod, needed)))
    if review.status.incomplete and "all all" not in found:
        asked = (rule for rule in _harmful(prod) if rule not in needed)
        found.update((f"{rule.verb} {rule.resource}", None) for rule in asked if _is_allowed(cluster, rule))
    return list(found)


def _harmful(prod: str) -> Iterator[Rule]:
    for group, resources, verbs in _HARMFUL:
        for resource in resources:
            for verb in verbs:
                yield Rule(prod, verb, resource, group=group)


def _is_harmful(verb: str, resource: str) -> bool:
    if verb not in _READING:
        return True
    # The rest shows passwords. RBAC has ``*`` for all resources, and ``*/exec`` for this subresource of each.
    return resource.partition("/")[2] in _REACHING or resource in ("secrets", "*")


def _unneeded(granted: Any, group: str, resource: str, verb: str, prod: str, needed: Collection[Rule]) -> Iterator[str]:
    for name in granted.resource_names or ("",):
        if Rule(prod, verb, resource, name, group) not in needed:
            shown = f"{verb} {resource}".replace("*", "all")
            yield f"{shown} {name}".strip()


def _is_allowed(cluster: Cluster, rule: Rule) -> bool:
    resource, _, subresource = rule.resource.partition("/")
    attributes = {
        "namespace": rule.namespace,
        "verb": rule.verb,
        "group": rule.group,
        "resource": resource,
        "subresource": subresource,
        "name": rule.name,
    }
    review = ask(
        cluster.authorization.create_self_subject_access_review,
        {"spec": {"resourceAttributes": attributes}},
        doing=f"asking whether we may {rule}",
    )
    return bool(review.status.allowed)


def _on(workload: Workload, verb: str) -> Rule:
    return Rule(workload.namespace, verb, f"{workload.kind.lower()}s", workload.name, "apps")
