"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_erp_sandbox.demo.server import Server

from . import estates as _estates
from . import servers as _servers


@pytest.fixture(scope="session", autouse=True)
def reports_look_the_same_in_ci() -> Iterator[None]:
    """pytest repeats whole messages in its summary where these are set."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CI", "BUILD_NUMBER"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def servers() -> Iterator[_servers.Servers]:
    """PostgreSQL servers, by version."""
    with _servers.servers() as running:
        yield running


@pytest.fixture(scope="session", params=_servers.VERSIONS)
def server(request: pytest.FixtureRequest, servers: _servers.Servers) -> Server:
    """A PostgreSQL server: each version in turn."""
    return servers[request.param]


@pytest.fixture(scope="session")
def estate() -> Iterator[_estates.BuiltEstate]:
    """A prod with a log of every statement, and four sandboxes with their ERPs."""
    with _estates.built_estate() as built:
        yield built


@pytest.fixture
def project(pytester: pytest.Pytester, estate: _estates.BuiltEstate) -> _estates.Project:
    """A project that rehearses in the estate's first sandbox."""
    return _estates.Project(pytester, estate)
