from __future__ import annotations

import pytest

from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres.connection import as_owner
from pytest_erp_sandbox.postgres.journal import install_journal
from pytest_erp_sandbox.postgres.verify import read_differences

from .rewinding import BASELINE, ROLE, JournalledSandbox

MADE = """
CREATE TABLE party (rowid serial PRIMARY KEY, name text, share float8);
INSERT INTO party (name, share) SELECT 'party ' || i, i / 10.0 FROM generate_series(1, 5) AS i;
CREATE TABLE bag (a int); INSERT INTO bag VALUES (1), (1);
CREATE VIEW names AS SELECT name FROM party;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)
"""


@pytest.fixture
def sandbox(adopted: JournalledSandbox) -> JournalledSandbox:
    adopted.clear()
    adopted.make(MADE)
    install_journal(adopted.connection, ROLE, BASELINE, verifiable=True)
    return adopted


def differences(sandbox: JournalledSandbox) -> tuple[str, ...]:
    return read_differences(sandbox.connection, ROLE)


def test_a_baseline_is_equal_to_itself(sandbox: JournalledSandbox) -> None:
    assert differences(sandbox) == ()


def test_a_rewind_brings_back_what_was_noted(sandbox: JournalledSandbox) -> None:
    sandbox.happen("UPDATE party SET name = 'x'; INSERT INTO party (name) VALUES ('new'); DELETE FROM bag")
    assert differences(sandbox) == (
        'the content of "public"."bag": 0 rows instead of 2',
        'the content of "public"."party": 6 rows instead of 5',
        'the value of "public"."party_rowid_seq" is another',
    )
    sandbox.rewound()
    assert differences(sandbox) == ()


@pytest.mark.parametrize(
    ("happened", "found"),
    {
        "UPDATE party SET share = share + 1e-15 WHERE rowid = 3": 'the content of "public"."party": other rows',
        "UPDATE bag SET a = CASE ctid WHEN '(0,1)' THEN 0 ELSE 2 END": 'the content of "public"."bag": other rows',
        "SELECT setval('party_rowid_seq', 5, false)": 'the value of "public"."party_rowid_seq" is another',
        "ALTER TABLE bag DISABLE TRIGGER erp_sandbox_insert": "trigger erp_sandbox_insert on table"
        " public.bag is another",
        "ALTER TEXT SEARCH CONFIGURATION words DROP MAPPING FOR word": "text search configuration public.words"
        " is another",
        "DROP VIEW names": "view public.names is gone",
        "CREATE INDEX more ON bag (a)": "index public.more is new",
        "ALTER TABLE party ALTER name SET DEFAULT 'x'": "table public.party is another",
        "CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 2'": "function public.one() is another",
        "TRUNCATE bag": 'the content of "public"."bag": 0 rows instead of 2',
    }.items(),
)
def test_each_difference_is_found(sandbox: JournalledSandbox, happened: str, found: str) -> None:
    sandbox.happen("BEGIN; SET datestyle = 'SQL, DMY'; COMMIT", happened)
    assert found in differences(sandbox)


def test_the_session_s_settings_do_not_matter(sandbox: JournalledSandbox) -> None:
    sandbox.connection.execute("SET extra_float_digits = -5; SET search_path = public")
    try:
        assert differences(sandbox) == ()
    finally:
        sandbox.connection.execute("RESET extra_float_digits; RESET search_path")


def test_many_differences_are_counted(sandbox: JournalledSandbox) -> None:
    sandbox.happen(*(f"CREATE TABLE t{number} ()" for number in range(30)))
    found = differences(sandbox)
    assert found[-1] == "and 40 more"
    assert len(found) == 21


def test_what_was_not_noted_cannot_be_compared(adopted: JournalledSandbox) -> None:
    adopted.clear()
    with pytest.raises(PostgresError, match="was not noted"):
        differences(adopted)
    adopted.journal(MADE)
    with pytest.raises(PostgresError, match="was not noted"):
        differences(adopted)


def test_within_a_transaction(adopted: JournalledSandbox) -> None:
    adopted.clear()
    adopted.make(MADE)
    with as_owner(adopted.connection, ROLE):
        adopted.connection.execute("UPDATE party SET name = 'provisioned' WHERE rowid = 1")
        install_journal(adopted.connection, ROLE, BASELINE, verifiable=True)
    adopted.happen("UPDATE party SET name = 'x' WHERE rowid < 3")
    adopted.rewound()
    assert differences(adopted) == ()
    assert adopted.admin.execute("SELECT name FROM party WHERE rowid = 1").fetchone() == ("provisioned",)
