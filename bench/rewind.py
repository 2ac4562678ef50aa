"""Rewinding a sandbox of Dolibarr's shape, and what its journal costs: the measurements."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from statistics import median

import click
import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from pytest_erp_sandbox import demo
from pytest_erp_sandbox.demo.generator import LARGE, SMALL, Size, fill
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.postgres.adoption import adopt
from pytest_erp_sandbox.postgres.connection import SandboxConnection, SandboxDatabase, as_owner
from pytest_erp_sandbox.postgres.journal import drop_journal, install_journal
from pytest_erp_sandbox.postgres.rewind import Fallback, Rewound, rewind

__all__ = ["Figures", "measure"]

Connection = psycopg.Connection[tuple[object, ...]]

_BASELINE = "bench"

# About 100 rows in 5 tables, as a rehearsal leaves them: parents with children, updates, deletes.
_SCENARIO = """
INSERT INTO llx_societe (nom, entity, datec)
SELECT 'Rehearsed ' || i, 1, now() FROM generate_series(1, 20) AS i;
INSERT INTO llx_socpeople (lastname, fk_soc, entity, datec, fk_user_creat)
SELECT 'Rehearsed ' || i, (SELECT max(rowid) FROM llx_societe) - i % 20, 1, now(), NULL
FROM generate_series(1, 50) AS i;
UPDATE llx_societe SET nom = nom || '*' WHERE rowid IN (SELECT rowid FROM llx_societe ORDER BY rowid LIMIT 6);
UPDATE llx_const SET value = value || '1' WHERE rowid IN (SELECT rowid FROM llx_const ORDER BY rowid LIMIT 10);
UPDATE llx_product SET label = label || '*' WHERE rowid IN (SELECT rowid FROM llx_product ORDER BY rowid LIMIT 5);
DELETE FROM llx_user_rights WHERE rowid IN (SELECT rowid FROM llx_user_rights ORDER BY rowid LIMIT 1);
"""
_BULK = "UPDATE llx_facturedet SET description = description || '*', qty = qty + 1 WHERE rowid <= %s"
_SINGLE = "UPDATE llx_societe SET nom = nom || '' WHERE rowid = (SELECT min(rowid) FROM llx_societe)"


@dataclass(frozen=True)
class Figures:
    """Milliseconds, medians; and what the database grew by, in bytes.

    Attributes:
        install: installing the journal.
        nothing: rewinding nothing.
        scenario: rewinding what a rehearsal changed.
        rows: how many rows that were.
        single: an update of one row, without and with the journal.
        bulk: an update of 20,000 rows, without and with the journal, and its rewind.
        first_hundred: of many rewinds in a row, the first hundred, and the last.
        growth: by how many bytes the database grew in them.
    """

    install: float
    nothing: float
    scenario: float
    rows: int
    single: float
    single_journalled: float
    bulk: float
    bulk_journalled: float
    bulk_rewind: float
    first_hundred: float
    last_hundred: float
    growth: int


def measure(connection: SandboxConnection, role: str, writer: Connection, *, rounds: int, many: int) -> Figures:
    """Measure on an adopted sandbox; ``writer`` is the application's session, in autocommit mode."""

    def timed(action: Callable[[], object]) -> float:
        begun = time.perf_counter()
        action()
        return 1000 * (time.perf_counter() - begun)

    def undone() -> float:
        return 1000 * _rewound(connection, role).seconds

    def scenario() -> Iterator[float]:
        writer.execute(_SCENARIO.encode())
        yield undone()

    drop_journal(connection, role)
    bulk_rows = [20_000]
    single = median(timed(lambda: writer.execute(_SINGLE)) for _ in range(20 * rounds))
    bulk = median(timed(lambda: writer.execute(_BULK.encode(), bulk_rows)) for _ in range(rounds))
    install = median(timed(lambda: install_journal(connection, role, _BASELINE)) for _ in range(rounds))
    undone()
    nothing = median(undone() for _ in range(5 * rounds))
    single_journalled = median(timed(lambda: writer.execute(_SINGLE)) for _ in range(20 * rounds))
    undone()
    bulks, rewinds = [], []
    for _ in range(rounds):
        bulks.append(timed(lambda: writer.execute(_BULK.encode(), bulk_rows)))
        rewinds.append(undone())
    writer.execute(_SCENARIO.encode())
    rows = _rewound(connection, role).rows
    size = _size(connection)
    times = [seconds for _ in range(many) for seconds in scenario()]
    return Figures(
        install,
        nothing,
        median(times),
        rows,
        single,
        single_journalled,
        bulk,
        median(bulks),
        median(rewinds),
        median(times[:100]),
        median(times[-100:]),
        _size(connection) - size,
    )


def _rewound(connection: SandboxConnection, role: str) -> Rewound:
    outcome = rewind(connection, role, _BASELINE)
    if isinstance(outcome, Fallback):
        raise SystemExit(f"cannot rewind: {outcome.reason}")
    return outcome


def _size(connection: SandboxConnection) -> int:
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def filled_sandbox(server: Server, name: str, size: Size) -> Iterator[tuple[SandboxConnection, Connection]]:
    """An adopted sandbox of that size; the connection that rewinds it, and the application's."""
    with psycopg.connect(server.dsn().get_secret_value(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(_role(name))))
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(_role(name))))
    database = SandboxDatabase(server.dsn(name), "sandbox.dsn", role=_role(name))
    with database.connect() as connection, psycopg.connect(server.dsn(name).get_secret_value()) as writer:
        with as_owner(connection, database.role):
            adopt(connection)
            for script in ("schema.sql", "data.sql"):
                connection.execute((files(demo) / script).read_bytes())
            fill(connection, **size)
        connection.execute("VACUUM (ANALYZE, FREEZE)")
        writer.autocommit = True
        yield connection, writer


def _role(name: str) -> str:
    return f"bench_{name}_role"


@click.command()
@click.option("--size", type=click.Choice(["small", "large", "both"]), default="both", help="of the sandbox")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--many", type=click.IntRange(min=100), default=1000, help="rewinds in a row", show_default=True)
def main(size: str, rounds: int, many: int) -> None:
    """Measure, and print a column for each size."""
    programs = Path("/usr/lib/postgresql/15/bin")
    folder = server_folder(f"erp-sandbox-bench-rewind-{os.getpid()}")
    sizes = {"small": SMALL, "large": LARGE}
    columns: dict[str, Figures] = {}
    try:
        with Server(folder / "server", programs if programs.exists() else None) as server:
            for name in sizes if size == "both" else [size]:
                with filled_sandbox(server, name, sizes[name]) as (connection, writer):
                    columns[name] = measure(connection, _role(name), writer, rounds=rounds, many=many)
    finally:
        shutil.rmtree(folder)
    table = Table("medians, in milliseconds", *columns)
    for field in fields(Figures):
        table.add_row(
            field.name.replace("_", " "), *(f"{getattr(figures, field.name):.2f}" for figures in columns.values())
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
