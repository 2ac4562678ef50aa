"""Rewinding a sandbox of Dolibarr's shape, what its journal costs, and other ways to put a database back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import psycopg
from psycopg import sql

from pytest_erp_sandbox.postgres.connection import SandboxConnection
from pytest_erp_sandbox.postgres.journal import drop_journal, install_journal
from pytest_erp_sandbox.postgres.lease import Lease
from pytest_erp_sandbox.postgres.rewind import Fallback, Rewound, rewind

from .resets import Bench

__all__ = ["Figures", "measure"]

_ROUND_TRIP = 0.5
"""Milliseconds: between an application and its database in one cluster."""

_INSTALLS = 9

_TURNS = 60
"""Of writing single rows without the journal, and with it: they differ by more from one second to the next."""

# About 100 rows in 5 tables, as a rehearsal leaves them: parents with children, updates, a delete.
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
# The same undone by somebody who knows all of it beforehand, and proves nothing: no general way can be faster.
_BY_HAND = """
BEGIN;
SET LOCAL synchronous_commit = off;
DELETE FROM llx_socpeople WHERE rowid > {people};
DELETE FROM llx_societe WHERE rowid > {parties};
UPDATE llx_societe SET nom = rtrim(nom, '*') WHERE rowid IN (SELECT rowid FROM llx_societe ORDER BY rowid LIMIT 6);
UPDATE llx_const SET value = left(value, -1) WHERE rowid IN (SELECT rowid FROM llx_const ORDER BY rowid LIMIT 10);
UPDATE llx_product SET label = rtrim(label, '*') WHERE rowid IN (SELECT rowid FROM llx_product ORDER BY rowid LIMIT 5);
INSERT INTO llx_user_rights SELECT * FROM kept;
COMMIT;
"""
_BULK = "UPDATE llx_facturedet SET description = description || '*', qty = qty + 1 WHERE rowid <= 20000"
_FEW = "UPDATE llx_facturedet SET description = description || '*' WHERE rowid <= 10"
_SINGLE = "UPDATE llx_societe SET nom = nom || '' WHERE rowid = (SELECT min(rowid) FROM llx_societe)"


@dataclass(frozen=True)
class Figures:
    """Medians in milliseconds; ``rows`` in rows, ``growth`` in bytes.

    Attributes:
        scenario: rewinding what a rehearsal changed, many times in a row.
        rows: how many rows that were.
        first: the first hundred of them; and ``last``, the last.
        growth: by how much the database grew in the second half of them.
        by_hand: the same undone by who knows what it was, without a journal: what PostgreSQL itself takes.
        replica: the same in a session with ``session_replication_role = replica``.
        nothing: rewinding nothing.
        bulk: an update of many rows, without a journal.
        bulk_cost: how many times as long it takes with the journal; and ``bulk_rewind_cost``, its rewind.
        single_cost: by what share the journal makes an update of one row slower, at a round trip of half a millisecond.
        install: installing the journal.
        template: ``CREATE DATABASE … TEMPLATE`` and ``DROP DATABASE``.
    """

    scenario: float
    rows: int
    first: float
    last: float
    growth: int
    by_hand: float
    replica: float
    nothing: float
    bulk: float
    bulk_cost: float
    bulk_rewind_cost: float
    single_cost: float
    install: float
    template: float


def measure(bench: Bench, *, rounds: int, many: int) -> Figures:
    """Measure in the sandbox as it is after a reset.

    Args:
        bench: a sandbox, and its server.
        rounds: of what takes long.
        many: rewinds in a row.
    """
    place, lease = bench.estate.sandboxes[0], bench.sandbox.lease
    with bench.sandbox.connect() as writer:
        rewinds = _Rewinds(lease, place.role, writer)
        drop_journal(lease.connection, place.role)
        round_trip = _median(200, lambda: writer.execute(""))
        by_hand = rewinds.by_hand(60)
        many_rows = [rewinds.many_rows() for _ in range(rounds)]
        installs = [rewinds.install() for _ in range(max(rounds, _INSTALLS))]
        single_cost = rewinds.single_cost(round_trip)
    # As it is from the first scenario on: restored, and journalled once.
    baseline = bench.begin_rewinding()
    with bench.sandbox.connect() as writer:
        rewinds = _Rewinds(lease, place.role, writer, baseline)
        nothing = _median(50, rewinds.undo)
        early = rewinds.many(many // 2)
        size = _size(writer)
        late = rewinds.many(many // 2)
        growth = _size(writer) - size
        rows = rewinds.scenario().rows
        with _granted(bench, lease.connection.info.user):
            lease.forget_plans()
            with_replica = rewinds.many(60)[10:]
    return Figures(
        scenario=median(early + late),
        rows=rows,
        first=median(early[:100]),
        last=median(late[-100:]),
        growth=growth,
        by_hand=by_hand,
        replica=median(with_replica),
        nothing=nothing,
        bulk=median(each.plain for each in many_rows),
        bulk_cost=median(each.journalled / each.plain for each in many_rows),
        bulk_rewind_cost=median(each.rewind / each.plain for each in many_rows),
        single_cost=single_cost,
        install=median(installs),
        template=_template(bench, rounds),
    )


@contextmanager
def _granted(bench: Bench, login: str) -> Iterator[None]:
    """The right to be a replica, which is the whole server's to give."""
    with psycopg.connect(bench.server.dsn().get_secret_value(), autocommit=True) as admin:
        parameter, to = sql.SQL("SET ON PARAMETER session_replication_role"), sql.Identifier(login)
        admin.execute(sql.SQL("GRANT {} TO {}").format(parameter, to))
        try:
            yield
        finally:
            admin.execute(sql.SQL("REVOKE {} FROM {}").format(parameter, to))


