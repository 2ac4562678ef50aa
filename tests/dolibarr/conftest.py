"""Dolibarr-shaped sandboxes on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.connection import SandboxConnection, SandboxDatabase, as_owner

from .sandboxes import empty_sandbox, filled_sandbox


@pytest.fixture(scope="session")
def database(server: Server) -> SandboxDatabase:
    """A sandbox with the demo's tables and data. Whoever commits to it, takes it back."""
    return filled_sandbox(server)


@pytest.fixture
def connection(database: SandboxDatabase) -> Iterator[SandboxConnection]:
    """In a transaction as the owner role, which is rolled back."""
    with database.connect() as made, suppress(psycopg.Rollback), as_owner(made, database.role):
        yield made
        raise psycopg.Rollback


@pytest.fixture
def no_dolibarr(server: Server) -> Iterator[SandboxConnection]:
    """A connection to a database without any table."""
    with empty_sandbox(server).connect() as made:
        yield made
