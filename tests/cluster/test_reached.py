"""Reaching what the settings name, without the rights for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.reach import golden_claim, reached
from pytest_erp_sandbox.settings import Settings

from .kubernetes import IMAGE, Kubernetes


@pytest.fixture
def settings(kubernetes: Kubernetes, tmp_path: Path) -> Settings:
    """Those of an account that has no rights."""
    kubernetes.account_named("nobody")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubernetes.kubeconfig_of("nobody"))
    return Settings.model_validate(
        {
            "prod": {"namespace": kubernetes.prod, "secret": f"{kubernetes.prod}/erp-dump"},
            "sandbox": {
                "namespace": kubernetes.sandbox,
                "role": "erp_sandbox_role",
                "secret": f"{kubernetes.sandbox}/erp-sandbox-db",
                "forward": "statefulset/postgres",
            },
            "golden": {"claim": "erp-golden", "image": IMAGE},
            "cluster": {"kubeconfig": kubeconfig},
        }
    )


def test_every_right_that_lacks_is_named_with_its_rule_before_preflight_can(settings: Settings) -> None:
    with pytest.raises(ClusterError) as refused, reached(settings):
        pytest.fail("nothing may be read")
    said = str(refused.value)
    for rule in (
        '{apiGroups: [""], resources: ["secrets"], resourceNames: ["erp-dump"], verbs: ["get"]}',
        '{apiGroups: [""], resources: ["secrets"], resourceNames: ["erp-sandbox-db"], verbs: ["get"]}',
        '{apiGroups: [""], resources: ["pods/portforward"], verbs: ["create"]}',
        '{apiGroups: [""], resources: ["persistentvolumeclaims"], resourceNames: ["erp-golden"], verbs: ["get"]}',
    ):
        assert rule in said


def test_prod_is_left_alone_where_it_is_not_needed(kubernetes: Kubernetes, settings: Settings) -> None:
    with pytest.raises(ClusterError, match="erp-sandbox-db"), reached(settings, but_for_prod=True):
        pytest.fail("nothing may be read")


def test_no_toolbox_is_started_in_prods_namespace(kubernetes: Kubernetes, settings: Settings) -> None:
    assert settings.sandbox is not None
    there = settings.sandbox.model_copy(update={"namespace": kubernetes.prod})
    with (
        pytest.raises(ClusterError, match="is in prod's namespace, where nothing is ever started"),
        golden_claim(settings.model_copy(update={"sandbox": there}), print),
    ):
        pytest.fail("there is no toolbox")
