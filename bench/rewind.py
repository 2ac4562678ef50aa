"""Rewinding a sandbox of Dolibarr's shape, and what its journal costs: the measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import psycopg

from pytest_erp_sandbox.postgres.connection import SandboxConnection
from pytest_erp_sandbox.postgres.journal import drop_journal, install_journal
from pytest_erp_sandbox.postgres.rewind import rewind

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
    """Milliseconds, medians."""

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
        return 1000 * rewind(connection, role, _BASELINE).seconds

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
    rows = rewind(connection, role, _BASELINE).rows
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


def _size(connection: SandboxConnection) -> int:
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])
