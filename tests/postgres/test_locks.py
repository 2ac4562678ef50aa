from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.locks import lock_slots, locks_to_wipe

from ..servers import connect, run

ROLE = "locks_role"
DATABASE = "locks"

Connection = psycopg.Connection[tuple[Any, ...]]

DOLIBARR_SHAPED = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.tms = now(); RETURN NEW; END';
DO $$ BEGIN
    FOR i IN 1..40 LOOP
        EXECUTE format('CREATE TABLE llx_%s (rowid serial PRIMARY KEY, ref varchar(30) NOT NULL UNIQUE,'
            ' fk_a integer REFERENCES llx_%s DEFERRABLE, note text, tms timestamp DEFAULT now())',
            i, greatest(i / 2, 1));
        EXECUTE format('CREATE INDEX ON llx_%s (tms)', i);
        EXECUTE format('CREATE TRIGGER touched BEFORE UPDATE ON llx_%s FOR EACH ROW EXECUTE FUNCTION touch()', i);
    END LOOP;
END $$
"""
VARIED = """
CREATE TABLE llx_1 (id serial PRIMARY KEY, ref text);
CREATE VIEW v AS SELECT * FROM llx_1;
CREATE TYPE mood AS ENUM ('fine');
CREATE TABLE parts (id int PRIMARY KEY, how mood) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE EXTENSION citext;
CREATE SCHEMA audit CREATE TABLE log (id int, what text);
SELECT count(lo_create(0)) FROM generate_series(1, 50);
GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
"""


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Server]:
    run(server.dsn(), f"CREATE ROLE {ROLE}", f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    yield server
    run(server.dsn(), f"DROP DATABASE {DATABASE}", f"DROP ROLE {ROLE}")


@pytest.fixture
def connection(database: Server) -> Iterator[Connection]:
    """As the superuser, to a database that the role has nothing in before and after."""
    with connect(database.dsn(DATABASE)) as made:
        yield made
        make(made, f"DROP OWNED BY {ROLE} CASCADE")


def make(connection: Connection, statements: str) -> None:
    with connection.transaction():
        connection.execute(f"SET LOCAL ROLE {ROLE}".encode())
        connection.execute(statements.encode())


def locks_taken(connection: Connection) -> int:
    """How many locks a wipe holds at its end; it is rolled back."""
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL ROLE {ROLE}".encode())
        connection.execute(f"DROP OWNED BY {ROLE} CASCADE".encode())
        row = connection.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("objects", [DOLIBARR_SHAPED, VARIED], ids=["dolibarr", "varied"])
def test_the_estimate_is_what_a_wipe_takes_or_a_little_more(connection: Connection, objects: str) -> None:
    make(connection, objects)
    connection.execute("CREATE VIEW of_superuser AS SELECT * FROM llx_1")

    taken = locks_taken(connection)

    assert taken > 100
    assert taken <= locks_to_wipe(connection, ROLE) <= 1.2 * taken


def test_an_empty_sandbox_takes_next_to_nothing(connection: Connection) -> None:
    assert locks_taken(connection) <= locks_to_wipe(connection, ROLE) < 20


def test_the_server_has_room_for_as_many_locks_as_it_has_slots(connection: Connection) -> None:
    def hold(locks: int) -> None:
        with connection.transaction():
            connection.execute("SELECT count(pg_advisory_xact_lock(i)) FROM generate_series(1, %s) AS i", [locks])

    slots = lock_slots(connection)
    hold(int(0.95 * slots))
    with pytest.raises(psycopg.errors.OutOfMemory):
        hold(5 * slots)