@dataclass(frozen=True)
class _ManyRows:
    """An update without a journal, with it, and its rewind, in milliseconds."""

    plain: float
    journalled: float
    rewind: float


@dataclass
class _Rewinds:
    """The sandbox's own sessions, and the application's."""

    lease: Lease
    role: str
    writer: SandboxConnection
    baseline: str = "bench"

    # What is compared is measured by turns: a machine that others use, too, is slow for a while.

    def single_cost(self, round_trip: float) -> float:
        """What the journal adds to a row's update, as a share of it."""
        triggers = self.writer.execute(
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger"
            " WHERE tgrelid = 'llx_societe'::regclass AND tgname LIKE 'erp_sandbox_%'"
        ).fetchall()
        off = "; ".join(f"DROP TRIGGER {name} ON llx_societe" for name, _ in triggers)
        on = "; ".join(f"{made}; ALTER TABLE llx_societe ENABLE ALWAYS TRIGGER {name}" for name, made in triggers)
        plain, added = list[float](), list[float]()
        for _ in range(_TURNS):
            self.writer.execute(off.encode())
            plain.append(self._median_of_one())
            self.writer.execute(on.encode())
            added.append(self._median_of_one() - plain[-1])
        # No rewind takes triggers' absence for nothing.
        self.install()
        return median(added) / (median(plain) + max(0.0, _ROUND_TRIP - round_trip))

    def many_rows(self) -> _ManyRows:
        drop_journal(self.lease.connection, self.role)
        plain = _timed(self.write_many)
        self.install()
        return _ManyRows(plain, _timed(self.write_many), _timed(self.undo))

    def install(self) -> float:
        """As after a restore: there is no journal yet."""
        drop_journal(self.lease.connection, self.role)
        self.lease.forget_plans()
        took = _timed(lambda: install_journal(self.lease.connection, self.role, self.baseline))
        # The first of a session plans.
        self.writer.execute(_FEW)
        self.undo()
        return took

    def _median_of_one(self) -> float:
        # A trigger's statements are planned each time until the sixth.
        for _ in range(8):
            self.write_one()
        return _median(10, self.write_one)

    def by_hand(self, times: int) -> float:
        def last(table: str) -> int:
            greatest = sql.SQL("SELECT max(rowid) FROM {}").format(sql.Identifier(table))
            row = self.writer.execute(greatest).fetchone()
            assert row is not None
            return int(row[0])

        undo = _BY_HAND.format(people=last("llx_socpeople"), parties=last("llx_societe")).encode()
        self.writer.execute("CREATE TEMP TABLE kept AS SELECT * FROM llx_user_rights ORDER BY rowid LIMIT 1")
        took = []
        for _ in range(times):
            self.writer.execute(_SCENARIO)
            took.append(_timed(lambda: self.writer.execute(undo)))
        self.writer.execute("DROP TABLE kept")
        return median(took)

    def write_one(self) -> None:
        self.writer.execute(_SINGLE)

    def write_many(self) -> None:
        self.writer.execute(_BULK)

    def undo(self) -> Rewound:
        outcome = rewind(self.lease.undoer, lambda: self.lease.reader, self.role, self.baseline)
        if isinstance(outcome, Fallback):
            raise SystemExit(f"cannot rewind: {outcome.reason}")
        return outcome

    def scenario(self) -> Rewound:
        self.writer.execute(_SCENARIO)
        return self.undo()

    def many(self, times: int) -> list[float]:
        return [1000 * self.scenario().seconds for _ in range(times)]


def _template(bench: Bench, rounds: int) -> float:
    """How long a copy of prod takes, and dropping it again, as the superuser."""
    with psycopg.connect(bench.server.dsn().get_secret_value(), autocommit=True) as admin:

        def copy_and_drop() -> None:
            admin.execute("CREATE DATABASE bench_copy TEMPLATE erp")
            admin.execute("DROP DATABASE bench_copy")

        return _median(rounds, copy_and_drop)


def _median(rounds: int, action: Callable[[], object]) -> float:
    return median(_timed(action) for _ in range(rounds))


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - begun)


def _size(connection: SandboxConnection) -> int:
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])
