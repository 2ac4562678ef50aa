from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.dolibarr.agent import provision_agent, read_agent_key
from pytest_erp_sandbox.dolibarr.crypt import decrypt, encrypt
from pytest_erp_sandbox.errors import AgentError
from pytest_erp_sandbox.postgres.connection import SandboxConnection

LOGIN = "ai_agent_sandbox"
UNIQUE_ID = SecretStr("0123456789abcdef0123456789abcdef")
ANY_KEY = re.compile(r"[0-9a-f]{48}")


def provision(
    connection: SandboxConnection,
    rights: Sequence[str] = ("societe.lire",),
    *,
    login: str = LOGIN,
    unique_id: SecretStr | None = UNIQUE_ID,
) -> SecretStr:
    return provision_agent(connection, login=login, rights=rights, entity=1, unique_id=unique_id)


def read_back(connection: SandboxConnection, *, login: str = LOGIN, unique_id: SecretStr = UNIQUE_ID) -> Any:
    return read_agent_key(connection, login=login, entity=1, unique_id=unique_id)


def one(connection: SandboxConnection, query: str, *parameters: Any) -> Any:
    (row,) = connection.execute(query.encode(), parameters).fetchall()
    return row[0] if len(row) == 1 else row


def rights_of(connection: SandboxConnection, login: str) -> list[tuple[int, int]]:
    return connection.execute(
        "SELECT entity, fk_id FROM llx_user_rights WHERE fk_user = (SELECT rowid FROM llx_user WHERE login = %s)"
        " ORDER BY 1, 2",
        [login],
    ).fetchall()


def become(connection: SandboxConnection, version: str, *, token_table: bool = False) -> None:
    connection.execute("UPDATE llx_const SET value = %s WHERE name = 'MAIN_VERSION_LAST_INSTALL'", [version])
    if token_table:
        connection.execute("INSERT INTO llx_const (name, value) VALUES ('API_IN_TOKEN_TABLE', '1')")


def test_the_agent_is_an_enabled_user_without_admin(connection: SandboxConnection) -> None:
    provision(connection)
    state = "SELECT statut, admin, entity, lastname, datec IS NOT NULL FROM llx_user WHERE login = %s"
    assert one(connection, state, LOGIN) == (1, 0, 1, LOGIN, True)


def test_the_agent_has_exactly_the_rights_asked_for(connection: SandboxConnection) -> None:
    provision(connection, ["societe.contact.*", "facture.lire"])
    assert rights_of(connection, LOGIN) == [(1, 11), (1, 281), (1, 282), (1, 283), (1, 286)]
    provision(connection, ["facture.lire"])
    assert rights_of(connection, LOGIN) == [(1, 11)]
    provision(connection, [])
    assert rights_of(connection, LOGIN) == []


def test_a_user_of_prod_with_the_agents_login_loses_what_it_had(connection: SandboxConnection) -> None:
    connection.execute(
        "UPDATE llx_user SET admin = 1, statut = 0, fk_soc = 1, pass_crypted = 'hash', dateendvalidity = '2020-01-01',"
        " datestartvalidity = '2099-01-01' WHERE login = 'alice'"
    )
    connection.execute("INSERT INTO llx_user_rights (entity, fk_user, fk_id) VALUES (2, 2, 251)")
    before = one(connection, "SELECT rowid, lastname FROM llx_user WHERE login = 'alice'")
    provision(connection, ["produit.lire"], login="alice")
    assert one(connection, "SELECT rowid, lastname FROM llx_user WHERE login = 'alice'") == before
    assert one(
        connection,
        "SELECT admin, statut, fk_soc, pass_crypted, dateendvalidity, datestartvalidity FROM llx_user WHERE login = %s",
        "alice",
    ) == (0, 1, None, None, None, None)
    assert rights_of(connection, "alice") == [(1, 31)]
    assert one(connection, "SELECT count(*) FROM llx_usergroup_user WHERE fk_user = 2") == 0


def test_other_users_keep_what_they_have(connection: SandboxConnection) -> None:
    others = (
        "SELECT md5(string_agg(u::text, '')), (SELECT md5(string_agg(r::text, '')) FROM llx_user_rights AS r"
        " WHERE fk_user <= 4), (SELECT count(*) FROM llx_usergroup_user) FROM llx_user AS u WHERE rowid <= 4"
    )
    before = one(connection, others)
    provision(connection, ["*"])
    assert one(connection, others) == before


def test_the_key_is_stored_encrypted_with_the_sandboxs_unique_id(connection: SandboxConnection) -> None:
    key = provision(connection)
    stored = one(connection, "SELECT api_key FROM llx_user WHERE login = %s", LOGIN)
    assert stored == encrypt(key, UNIQUE_ID)
    assert decrypt(stored, UNIQUE_ID) == key


def test_the_key_is_plain_up_to_dolibarr_17(connection: SandboxConnection) -> None:
    become(connection, "17.0.4")
    key = provision(connection, unique_id=None)
    assert one(connection, "SELECT api_key FROM llx_user WHERE login = %s", LOGIN) == key.get_secret_value()
    assert read_agent_key(connection, login=LOGIN, entity=1, unique_id=None) == key


