from __future__ import annotations

from pathlib import Path

import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.archive import Archive
from pytest_erp_sandbox.postgres.connection import as_owner
from pytest_erp_sandbox.postgres.extensions import (
    Extension,
    create_extensions,
    extensions_of_prod,
    trusted_extensions,
    uncreatable_extensions,
)
from pytest_erp_sandbox.postgres.lease import Lease
from pytest_erp_sandbox.postgres.restore import restore
from pytest_erp_sandbox.postgres.wipe import wipe

from .fingerprint import fingerprint
from .pairs import PATIENCE, Side, dump, leased, make_prod, make_sandbox, toolset

USE = [
    "CREATE EXTENSION pg_trgm",
    "CREATE EXTENSION citext",
    "CREATE EXTENSION hstore",
    "CREATE EXTENSION earthdistance CASCADE",
    "CREATE TABLE party (name text, mail citext)",
    "CREATE INDEX by_name ON party USING gin (name gin_trgm_ops)",
    "INSERT INTO party VALUES ('Somebody', 'A@b.c')",
]
UNTRUSTED = "pageinspect"


@pytest.fixture(scope="module")
def prod(server: Server) -> Side:
    made = make_prod(server)
    made.administrate(*USE, 'ALTER TABLE party OWNER TO "' + made.role + '"', f"CREATE EXTENSION {UNTRUSTED}")
    made.execute("CREATE VIEW by_page AS SELECT page_checksum(NULL::bytea, 0)")
    return made


def extensions(side: Side) -> dict[object, object]:
    names = side.values("SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")
    owners = side.values("SELECT extowner::regrole::text FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname")
    return dict(zip(names, owners, strict=True))


def test_prods_extensions_and_whether_they_are_needed(prod: Side) -> None:
    with prod.prod.connect() as connection:
        found = {each.name: each for each in extensions_of_prod(connection)}

    assert {name for name, each in found.items() if each.needed} == {"pg_trgm", "citext", UNTRUSTED}
    assert found.keys() == {"pg_trgm", "citext", "hstore", "earthdistance", "cube", UNTRUSTED}
    assert found["pg_trgm"].schema == "public"


def test_no_extension_needs_itself(server: Server) -> None:
    prod = make_prod(server)
    there = prod.values("SELECT name::text FROM pg_available_extensions WHERE name <> 'plpgsql'")
    prod.administrate(*(f'CREATE EXTENSION IF NOT EXISTS "{name}" CASCADE' for name in there))

    with prod.prod.connect() as connection:
        found = extensions_of_prod(connection)

    assert len(found) == len(there) > 10
    assert [each.name for each in found if each.needed] == []


def test_trusted_ones_come_along_by_themselves_again_and_again(server: Server, prod: Side, tmp_path: Path) -> None:
    sandbox = make_sandbox(server)
    archive = dump(prod, tmp_path)
    with prod.prod.connect() as connection:
        names = [each.name for each in extensions_of_prod(connection)]

    with leased(sandbox) as lease:
        for _ in range(2):
            reset(lease, archive, names)

            assert extensions(sandbox).keys() >= {"pg_trgm", "citext", "hstore"}
            assert UNTRUSTED not in extensions(sandbox)
            assert set(extensions(sandbox).values()) == {f'"{sandbox.role}"'}
            assert rows(sandbox) == rows(prod)
            assert sandbox.values("SELECT count(*) FROM party WHERE mail = 'a@B.C'") == [1]


def reset(lease: Lease, archive: Archive, names: list[str]) -> None:
    wipe(lease, lock_timeout=PATIENCE)
    with as_owner(lease.connection, lease.database.role):
        create_extensions(lease.connection, names)
    restore(
        lease,
        archive,
        toolset(lease.connection.info.server_version // 10000),
        jobs=2,
        leave_out=["public.by_page"],
        on_progress=lambda _done, _size: None,
    )


def rows(side: Side) -> str:
    return fingerprint(side.server.dsn(side.name))["rows of party"]


def test_what_is_there_already_stays_its_owners(server: Server, prod: Side, tmp_path: Path) -> None:
    sandbox = make_sandbox(server)
    sandbox.administrate("CREATE EXTENSION pg_trgm")

    with leased(sandbox) as lease:
        reset(lease, dump(prod, tmp_path), ["pg_trgm", "citext"])

    assert extensions(sandbox) == {"citext": f'"{sandbox.role}"', "pg_trgm": "postgres"}


def test_needed_ones_that_only_a_superuser_creates_are_named(server: Server, prod: Side) -> None:
    sandbox = make_sandbox(server)
    with prod.prod.connect() as connection:
        wanted = extensions_of_prod(connection)
    with sandbox.sandbox.connect() as connection:
        assert uncreatable_extensions(connection, wanted) == [UNTRUSTED]
        sandbox.administrate(f"CREATE EXTENSION {UNTRUSTED}")
        assert uncreatable_extensions(connection, wanted) == []


def test_one_in_another_schema_than_prods_is_of_no_use(server: Server) -> None:
    sandbox = make_sandbox(server)
    with sandbox.sandbox.connect() as connection:
        assert "citext" in trusted_extensions(connection)
        assert uncreatable_extensions(connection, [Extension("citext", needed=True, schema="tools")]) == ["citext"]
        assert uncreatable_extensions(connection, [Extension("citext", needed=False, schema="tools")]) == []
        assert uncreatable_extensions(connection, [Extension("citext", needed=True)]) == []

        sandbox.administrate("CREATE SCHEMA tools", "CREATE EXTENSION citext SCHEMA tools")
        assert uncreatable_extensions(connection, [Extension("citext", needed=True, schema="tools")]) == []
        assert uncreatable_extensions(connection, [Extension("citext", needed=True, schema="public")]) == ["citext"]
