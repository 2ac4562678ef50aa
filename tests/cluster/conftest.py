"""Fixtures on a real Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.cluster.toolbox import CACHE, Toolbox, ToolboxFolder, ToolboxImage, toolbox
from pytest_erp_sandbox.postgres.clients import Toolset, installed_toolsets

from ..docs.conftest import page
from .kubernetes import IMAGE, Kubernetes, running_kubernetes

__all__ = ["kubernetes", "page"]


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[Kubernetes]:
    """A cluster, and two namespaces of this test run's own."""
    with running_kubernetes() as running:
        yield running


@pytest.fixture(scope="module")
def login() -> Mapping[str, SecretStr] | None:
    """Prod's, for the module's toolbox: none."""
    return None


@pytest.fixture(scope="module")
def box(
    kubernetes: Kubernetes, login: Mapping[str, SecretStr] | None, request: pytest.FixtureRequest
) -> Iterator[Toolbox]:
    """A toolbox with a claim of the module's own."""
    golden = kubernetes.claim(request.module.__name__.rpartition(".")[2].replace("_", "-"))
    with toolbox(kubernetes.cluster, kubernetes.sandbox, golden, ToolboxImage(IMAGE), login=login) as running:
        yield running


@pytest.fixture
def folder(box: Toolbox) -> Iterator[ToolboxFolder]:
    """A folder on the volume of the test's toolbox, where nothing else is; and nothing afterwards."""
    with box.folder() as made:
        yield made
    assert box.run(["ls", "-A", CACHE], doing="the test") == ""


@pytest.fixture
def programs(box: Toolbox) -> Toolset:
    """Those here that are of the version of the toolbox's."""
    said = box.run(["pg_dump", "--version"], doing="the test")
    return next(each for each in installed_toolsets() if f") {each.major}." in said)
