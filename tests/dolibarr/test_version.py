from __future__ import annotations

import pytest

from pytest_erp_sandbox.dolibarr.constants import constant, is_on
from pytest_erp_sandbox.dolibarr.version import DolibarrVersion, dolibarr_version
from pytest_erp_sandbox.errors import AgentError
from pytest_erp_sandbox.postgres.connection import SandboxConnection


def set_constant(connection: SandboxConnection, name: str, value: str, entity: int) -> None:
    connection.execute("INSERT INTO llx_const (name, value, entity) VALUES (%s, %s, %s)", [name, value, entity])


def test_the_version_is_the_installed_one(connection: SandboxConnection) -> None:
    assert dolibarr_version(connection) == DolibarrVersion("22.0.4", 22)


def test_a_later_upgrade_counts(connection: SandboxConnection) -> None:
    set_constant(connection, "MAIN_VERSION_LAST_UPGRADE", "23.0.0-beta", entity=0)
    assert dolibarr_version(connection) == DolibarrVersion("23.0.0-beta", 23)


def test_an_empty_upgrade_does_not_count(connection: SandboxConnection) -> None:
    set_constant(connection, "MAIN_VERSION_LAST_UPGRADE", "", entity=0)
    assert str(dolibarr_version(connection)) == "22.0.4"


def test_a_company_cannot_have_a_version_of_its_own(connection: SandboxConnection) -> None:
    set_constant(connection, "MAIN_VERSION_LAST_UPGRADE", "3.9.0", entity=1)
    assert dolibarr_version(connection).major == 22


def test_a_database_that_does_not_say_is_an_error(connection: SandboxConnection) -> None:
    connection.execute("DELETE FROM llx_const WHERE name = 'MAIN_VERSION_LAST_INSTALL'")
    with pytest.raises(AgentError, match="does not say which Dolibarr"):
        dolibarr_version(connection)


def test_a_database_without_dolibarr_is_an_error_that_names_it(no_dolibarr: SandboxConnection) -> None:
    with pytest.raises(AgentError, match=f"'{no_dolibarr.info.dbname}' is not a Dolibarr's"):
        dolibarr_version(no_dolibarr)


def test_a_companys_own_constant_hides_the_common_one(connection: SandboxConnection) -> None:
    set_constant(connection, "SHOWN", "to all", entity=0)
    set_constant(connection, "SHOWN", "to the second", entity=2)
    assert constant(connection, "SHOWN", entity=1) == "to all"
    assert constant(connection, "SHOWN", entity=2) == "to the second"
    assert constant(connection, "NOT_THERE", entity=1) is None


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_a_constant_is_on_where_php_says_so(value: str | None, *, on: bool) -> None:
    assert is_on(value) is on
