"""What the quarantine switches off, on the demo's prod and on versions that lack some of it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any, get_args

import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.dolibarr.parts import PARTS, Part
from pytest_erp_sandbox.dolibarr.quarantine import check_quarantine, impose_quarantine, tables_of_quarantine
from pytest_erp_sandbox.errors import QuarantineError
from pytest_erp_sandbox.postgres.connection import SandboxConnection, as_owner

from ..postgres.pairs import Side, make_sandbox

DEMO = resources.files("pytest_erp_sandbox.demo")

OPEN = {
    "mail": "SELECT 1 FROM llx_const WHERE name = 'MAIN_DISABLE_ALL_MAILS' AND value = '0'"
    " UNION ALL SELECT 1 FROM llx_const WHERE value IN ('smtp.prod.example', 'bulk.prod.example', 'mail')"
    " UNION ALL SELECT 1 FROM llx_const WHERE name = 'MAIN_MAIL_SMTPS_PW' AND value <> ''",
    "cron": "SELECT 1 FROM llx_cronjob WHERE status = 1"
    " UNION ALL SELECT 1 FROM llx_const WHERE value = 'prod-cron-key-3c9e'",
    "webhooks": "SELECT 1 FROM llx_webhook_target WHERE status = 1 OR trigger_codes LIKE '%MODIFY%'",
    "notifications": "SELECT 1 FROM llx_notify_def UNION ALL SELECT 1 FROM llx_const"
    " WHERE name LIKE 'NOTIFICATION_FIXEDEMAIL%' AND value <> ''",
    "collectors": "SELECT 1 FROM llx_emailcollector_emailcollector WHERE status = 1 OR password LIKE 'prod%'",
    "payments": "SELECT 1 FROM llx_const WHERE (name, value) = ('STRIPE_LIVE', '1') OR value LIKE 'prod-paypal%'"
    " OR (name LIKE 'STRIPE_LIVE_%' AND value <> '') OR (name, value) = ('PAYPAL_API_SANDBOX', '0')",
    "oauth": "SELECT 1 FROM llx_oauth_token WHERE service LIKE 'Google%'"
    " UNION ALL SELECT 1 FROM llx_const WHERE value = 'prod-oauth-secret-5f'",
    "connectors": "SELECT 1 FROM llx_const WHERE (name, value) = ('LDAP_SYNCHRO_ACTIVE', 'dolibarr2ldap')"
    " OR value LIKE 'prod-connector%'",
    "api-keys": "SELECT 1 FROM llx_user WHERE api_key IS NOT NULL UNION ALL SELECT 1 FROM llx_oauth_token"
    " WHERE service = 'dolibarr_rest_api' UNION ALL SELECT 1 FROM llx_const"
    " WHERE value = 'prod-webservices-key-08' OR (name, value) = ('MAIN_MODULE_WEBSERVICES', '1')",
    "banner": "SELECT 1 WHERE NOT EXISTS (SELECT FROM llx_const WHERE name = 'MAIN_APPLICATION_TITLE'"
    " AND value LIKE '%SANDBOX%')",
}
"""What each part leaves nothing of: written anew, not as the quarantine itself has it."""


@pytest.fixture
def copy(server: Server) -> Side:
    """A sandbox with the demo's rows, as prod has them, and what a Dolibarr 23 adds."""
    side = make_sandbox(server)
    side.execute(
        DEMO.joinpath("schema.sql").read_text() + DEMO.joinpath("data.sql").read_text(),
        "INSERT INTO llx_const (name, entity, value) VALUES ('LDAP_SYNCHRO_ACTIVE', 1, 'dolibarr2ldap'),"
        " ('MAIN_DISABLE_ALL_MAILS', 2, '0')",
        "INSERT INTO llx_const (name, value) SELECT name, 'prod-connector' FROM unnest(ARRAY['AI_API_CUSTOM_URL',"
        " 'AI_API_CHATGPT_KEY', 'FTP_SERVER_1', 'FTP_PASSWORD_12', 'PRINTIPP_HOST', 'ASTERISK_HOST',"
        " 'ADHERENT_MAILMAN_ADMINPW']) AS name",
        "INSERT INTO llx_oauth_token (service, tokenstring, fk_user) VALUES ('dolibarr_rest_api', 'prod-key', 1)",
    )
    return side


@pytest.fixture
def connection(copy: Side) -> Iterator[SandboxConnection]:
    with copy.sandbox.connect() as connection:
        yield connection


def found_open(copy: Side) -> set[str]:
    return {part for part, statement in OPEN.items() if copy.values(statement)}


def impose(connection: SandboxConnection, copy: Side, *parts: Part) -> dict[str, int]:
    with as_owner(connection, copy.role):
        return impose_quarantine(connection, parts or PARTS)


