"""Fixtures on a real Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..docs.conftest import page
from .kubernetes import Kubernetes, running_kubernetes

__all__ = ["kubernetes", "page"]


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[Kubernetes]:
    """A cluster, and two namespaces of this test run's own."""
    with running_kubernetes() as running:
        yield running
