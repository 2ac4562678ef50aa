"""Keys and rights."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.demo.erp import Erp
from pytest_erp_sandbox.dolibarr.api import api_client
from pytest_erp_sandbox.dolibarr.crypt import decrypt
from pytest_erp_sandbox.postgres.connection import SandboxDatabase

from ...servers import connect, run
from .conftest import LOGIN, error_of, provision

PROD_UNIQUE_ID = SecretStr("c0ffee5eed0f9a17b2d4e6f8091a3b5c")


def with_rights(database: SandboxDatabase, erp: Erp, *rights: str) -> httpx.Client:
    return api_client(erp.url, provision(database, rights))


def test_status_tells_the_version(api: httpx.Client) -> None:
    assert api.get("status").json() == {"success": {"code": 200, "dolibarr_version": "22.0.4", "access_locked": "0"}}


@pytest.mark.parametrize(
    "key", ["", "wrong", "clé", "k" * 200, "dolcrypt", "prod-key-of-alice-9f27c1", "' OR ''='"], ids=repr
)
def test_a_wrong_key_is_401(api: httpx.Client, key: str) -> None:
    assert "Unauthorized" in error_of(api.get("status", headers=[(b"DOLAPIKEY", key.encode("latin-1"))]), 401)


def test_a_plain_key_of_an_older_dolibarr_still_opens(api: httpx.Client) -> None:
    me = api.get("users/info", headers={"DOLAPIKEY": "prod-key-of-admin-5d80a4"}).json()
    assert (me["login"], me["admin"], me["user_group_list"]) == ("admin", "1", [])


def test_the_demos_encrypted_keys_are_prods(database: SandboxDatabase) -> None:
    with connect(database.dsn) as connection:
        rows = connection.execute("SELECT api_key FROM llx_user WHERE login = 'alice'").fetchall()
        rows += connection.execute("SELECT value FROM llx_const WHERE name = 'MAIN_MAIL_SMTPS_PW'").fetchall()
    assert [decrypt(stored, PROD_UNIQUE_ID) for (stored,) in rows] == [
        SecretStr("prod-key-of-alice-9f27c1"),
        SecretStr("smtp-password-of-prod"),
    ]


def test_an_encrypted_form_is_no_key(database: SandboxDatabase, api: httpx.Client) -> None:
    with connect(database.dsn) as connection:
        (stored,) = connection.execute("SELECT api_key FROM llx_user WHERE login = %s", [LOGIN]).fetchall()[0]
    assert "should not start with dolcrypt:" in error_of(api.get("status", headers={"DOLAPIKEY": stored}), 503)


def test_an_encrypted_key_does_not_open_an_older_dolibarr(database: SandboxDatabase, api: httpx.Client) -> None:
    run(database.dsn, "UPDATE llx_const SET value = '17.0.4' WHERE name = 'MAIN_VERSION_LAST_INSTALL'")
    error_of(api.get("status"), 401)


def test_dolibarr_23_looks_into_its_token_table(database: SandboxDatabase, erp: Erp, api: httpx.Client) -> None:
    run(
        database.dsn,
        "UPDATE llx_const SET value = '23.0.0' WHERE name = 'MAIN_VERSION_LAST_INSTALL'",
        "INSERT INTO llx_const (name, value) VALUES ('API_IN_TOKEN_TABLE', '1')",
    )
    error_of(api.get("status"), 401)
    with api_client(erp.url, provision(database)) as client:
        assert client.get(f"users/login/{LOGIN}").json()["login"] == LOGIN
        run(
            database.dsn,
            "INSERT INTO llx_oauth_token SELECT rowid + 99, service, token, tokenstring FROM llx_oauth_token",
        )
        assert "More than 1 user" in error_of(client.get("status"), 503)


@pytest.mark.parametrize(
    "change", ["statut = 0", "dateendvalidity = now() - interval '1 day'", "datestartvalidity = '2099-01-01'"]
)
def test_a_user_that_is_out_is_401(database: SandboxDatabase, api: httpx.Client, change: str) -> None:
    assert api.get("status").is_success
    run(database.dsn, f"UPDATE llx_user SET {change} WHERE login = '{LOGIN}'")
    error_of(api.get("status"), 401)


def test_everybody_may_read_the_own_card_alone(api: httpx.Client) -> None:
    assert api.get(f"users/login/{LOGIN}").json()["login"] == LOGIN
    error_of(api.get("users/login/alice"), 403)
    error_of(api.get("users/info"), 403)


def test_an_admin_may_read_other_cards(api: httpx.Client) -> None:
    as_admin = {"DOLAPIKEY": "prod-key-of-admin-5d80a4"}
    assert api.get("users/login/zo%C3%A9", headers=as_admin).json()["lastname"] == "D'Aubigné"
    error_of(api.get("users/login/nobody", headers=as_admin), 404)


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "thirdparties", "societe.lire"),
        ("GET", "thirdparties/1", "societe.lire"),
        ("POST", "thirdparties", "societe.creer"),
        ("PUT", "thirdparties/1", "societe.creer"),
        ("DELETE", "thirdparties/10", "societe.supprimer"),
        ("GET", "products", "produit.lire"),
        ("GET", "products/1", "produit.lire"),
        ("POST", "products", "produit.creer"),
        ("PUT", "products/1", "produit.creer"),
        ("DELETE", "products/1", "produit.supprimer"),
        ("GET", "invoices", "facture.lire"),
        ("GET", "invoices/5", "facture.lire"),
        ("GET", "invoices/5/lines", "facture.lire"),
        ("POST", "invoices", "facture.creer"),
        ("POST", "invoices/5/lines", "facture.creer"),
        ("POST", "invoices/5/validate", "facture.creer"),
        ("DELETE", "invoices/5", "facture.supprimer"),
    ],
)
def test_each_call_needs_its_right(database: SandboxDatabase, erp: Erp, method: str, path: str, right: str) -> None:
    module, _, verb = right.partition(".")
    others = {f"{module}.{other}" for other in ("lire", "creer", "supprimer") if other != verb}
    with with_rights(database, erp, *others) as client:
        assert f"missing right {right}" in error_of(client.request(method, path), 403)
    with with_rights(database, erp, right) as client:
        assert client.request(method, path).status_code != 403


def test_rights_come_through_groups_too(database: SandboxDatabase, erp: Erp) -> None:
    with with_rights(database, erp) as client:
        error_of(client.get("products"), 403)
        run(
            database.dsn,
            "INSERT INTO llx_usergroup_user (fk_user, fk_usergroup)"
            f" SELECT rowid, 2 FROM llx_user WHERE login = '{LOGIN}'",
        )
        assert client.get("products").is_success


def test_being_admin_is_no_right(api: httpx.Client) -> None:
    error_of(api.get("thirdparties", headers={"DOLAPIKEY": "prod-key-of-admin-5d80a4"}), 403)


def test_advanced_permissions_ask_for_the_right_to_validate(database: SandboxDatabase, erp: Erp) -> None:
    run(database.dsn, "INSERT INTO llx_const (name, value) VALUES ('MAIN_USE_ADVANCED_PERMS', '1')")
    with with_rights(database, erp, "facture.creer") as client:
        assert "invoice_advance.validate" in error_of(client.post("invoices/5/validate"), 403)
    with with_rights(database, erp, "facture.creer", "facture.invoice_advance.validate") as client:
        assert client.post("invoices/5/validate").json()["ref"] == "FA2605-0005"
