"""What we may do: exactly what deploy/ grants, and each rule of it is needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import RbacAuthorizationV1Api

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster.access import (
    Rule,
    excess,
    exec_rules,
    forward_rules,
    missing,
    ready_pod_rules,
    scale_rules,
    secret_rules,
    toolbox_rules,
)
from pytest_erp_sandbox.cluster.api import Cluster, connect_cluster
from pytest_erp_sandbox.cluster.credentials import SecretReference, StoredSecret
from pytest_erp_sandbox.cluster.workload import Workload, await_ready, recover, scaled_down

from .kubernetes import KUBECONFIG, Kubernetes
from .test_workload import SOON


@pytest.fixture(scope="module")
def deployed(kubernetes: Kubernetes) -> Kubernetes:
    kubernetes.deploy("accounts", "refresh", "documents", "rehearse", "outside/roles")
    return kubernetes


def prod_secret(kubernetes: Kubernetes) -> SecretReference:
    return SecretReference(kubernetes.prod, "erp-dump")


def needed_by_refresh(kubernetes: Kubernetes) -> list[Rule]:
    """What a refresh with documents does, inside of the cluster."""
    prod = Workload("Deployment", kubernetes.prod, "dolibarr")
    sandbox = Workload("Deployment", kubernetes.sandbox, "dolibarr")
    return [
        *secret_rules(prod_secret(kubernetes)),
        *secret_rules(SecretReference(kubernetes.sandbox, "erp-sandbox-db")),
        *scale_rules(sandbox),
        *ready_pod_rules(prod),
        *exec_rules(kubernetes.prod),
        *ready_pod_rules(sandbox),
        *exec_rules(kubernetes.sandbox),
    ]


def granted(kubernetes: Kubernetes, *roles: str) -> set[Rule]:
    """All that the Roles of these names in deploy/ grant."""
    rules = set()
    for body in kubernetes.applied:
        if body["kind"] == "Role" and body["metadata"]["name"] in roles:
            for rule in body["rules"]:
                rules |= set(_each(body["metadata"]["namespace"], rule))
    return rules


def _each(namespace: str, rule: dict[str, Any]) -> Iterable[Rule]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", [""]):
                    yield Rule(namespace, verb, resource, name, group)


def test_the_refresh_may_do_all_that_it_does_and_deploy_grants_nothing_else(deployed: Kubernetes) -> None:
    needed = needed_by_refresh(deployed)
    assert missing(deployed.account("erp-sandbox-refresh"), needed) == []
    assert granted(deployed, "erp-sandbox-refresh", "erp-sandbox-documents") == set(needed)


def test_the_toolbox_role_grants_what_a_toolbox_takes_and_nothing_else(deployed: Kubernetes) -> None:
    assert granted(deployed, "erp-sandbox-toolbox") == set(toolbox_rules(deployed.sandbox, "erp-golden", dumps=True))


def test_the_forward_roles_grant_what_port_forwards_take_and_nothing_else(deployed: Kubernetes) -> None:
    databases = [Workload("StatefulSet", namespace, "postgres") for namespace in (deployed.prod, deployed.sandbox)]
    needed = {rule for each in databases for rule in forward_rules(each)}
    assert granted(deployed, "erp-sandbox-forward") == needed


def test_the_rehearsal_may_read_its_own_secret_and_nothing_of_prods(deployed: Kubernetes) -> None:
    own = list(secret_rules(SecretReference(deployed.sandbox, "erp-sandbox-db")))
    account = deployed.account("erp-sandbox-rehearse")
    assert granted(deployed, "erp-sandbox-rehearse") == set(own)
    others = [rule for rule in needed_by_refresh(deployed) if rule not in own]
    assert missing(account, [*own, *others]) == list(dict.fromkeys(others))
    assert excess(account, deployed.prod, []) == []


def test_what_is_missing_is_named_with_the_rule_that_grants_it(deployed: Kubernetes) -> None:
    (rule,) = missing(
        deployed.account("erp-sandbox-rehearse"), [Rule(deployed.sandbox, "patch", "deployments", "dolibarr", "apps")]
    )
    assert str(rule) == f"patch deployments dolibarr in namespace {deployed.sandbox}"
    assert rule.grant == (
        '{apiGroups: ["apps"], resources: ["deployments"], resourceNames: ["dolibarr"], verbs: ["patch"]}'
    )


def test_the_refresh_has_no_power_in_prods_namespace_but_what_it_needs(deployed: Kubernetes) -> None:
    assert excess(deployed.account("erp-sandbox-refresh"), deployed.prod, needed_by_refresh(deployed)) == []


def test_documents_that_are_not_synced_make_exec_too_much(deployed: Kubernetes) -> None:
    without = [rule for rule in needed_by_refresh(deployed) if rule.resource != "pods/exec"]
    found = excess(deployed.account("erp-sandbox-refresh"), deployed.prod, without)
    assert sorted(found) == ["create pods/exec", "get pods/exec"]


@pytest.mark.parametrize(
    ("resource", "verb", "group"),
    [
        ("deployments", "patch", "apps"),
        ("deployments/scale", "update", "apps"),
        ("pods", "delete", ""),
        ("secrets", "get", ""),
        ("secrets", "list", ""),
        ("rolebindings", "create", "rbac.authorization.k8s.io"),
        ("*", "get", ""),
        ("*/exec", "get", ""),
        ("*/attach", "get", ""),
        ("*/portforward", "get", ""),
        ("*/proxy", "get", ""),
        ("localsubjectaccessreviews", "create", "authorization.k8s.io"),
    ],
)
def test_too_much_power_in_prods_namespace_is_named(deployed: Kubernetes, resource: str, verb: str, group: str) -> None:
    name = f"too-much-{verb}-{resource.replace('/', '-').replace('*', 'all')}"
    account = account_that_may(deployed, name, verb, resource, group)
    found = excess(account, deployed.prod, needed_by_refresh(deployed))
    assert found == [f"{verb} {resource}".replace("*", "all")]


def test_what_newer_servers_let_every_account_do_is_not_too_much(deployed: Kubernetes) -> None:
    """A Role stands for ``system:basic-user`` of servers from 1.28 on, who let an account ask who it is."""
    account = account_that_may(deployed, "asks-who", "create", "selfsubjectreviews", "authentication.k8s.io")
    assert excess(account, deployed.prod, []) == []


@pytest.mark.parametrize(
    ("resource", "verb", "group"),
    [
        ("pods", "create", ""),
        ("configmaps", "delete", ""),
        ("secrets", "list", ""),
        ("statefulsets", "update", "apps"),
        ("deployments/scale", "patch", "apps"),
        ("cronjobs", "patch", "batch"),
        ("rolebindings", "create", "rbac.authorization.k8s.io"),
        ("pods/exec", "create", ""),
        ("services/proxy", "get", ""),
    ],
)
def test_too_much_power_is_named_where_the_server_cannot_list_it(
    deployed: Kubernetes, monkeypatch: pytest.MonkeyPatch, resource: str, verb: str, group: str
) -> None:
    """A review that lists nothing stands for a webhook authorizer's, as clouds have; a Role for what their IAM grants.

    The account, and what it is answered when it asks, are real.
    """
    account = account_that_may(deployed, f"unlisted-{verb}-{resource.replace('/', '-')}", verb, resource, group)
    review = SimpleNamespace(status=SimpleNamespace(resource_rules=[], incomplete=True))
    monkeypatch.setattr(account.authorization, "create_self_subject_rules_review", lambda *_, **__: review)
    assert excess(account, deployed.prod, []) == [f"{verb} {resource}"]
    assert excess(account, deployed.prod, [Rule(deployed.prod, verb, resource, group=group)]) == []


def cannot_list_all(account: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A real review that says it is incomplete stands for a server that has another authorizer beside RBAC."""
    ask = account.authorization.create_self_subject_rules_review

    def ask_incompletely(*arguments: Any, **options: Any) -> Any:
        review: Any = ask(*arguments, **options)
        review.status.incomplete = True
        return review

    monkeypatch.setattr(account.authorization, "create_self_subject_rules_review", ask_incompletely)
    return account


