from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres.archive import Archive, read_archive

from ..servers import Servers
from .pairs import dump, make_prod, make_side, toolset

OBJECTS = [
    'CREATE TABLE "a b c" (id serial PRIMARY KEY)',
    'CREATE TABLE "two\nlines" (id integer)',
    "CREATE TABLE plain (id integer)",
    "CREATE FUNCTION f(\"char\", integer[]) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "COMMENT ON TABLE plain IS 'here'",
]


def names(archive: Archive, kind: str) -> set[str]:
    return {entry.name for entry in archive.entries if entry.kind == kind and entry.schema == "public"}


@pytest.mark.parametrize("programs", [15, 18])
def test_names_are_read_whatever_is_in_them_or_in_their_owners(servers: Servers, tmp_path: Path, programs: int) -> None:
    archive = dump(make_prod(servers["15"], *OBJECTS), tmp_path, toolset(programs))

    assert (archive.server_major, archive.dump_major) == (15, programs)
    assert names(archive, "TABLE") == {"a b c", "two lines", "plain"}
    assert names(archive, "CONSTRAINT") == {"a b c a b c_pkey"}
    assert names(archive, "FUNCTION") == {'f("char", integer[])'}
    assert names(archive, "COMMENT") == {"TABLE plain"}


def test_what_depends_on_what_is_read(servers: Servers, tmp_path: Path) -> None:
    archive = dump(make_prod(servers["15"], *OBJECTS), tmp_path)

    by_id = {entry.id: entry for entry in archive.entries}
    (key,) = (entry for entry in archive.entries if entry.kind == "CONSTRAINT")
    assert [by_id[each].name for each in key.depends_on] == ["a b c"]


def test_a_dump_of_a_whole_database_in_one_file_is_read_too(servers: Servers, tmp_path: Path) -> None:
    side = make_side(servers["15"], "archive", is_member=True)
    side.execute("CREATE SCHEMA audit", "CREATE TABLE audit.log (id integer)", *OBJECTS)
    file = tmp_path / "whole.dump"
    command = [
        str(toolset(15).program("pg_dump")),
        "-Fc",
        f"--file={file}",
        servers["15"].dsn(side.name).get_secret_value(),
    ]
    subprocess.run(command, check=True)

    archive = read_archive(file, [toolset(15), toolset(18)])

    assert names(archive, "TABLE") == {"a b c", "two lines", "plain"}
    assert {entry.schema for entry in archive.entries if entry.kind == "TABLE"} == {"public", "audit"}


@pytest.mark.parametrize("content", [b"", b"PGDMP", b"SELECT 1;", None])
def test_what_is_no_dump_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "file.dump"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(
        PostgresError, match=rf"^{file} is not a dump that PostgreSQL 18's pg_restore can read: .*\n  → "
    ):
        read_archive(file, [toolset(18)])


def test_a_dump_of_newer_programs_is_refused_with_the_remedy(servers: Servers, tmp_path: Path) -> None:
    archive = dump(make_prod(servers["18"]), tmp_path)

    with pytest.raises(PostgresError, match=r"unsupported version[\s\S]*→ It was written by a newer pg_dump"):
        read_archive(archive.path, [toolset(15)])
