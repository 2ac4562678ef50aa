from __future__ import annotations

import math
from datetime import date
from decimal import Decimal

import pytest

from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres.changes import Change, Unseen, read_changes

from .rewinding import ROLE, JournalledSandbox

MADE = """
CREATE TABLE party (
    rowid serial PRIMARY KEY, name text, amount numeric(24, 8), born date, tags text[],
    twice numeric GENERATED ALWAYS AS (amount * 2) STORED
);
INSERT INTO party (name, amount, born, tags)
SELECT 'party ' || i, i, date '2026-03-04', ARRAY['a', NULL] FROM generate_series(1, 5) AS i;
CREATE TABLE bag (a int, b float8);
INSERT INTO bag VALUES (1, 1), (1, 1), (2, 'NaN')
"""


@pytest.fixture(params=[2**40, -1], ids=["as text", "typed"])
def sandbox(adopted: JournalledSandbox, request: pytest.FixtureRequest) -> JournalledSandbox:
    adopted.clear()
    adopted.journal(MADE, large=request.param)
    return adopted


def changes(sandbox: JournalledSandbox) -> tuple[Change, ...]:
    found = read_changes(sandbox.connection, ROLE)
    assert found.unseen == ()
    return found.changes


def test_nothing_changed(sandbox: JournalledSandbox) -> None:
    assert changes(sandbox) == ()


def test_rows_have_what_they_were_and_what_they_are_in_python_s_types(sandbox: JournalledSandbox) -> None:
    sandbox.happen(
        "SET datestyle = 'SQL, DMY'; UPDATE party SET name = 'twice' WHERE rowid = 2",
        "UPDATE party SET name = 'changed', born = NULL WHERE rowid = 2",
        "DELETE FROM party WHERE rowid = 3",
        "INSERT INTO party (name, amount) VALUES ('new', 1.5)",
    )
    before = {"amount": Decimal(2), "born": date(2026, 3, 4), "tags": ["a", None], "name": "party 2", "rowid": 2}
    updated, deleted, inserted = changes(sandbox)
    assert updated == Change("party", {"rowid": 2}, before, {**before, "name": "changed", "born": None})
    assert updated.columns == ("name", "born")
    assert (deleted.kind, deleted.key, deleted.after) == ("deleted", {"rowid": 3}, None)
    assert deleted.before == {**before, "amount": Decimal(3), "name": "party 3", "rowid": 3}
    assert (inserted.kind, inserted.key, inserted.before) == ("inserted", {"rowid": 6}, None)
    assert inserted.after == {"amount": Decimal("1.5"), "born": None, "tags": None, "name": "new", "rowid": 6}


def test_who_has_locked_a_changed_table_for_himself_is_named(sandbox: JournalledSandbox) -> None:
    sandbox.happen("UPDATE party SET name = 'x'")
    with sandbox.application() as application:
        application.execute("BEGIN; LOCK TABLE party")
        pid = application.info.backend_pid
        with pytest.raises(PostgresError, match=rf"others have locked tables for themselves\n  pid {pid}, "):
            read_changes(sandbox.connection, ROLE)
    assert len(changes(sandbox)) == 5


def test_what_was_changed_back_is_not_a_change(sandbox: JournalledSandbox) -> None:
    sandbox.happen(
        "UPDATE party SET name = 'x' WHERE rowid = 1",
        "UPDATE party SET name = 'party 1' WHERE rowid = 1",
        "INSERT INTO party (name) VALUES ('n')",
        "DELETE FROM party WHERE name = 'n'",
        "DELETE FROM bag WHERE a = 2",
        "INSERT INTO bag VALUES (2, 'NaN')",
    )
    assert changes(sandbox) == ()


def test_a_changed_key_is_a_row_gone_and_a_row_come(sandbox: JournalledSandbox) -> None:
    sandbox.happen("UPDATE party SET rowid = 50 WHERE rowid = 5")
    assert [(change.kind, change.key) for change in changes(sandbox)] == [
        ("deleted", {"rowid": 5}),
        ("inserted", {"rowid": 50}),
    ]


def test_rows_without_a_key_have_gone_and_come(sandbox: JournalledSandbox) -> None:
    sandbox.happen("UPDATE bag SET a = 5 WHERE a = 1", "DELETE FROM bag WHERE a = 2")
    found = sorted(changes(sandbox), key=lambda change: (change.kind, str(change.before)))
    assert [(change.kind, change.key) for change in found] == [("deleted", None)] * 3 + [("inserted", None)] * 2
    assert [change.before for change in found[:2]] == [{"a": 1, "b": 1.0}] * 2
    assert found[2].before is not None
    assert math.isnan(found[2].before["b"])
    assert [change.after for change in found[3:]] == [{"a": 5, "b": 1.0}] * 2


def test_what_is_rewound_is_no_longer_a_change(sandbox: JournalledSandbox) -> None:
    sandbox.happen("UPDATE party SET name = 'x'; DELETE FROM bag")
    sandbox.rewind()
    assert changes(sandbox) == ()


def test_what_cannot_be_seen_is_said(adopted: JournalledSandbox) -> None:
    adopted.clear()
    adopted.journal(MADE, "CREATE TABLE heir () INHERITS (party)")
    adopted.happen("INSERT INTO heir (name) VALUES ('x')")
    found = read_changes(adopted.connection, ROLE)
    assert (found.changes, found.unseen) == ((), (Unseen("heir", "it inherits, or is inherited from"),))