def test_nothing_is_too_much_only_because_the_server_cannot_list_all(
    deployed: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh = cannot_list_all(deployed.account("erp-sandbox-refresh"), monkeypatch)
    assert excess(refresh, deployed.prod, needed_by_refresh(deployed)) == []


def test_what_is_listed_for_certain_is_named_once_though_not_all_is_listed(
    deployed: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = cannot_list_all(account_that_may(deployed, "listed", "delete", "pods", ""), monkeypatch)
    assert excess(account, deployed.prod, []) == ["delete pods"]
    events = cannot_list_all(account_that_may(deployed, "not-asked-for", "create", "events", ""), monkeypatch)
    assert excess(events, deployed.prod, []) == ["create events"]
    administrator = cannot_list_all(connect_cluster(Path(KUBECONFIG)), monkeypatch)
    found = excess(administrator, deployed.prod, [])
    assert "all all" in found
    assert "create pods" not in found


def account_that_may(kubernetes: Kubernetes, name: str, verb: str, resource: str, group: str) -> Cluster:
    """An account with a Role of its own in prod's namespace."""
    role: Any = {
        "metadata": {"name": name},
        "rules": [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}],
    }
    RbacAuthorizationV1Api(kubernetes.cluster.core.api_client).create_namespaced_role(kubernetes.prod, role)
    kubernetes.bind(name, kubernetes.prod, name)
    return kubernetes.account(name)


def test_an_administrator_is_told_of_all_that_he_may_do_to_prod(deployed: Kubernetes) -> None:
    assert "all all" in excess(deployed.cluster, deployed.prod, needed_by_refresh(deployed))


def test_the_accounts_can_really_do_it_and_no_more(deployed: Kubernetes) -> None:
    deployed.secret(deployed.prod, "erp-dump", {"username": "u", "password": "p"})
    deployed.secret(deployed.prod, "others", {"username": "u", "password": "p"})
    workload = deployed.workload(deployed.sandbox, "dolibarr")
    await_ready(deployed.cluster, workload, SOON)
    refresh, rehearse = deployed.account("erp-sandbox-refresh"), deployed.account("erp-sandbox-rehearse")
    StoredSecret(refresh, prod_secret(deployed)).read()
    with scaled_down(refresh, workload, prods=[deployed.prod]):
        pass
    for account, secret in ((refresh, "others"), (rehearse, "erp-dump")):
        with pytest.raises(ClusterError, match=rf"(?s)reading Secret .*{secret}.*forbidden.*preflight") as failure:
            StoredSecret(account, SecretReference(deployed.prod, secret)).read()
        assert failure.value.status == 403
    with pytest.raises(ClusterError, match="forbidden"):
        recover(rehearse, workload, prods=[deployed.prod])
