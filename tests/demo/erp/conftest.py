"""A demo's ERP on the demo's own kind of server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources

import httpx
import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.demo.erp import Erp
from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.dolibarr.agent import provision_agent
from pytest_erp_sandbox.dolibarr.api import api_client
from pytest_erp_sandbox.postgres.connection import SandboxDatabase, as_owner

from ...dolibarr.sandboxes import filled_sandbox
from ...servers import Servers

UNIQUE_ID = SecretStr("0123456789abcdef0123456789abcdef")
LOGIN = "ai_agent_sandbox"
ALL_RIGHTS = ("societe.*", "produit.*", "facture.*")

_EMPTY_ALL = """
DO $$ BEGIN EXECUTE (
    SELECT format('TRUNCATE %s RESTART IDENTITY', string_agg(oid::regclass::text, ', '))
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
); END $$
"""


@pytest.fixture(scope="module")
def server(servers: Servers) -> Server:
    """The server that the demo brings along."""
    return servers["18"]


@pytest.fixture(scope="module")
def filled_database(server: Server) -> SandboxDatabase:
    return filled_sandbox(server)


@pytest.fixture(scope="module")
def erp(filled_database: SandboxDatabase) -> Iterator[Erp]:
    """The ERP of a sandbox."""
    erp = Erp(filled_database.dsn, UNIQUE_ID)
    erp.start()
    yield erp
    erp.stop()


@pytest.fixture(autouse=True)
def database(filled_database: SandboxDatabase) -> SandboxDatabase:
    """The sandbox, with the demo's data and nothing else."""
    with filled_database.connect() as connection, as_owner(connection, filled_database.role):
        connection.execute(_EMPTY_ALL)
        connection.execute(resources.files("pytest_erp_sandbox.demo").joinpath("data.sql").read_bytes())
    return filled_database


@pytest.fixture
def api(database: SandboxDatabase, erp: Erp) -> Iterator[httpx.Client]:
    """As an agent that may do everything."""
    with api_client(erp.url, provision(database)) as client:
        yield client


def provision(database: SandboxDatabase, rights: Sequence[str] = ALL_RIGHTS) -> SecretStr:
    """Give the agent these rights and a new key."""
    with database.connect() as connection, as_owner(connection, database.role):
        return provision_agent(connection, login=LOGIN, rights=rights, entity=1, unique_id=UNIQUE_ID)


def error_of(response: httpx.Response, status: int) -> str:
    """The message of an error in Dolibarr's shape."""
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == status
    return str(error["message"])
