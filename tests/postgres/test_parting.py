from __future__ import annotations

import pytest

from pytest_erp_sandbox.postgres.archive import Archive, Entry
from pytest_erp_sandbox.postgres.parting import part, part_early

from ..servers import Servers
from .pairs import dump, make_prod

OBJECTS = [
    "CREATE TYPE mood AS ENUM ('fine')",
    "CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    *(f"CREATE TABLE plain{n} (id serial PRIMARY KEY, other integer REFERENCES plain{n})" for n in range(20)),
    "INSERT INTO plain3 VALUES (1, 1)",
    "CREATE INDEX ON plain3 (other)",
    "CREATE INDEX ON plain4 (other)",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TRIGGER touching3 BEFORE UPDATE ON plain3 FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE TRIGGER touching4 BEFORE UPDATE ON plain4 FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE MATERIALIZED VIEW gathered AS SELECT * FROM plain4",
    "CREATE UNIQUE INDEX ON gathered (id)",
    "CREATE TABLE moody (id integer, mood mood)",
    "CREATE TABLE counted (id integer DEFAULT one())",
    "CREATE TABLE seen (id integer)",
    "CREATE VIEW sight AS SELECT * FROM seen",
    "CREATE TABLE parent (id integer)",
    "CREATE TABLE child () INHERITS (parent)",
    "CREATE TABLE whole (id integer) PARTITION BY LIST (id)",
    "CREATE TABLE piece PARTITION OF whole DEFAULT",
    "CREATE INDEX ON piece (id)",
    "COMMENT ON TABLE plain7 IS 'seven'",
    "COMMENT ON CONSTRAINT plain7_pkey ON plain7 IS 'its key'",
]


@pytest.fixture(scope="module")
def archive(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return dump(make_prod(servers["15"], *OBJECTS), tmp_path_factory.mktemp("parting"))


@pytest.fixture(scope="module")
def entries(archive: Archive) -> list[Entry]:
    return [entry for entry in archive.entries if entry.schema == "public"]


def names(entries: list[Entry], kind: str) -> set[str]:
    return {entry.name for entry in entries if entry.kind == kind}


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_each_entry_is_in_one_part_and_stays_in_order(entries: list[Entry], parts: int) -> None:
    parted = part(entries, parts)

    assert len(parted) == parts
    places = {entry.id: place for place, entry in enumerate(entries)}
    found = [[places[entry.id] for entry in each] for each in parted]
    assert found == [sorted(each) for each in found]
    assert sorted(place for each in found for place in each) == list(places.values())


def test_tables_are_in_all_parts_with_what_they_are_made_with(entries: list[Entry]) -> None:
    parted = part(entries, 3)

    for each in parted:
        tables = names(each, "TABLE")
        assert len(tables) > 5
        assert {f"plain{n}" for n in range(20)} & tables == {
            name.removesuffix("_id_seq") for name in names(each, "SEQUENCE")
        }
        assert names(each, "SEQUENCE OWNED BY") == names(each, "SEQUENCE")
        assert ("TABLE plain7" in names(each, "COMMENT")) == ("plain7" in tables)


def test_what_needs_more_than_a_table_is_in_the_first(entries: list[Entry]) -> None:
    first, second = part(entries, 2)

    assert names(first, "TABLE") >= {"moody", "counted", "seen", "whole", "piece"}
    assert {entry.kind for entry in second} - {"COMMENT"} == {"TABLE", "SEQUENCE", "SEQUENCE OWNED BY", "DEFAULT"}
    assert "CONSTRAINT plain7_pkey ON plain7" not in names(second, "COMMENT")


def test_tables_of_one_family_are_together(entries: list[Entry]) -> None:
    for each in part(entries, 4):
        assert len({"parent", "child"} & names(each, "TABLE")) in (0, 2)


def test_tables_without_rows_are_known(archive: Archive) -> None:
    without_rows = [entry for entry in archive.entries if entry.id in archive.without_rows]

    assert names(without_rows, "TABLE DATA") == names([*archive.entries], "TABLE DATA") - {"plain3"}
    assert {entry.kind for entry in without_rows} == {"TABLE DATA"}


def test_what_needs_no_rows_is_early(archive: Archive, entries: list[Entry]) -> None:
    early = [entry for each in part_early(entries, archive.without_rows, 2) for entry in each]

    tables = {f"plain{n}" for n in range(20)}
    assert names(early, "SEQUENCE SET") == {f"{table}_id_seq" for table in tables}
    assert names(early, "CONSTRAINT") == {f"{table} {table}_pkey" for table in tables - {"plain3"}}
    assert names(early, "INDEX") == {"plain4_other_idx"}
    assert names(early, "TRIGGER") == {"plain4 touching4"}
    assert names(early, "COMMENT") == {"CONSTRAINT plain7_pkey ON plain7"}
    assert {entry.kind for entry in early} == {"SEQUENCE SET", "CONSTRAINT", "INDEX", "TRIGGER", "COMMENT"}


def test_what_is_early_of_a_table_is_in_one_part(archive: Archive, entries: list[Entry]) -> None:
    parted = part_early(entries, archive.without_rows, 3)

    all_tables = {entry.id for entry in entries if entry.kind == "TABLE"}
    tables = [{table for entry in each for table in entry.depends_on & all_tables} for each in parted]
    assert all(len(each) > 5 for each in tables)
    assert len(set().union(*tables)) == sum(map(len, tables))
