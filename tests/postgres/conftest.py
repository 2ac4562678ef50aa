"""Fixtures of the tests that need no more than a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_erp_sandbox.demo.server import Server

from .rewinding import JournalledSandbox, journalled_sandbox


@pytest.fixture(scope="module")
def adopted(server: Server) -> Iterator[JournalledSandbox]:
    """An adopted sandbox, to be journalled: on each version in turn."""
    with journalled_sandbox(server) as made:
        yield made