def test_the_key_is_a_token_from_dolibarr_23_where_that_is_switched_on(connection: SandboxConnection) -> None:
    become(connection, "23.0.0", token_table=True)
    provision(connection)
    key = provision(connection)
    tokens = (
        "SELECT tokenstring, t.entity FROM llx_oauth_token AS t JOIN llx_user AS u ON u.rowid = t.fk_user"
        " WHERE login = %s AND service = 'dolibarr_rest_api'"
    )
    assert one(connection, tokens, LOGIN) == (encrypt(key, UNIQUE_ID), 1)
    assert one(connection, "SELECT api_key FROM llx_user WHERE login = %s", LOGIN) is None
    assert one(connection, "SELECT count(*) FROM llx_oauth_token WHERE service <> 'dolibarr_rest_api'") == 1
    assert read_back(connection) == key


@pytest.mark.parametrize(("version", "token_table"), [("23.0.0", False), ("22.0.4", True)])
def test_else_it_stays_with_the_user(connection: SandboxConnection, version: str, *, token_table: bool) -> None:
    become(connection, version, token_table=token_table)
    key = provision(connection)
    assert one(connection, "SELECT api_key FROM llx_user WHERE login = %s", LOGIN) == encrypt(key, UNIQUE_ID)
    assert read_back(connection) == key


def test_each_key_is_new_and_is_the_one_that_is_read_back(connection: SandboxConnection) -> None:
    first, second = provision(connection), provision(connection)
    assert first != second
    assert read_back(connection) == second


def test_no_key_is_read_where_there_is_none(connection: SandboxConnection) -> None:
    assert read_back(connection) is None
    assert read_back(connection, login="zoé") is None
    provision(connection)
    assert read_back(connection, unique_id=SecretStr("of another instance")) is None


def test_an_unset_unique_id_names_the_setting(connection: SandboxConnection) -> None:
    with pytest.raises(AgentError, match=r"Dolibarr 22\.0\.4 encrypts.* sandbox\.erp\.instance-unique-id"):
        provision(connection, unique_id=None)
    with pytest.raises(AgentError, match=r"sandbox\.erp\.instance-unique-id"):
        provision(connection, unique_id=SecretStr(""))


@pytest.mark.parametrize("change", ["DELETE FROM llx_const", "UPDATE llx_const SET value = '0'"])
def test_a_switched_off_api_is_an_error(connection: SandboxConnection, change: str) -> None:
    connection.execute(f"{change} WHERE name = 'MAIN_MODULE_API'".encode())
    with pytest.raises(AgentError, match="MAIN_MODULE_API, entity 1"):
        provision(connection)


def test_an_unknown_right_makes_no_user(connection: SandboxConnection) -> None:
    with pytest.raises(AgentError, match=r"societe\.creer"):
        provision(connection, ["societe.create"])
    assert one(connection, "SELECT count(*) FROM llx_user WHERE login = %s", LOGIN) == 0


def test_a_login_that_prod_has_for_all_companies_is_refused(connection: SandboxConnection) -> None:
    with pytest.raises(AgentError, match="'admin' for all companies"):
        provision(connection, login="admin")


@pytest.mark.parametrize("token_table", [False, True])
def test_sequences_that_are_behind_their_tables_do_not_matter(
    connection: SandboxConnection, *, token_table: bool
) -> None:
    become(connection, "23.0.0", token_table=token_table)
    for table in ("llx_user", "llx_user_rights", "llx_oauth_token"):
        connection.execute("SELECT setval(pg_get_serial_sequence(%s, 'rowid'), 1, false)", [table])
    key = provision(connection, ["societe.*"])
    assert read_back(connection) == key
    assert len(rights_of(connection, LOGIN)) == 10


def test_a_sequence_that_is_ahead_keeps_its_place(connection: SandboxConnection) -> None:
    connection.execute("SELECT setval('llx_user_rowid_seq', 1000)")
    provision(connection)
    assert one(connection, "SELECT rowid FROM llx_user WHERE login = %s", LOGIN) == 1001


def test_columns_and_tables_that_this_dolibarr_lacks_are_passed_over(connection: SandboxConnection) -> None:
    connection.execute(
        "ALTER TABLE llx_user DROP COLUMN employee, DROP COLUMN datestartvalidity, DROP COLUMN dateendvalidity,"
        " DROP COLUMN pass_crypted, DROP COLUMN datec; DROP TABLE llx_usergroup_user"
    )
    assert provision(connection) == read_back(connection)


def test_a_refusal_of_postgresql_names_the_cause_and_no_key(connection: SandboxConnection) -> None:
    become(connection, "17.0.4")
    connection.execute("ALTER TABLE llx_user ADD CONSTRAINT no_new_keys CHECK (rowid <= 4 OR api_key IS NULL)")
    with pytest.raises(AgentError, match=f"'{LOGIN}' cannot be made: .*no_new_keys") as refused:
        provision(connection, unique_id=None)
    shown = "".join(
        traceback.TracebackException.from_exception(refused.value, capture_locals=True, compact=True).format()
    )
    assert "provision_agent" in shown
    assert not ANY_KEY.search(shown)