def check(connection: SandboxConnection, copy: Side, *parts: Part) -> None:
    with as_owner(connection, copy.role):
        check_quarantine(connection, parts or PARTS, agent="agent", name="the sandbox")


def test_it_closes_all_ways_that_prod_has(connection: SandboxConnection, copy: Side) -> None:
    assert found_open(copy) == set(get_args(Part))
    counts = impose(connection, copy)
    assert found_open(copy) == set()
    assert counts.keys() == set(PARTS)
    assert all(counts.values())
    check(connection, copy)
    assert sum(impose(connection, copy).values()) == 0


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_its_own(connection: SandboxConnection, copy: Side, part: Part) -> None:
    impose(connection, copy, part)
    assert found_open(copy) == set(PARTS) - {part}
    check(connection, copy, part)
    with pytest.raises(QuarantineError) as caught:
        check(connection, copy)
    named = {line.strip().partition(":")[0] for line in str(caught.value).splitlines() if line.startswith("  ")}
    assert named - {"→ Reset it"} == set(PARTS) - {part}


def test_no_company_overrides_it(connection: SandboxConnection, copy: Side) -> None:
    impose(connection, copy)
    # Dolibarr reads the rows of all companies (0), then those of its own, which win.
    rows = "SELECT entity || '=' || value FROM llx_const WHERE name = 'MAIN_DISABLE_ALL_MAILS'"
    assert copy.values(rows) == ["0=1"]


@pytest.mark.parametrize(
    ("part", "undone"),
    [
        ("mail", "INSERT INTO llx_const (name, entity, value) VALUES ('MAIN_DISABLE_ALL_MAILS', 3, '0')"),
        ("mail", "DELETE FROM llx_const WHERE name = 'MAIN_DISABLE_ALL_MAILS'"),
        ("cron", "UPDATE llx_cronjob SET status = 1 WHERE rowid = 1"),
        ("api-keys", "UPDATE llx_user SET api_key = 'again' WHERE login = 'alice'"),
        ("banner", "UPDATE llx_const SET value = 'Dolibarr' WHERE name = 'MAIN_APPLICATION_TITLE'"),
    ],
)
def test_it_is_seen_when_it_does_not_hold(connection: SandboxConnection, copy: Side, part: str, undone: str) -> None:
    impose(connection, copy)
    copy.execute(undone)
    with pytest.raises(QuarantineError, match=f"  {part}: llx_.*, 1 row\n"):
        check(connection, copy)


@pytest.mark.parametrize("in_tokens", [False, True])
def test_the_agents_own_key_is_none_of_prods(connection: SandboxConnection, copy: Side, in_tokens: bool) -> None:
    impose(connection, copy)
    copy.execute("INSERT INTO llx_user (login, api_key) VALUES ('agent', 'its-own')")
    if in_tokens:
        copy.execute(
            "INSERT INTO llx_oauth_token (service, fk_user)"
            " SELECT 'dolibarr_rest_api', rowid FROM llx_user WHERE login = 'agent'"
        )
    check(connection, copy)


def test_what_is_no_dolibarrs_is_not_said_to_be_quarantined(connection: SandboxConnection, copy: Side) -> None:
    impose(connection, copy)
    copy.execute("ALTER TABLE llx_const RENAME TO erp_const")
    with pytest.raises(QuarantineError, match=r"no table public\.llx_const\n.*begin with llx_"):
        check(connection, copy)


def test_what_a_version_lacks_is_passed_over(connection: SandboxConnection, copy: Side) -> None:
    gone = sorted(tables_of_quarantine(PARTS) - {"llx_const", "llx_user"})
    copy.execute(f"DROP TABLE IF EXISTS {', '.join(gone)}", "ALTER TABLE llx_user DROP COLUMN api_key")
    counts = impose(connection, copy)
    assert counts["webhooks"] == counts["collectors"] == 0
    assert counts["mail"] > 0
    check(connection, copy)


def test_new_constants_take_keys_that_are_free(connection: SandboxConnection, copy: Side) -> None:
    # Prod's sequences are wrong at times.
    copy.execute("SELECT setval('llx_const_rowid_seq', 1, false)")
    impose(connection, copy)
    copy.execute("INSERT INTO llx_const (name, value) VALUES ('LATER', '1')")
    assert copy.values("SELECT count(*) - count(DISTINCT rowid) FROM llx_const") == [0]


def test_the_names_in_settings_are_the_parts() -> None:
    from pytest_erp_sandbox.settings import Settings

    def parts(value: Any) -> Any:
        return Settings(demo=True, quarantine=value).quarantine

    assert parts(True) == parts("true") == PARTS
    assert parts(False) == parts("false") == parts([]) == ()
    assert parts(["mail", "cron"]) == parts("mail, cron") == ("mail", "cron")
    for wrong in ("mails", ["cron", "e-mail"], 7, [1]):
        with pytest.raises(ValueError, match="quarantine"):
            parts(wrong)
