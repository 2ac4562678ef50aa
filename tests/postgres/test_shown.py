"""What of the changes people see: not what ``changes.ignore`` names, and of ``changes.redact`` only that it changed."""

from __future__ import annotations

import pytest

from pytest_erp_sandbox.changes import read_shown, told
from pytest_erp_sandbox.settings import ChangesSettings

from .rewinding import ROLE, JournalledSandbox

MADE = """
CREATE TABLE llx_actioncomm (id serial PRIMARY KEY, fk_action int, label text, tms timestamp);
CREATE TABLE llx_societe (rowid serial PRIMARY KEY, nom text, email text, tms timestamp);
CREATE TABLE llx_const (rowid serial PRIMARY KEY, name text, value text);
CREATE TABLE llx_user (rowid serial PRIMARY KEY, login text, pass_crypted text, api_key text);
INSERT INTO llx_actioncomm (fk_action, label) VALUES (40, 'by itself'), (5, 'a meeting');
INSERT INTO llx_societe (nom, email) VALUES ('Acme', 'acme@example.org');
INSERT INTO llx_const (name, value) VALUES ('STRIPE_TEST_KEY', 'sk_1'), ('COLOUR', 'red');
INSERT INTO llx_user (login, pass_crypted) VALUES ('anne', 'hash')
"""


@pytest.fixture
def sandbox(adopted: JournalledSandbox) -> JournalledSandbox:
    adopted.clear()
    adopted.journal(MADE)
    return adopted


def shown(sandbox: JournalledSandbox, **settings: tuple[str, ...]) -> str:
    return told(read_shown(sandbox.connection, ROLE, ChangesSettings(**settings)))


def test_by_default_neither_times_nor_what_dolibarr_logs_by_itself(sandbox: JournalledSandbox) -> None:
    sandbox.happen(
        "INSERT INTO llx_actioncomm (fk_action, label) VALUES (40, 'a customer was made'), (5, 'another meeting')",
        "UPDATE llx_societe SET tms = now()",
    )
    assert shown(sandbox) == "inserted llx_actioncomm 4\n    id: 4\n    fk_action: 5\n    label: 'another meeting'"


def test_a_row_that_was_another_before_is_shown(sandbox: JournalledSandbox) -> None:
    sandbox.happen("UPDATE llx_actioncomm SET fk_action = 40 WHERE id = 2")
    assert shown(sandbox) == "updated llx_actioncomm 2\n    fk_action: 5 → 40"


def test_columns_tables_and_rows_that_are_named_are_left_out(sandbox: JournalledSandbox) -> None:
    sandbox.happen(
        "UPDATE llx_actioncomm SET label = 'x'",
        "UPDATE llx_societe SET nom = 'Acme & Co.', email = 'other@example.org'",
        "UPDATE llx_const SET value = 'blue' WHERE name = 'COLOUR'",
    )
    ignored = ("*.email", "llx_action*", "llx_const[name=COL*]")
    assert shown(sandbox, ignore=ignored) == "updated llx_societe 1\n    nom: 'Acme' → 'Acme & Co.'"
    assert shown(sandbox, ignore=("llx_*",)) == "nothing was changed"


@pytest.mark.parametrize(
    "name",
    [
        "MAIN_MAIL_SMTPS_PW",
        "MAIN_MAIL_SMTPS_PW_EMAILING",
        "LDAP_ADMIN_PASS",
        "ADHERENT_MAILMAN_ADMINPW",
        "ADHERENT_MAILMAN_ADMIN_PASSWORD",
        "PAYPAL_API_SIGNATURE",
        "PAYBOX_HMAC_KEY",
        "OAUTH_GOOGLE_SECRET",
    ],
)
def test_what_dolibarr_calls_its_secrets_is_hidden(sandbox: JournalledSandbox, name: str) -> None:
    sandbox.happen(f"INSERT INTO llx_const (name, value) VALUES ('{name}', 'hush'), ('PWA_PASSAGES', 'seen')")
    said = shown(sandbox)
    assert "hush" not in said
    assert "seen" in said


def test_of_secrets_only_that_they_changed(sandbox: JournalledSandbox) -> None:
    sandbox.happen(
        "UPDATE llx_user SET pass_crypted = 'new hash', api_key = 'dolcrypt:x', login = 'dolcrypt:y'",
        "UPDATE llx_const SET value = 'sk_2' WHERE name = 'STRIPE_TEST_KEY'",
        "UPDATE llx_societe SET email = 'hidden@example.org'",
    )
    said = shown(sandbox, redact=("llx_user.pass*", "*.api_key", "llx_societe.email"))
    for secret in ("hash", "dolcrypt", "sk_", "hidden@", "acme@"):
        assert secret not in said
    for column in ("pass_crypted", "login", "value", "email"):
        assert f"    {column}: changed" in said