def test_no_journal(adopted: JournalledSandbox) -> None:
    adopted.clear()
    with pytest.raises(PostgresError, match="no journal"):
        read_changes(adopted.connection, ROLE)


def test_only_some_tables(sandbox: JournalledSandbox) -> None:
    sandbox.happen("UPDATE party SET name = 'x' WHERE rowid = 1; DELETE FROM bag WHERE a = 2")
    found = read_changes(sandbox.connection, ROLE, tables=["bag"])
    assert [(change.table, change.kind) for change in found] == [("bag", "deleted")]


def test_more_than_asked_for_are_counted(sandbox: JournalledSandbox) -> None:
    sandbox.happen("INSERT INTO party (name) SELECT 'x' FROM generate_series(1, 50)")
    found = read_changes(sandbox.connection, ROLE, limit=20)
    assert (len(found), found.omitted) == (20, 30)
    assert [change.key for change in found][:2] == [{"rowid": 6}, {"rowid": 7}]
    assert len(read_changes(sandbox.connection, ROLE, limit=None)) == 50


def test_times_that_python_does_not_have_are_text(adopted: JournalledSandbox) -> None:
    adopted.clear()
    adopted.journal("CREATE TABLE t (id int PRIMARY KEY, d date, ts timestamptz, ti time, iv interval)")
    adopted.happen("INSERT INTO t VALUES (1, 'infinity', '-infinity', '24:00', '99999999 years')")
    (change,) = read_changes(adopted.connection, ROLE)
    assert change.after == {"id": 1, "d": "infinity", "ts": "-infinity", "ti": "24:00:00", "iv": "99999999 years"}


@pytest.mark.parametrize("happened", ["TRUNCATE bag", "ALTER TABLE bag ADD COLUMN more int"])
def test_what_was_defined_anew_is_said(sandbox: JournalledSandbox, happened: str) -> None:
    sandbox.happen(happened)
    (unseen,) = read_changes(sandbox.connection, ROLE).unseen
    assert unseen.what == "the catalogue"
    assert "public.bag" in unseen.reason


@pytest.mark.parametrize(
    "happened",
    [
        ["ALTER TABLE party RENAME name TO nom", "UPDATE party SET born = NULL"],
        [
            "ALTER TABLE party RENAME name TO nom",
            "UPDATE party SET born = NULL",
            "ALTER TABLE party RENAME nom TO name",
        ],
        [
            "ALTER TABLE party DROP name",
            "UPDATE party SET born = NULL",
            "ALTER TABLE party ADD name text DEFAULT 'new'",
        ],
        ["ALTER TABLE party ALTER rowid TYPE text", "UPDATE party SET rowid = 'abc', born = NULL WHERE rowid = '1'"],
        [
            "UPDATE party SET born = NULL",
            "DROP TABLE party",
            "CREATE TABLE party (rowid serial PRIMARY KEY, name text, amount numeric, born date, tags text[])",
        ],
        ["ALTER TABLE party RENAME rowid TO id", "UPDATE party SET born = NULL"],
        ["ALTER TABLE party DROP COLUMN name", "UPDATE party SET born = NULL"],
        ["ALTER TABLE party DROP COLUMN rowid", "UPDATE party SET born = NULL"],
        ["UPDATE party SET born = NULL", "DROP TABLE party"],
    ],
    ids=lambda happened: "; ".join(happened),
)
def test_what_was_written_to_a_table_that_was_defined_anew_is_not_known(
    sandbox: JournalledSandbox, happened: list[str]
) -> None:
    sandbox.happen(*happened, "UPDATE bag SET a = 9 WHERE a = 2")
    found = read_changes(sandbox.connection, ROLE)
    assert [(change.table, change.kind) for change in found] == [("bag", "deleted"), ("bag", "inserted")]
    catalogue, party = found.unseen
    assert (catalogue.what, party.what) == ("the catalogue", "party")
    assert party.reason == "it was dropped or rewritten, or columns that it had were defined anew"


def test_of_a_table_that_has_a_new_column_the_others_are_known(sandbox: JournalledSandbox) -> None:
    sandbox.happen(
        "ALTER TABLE party ADD COLUMN more int", "UPDATE party SET name = 'changed', more = 1 WHERE rowid = 1"
    )
    (change,) = read_changes(sandbox.connection, ROLE)
    assert (change.kind, change.key, change.columns) == ("updated", {"rowid": 1}, ("name",))


def test_a_lost_line_is_said(sandbox: JournalledSandbox) -> None:
    sandbox.happen("UPDATE bag SET a = 9 WHERE a = 2")
    sandbox.admin.execute("DELETE FROM erp_sandbox_journal.rows")
    assert "the journal" in [unseen.what for unseen in read_changes(sandbox.connection, ROLE).unseen]


def test_the_application_goes_on_meanwhile(sandbox: JournalledSandbox) -> None:
    with sandbox.application() as application, application.transaction():
        application.execute("UPDATE party SET name = 'x' WHERE rowid = 1")
        assert changes(sandbox) == ()
    assert len(changes(sandbox)) == 1
