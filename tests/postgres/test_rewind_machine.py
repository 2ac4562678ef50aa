"""A state machine that makes schemas and workloads, rewinds, and compares; and mutants that it must find out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, ClassVar, LiteralString, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from psycopg.pq import TransactionStatus

from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres import journal
from pytest_erp_sandbox.postgres._sql import query
from pytest_erp_sandbox.postgres.rewind import Fallback

from .rewinding import OTHER, ROLE, JournalledSandbox, journalled_sandbox
from .workloads import SETTINGS, TABLES, meddling, schemas, statements

EXAMPLES = int(os.environ.get("ERP_SANDBOX_TEST_EXAMPLES", "100"))

SESSIONS = st.integers(0, 2)


class RewindMachine(RuleBasedStateMachine):
    """Three sessions of the application's write as they like; every now and then it is all undone."""

    sandbox: ClassVar[JournalledSandbox]
    tables: ClassVar[tuple[str, ...]]
    replica: ClassVar[tuple[bool, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.sessions = [self.stack.enter_context(self.sandbox.application(role)) for role in (ROLE, ROLE, OTHER)]
        for session in self.sessions:
            self._settle(session)
        self.is_spoilt = False

    @initialize(data=st.data(), typed=st.booleans(), set_to=st.tuples(*[st.sampled_from(SETTINGS)] * 3))
    def make(self, data: st.DataObject, typed: bool, set_to: tuple[str, ...]) -> None:
        self.sandbox.is_undone_by_a_replica = data.draw(st.sampled_from(self.replica))
        for session, setting in zip(self.sessions, set_to, strict=True):
            session.execute(setting.encode())
            self._settle(session)
        self.made = data.draw(schemas(self.tables))
        self.typed = typed
        self._begin()

    @rule(session=SESSIONS, data=st.data())
    def write(self, session: int, data: st.DataObject) -> None:
        self._run(session, data.draw(statements(self.made)))

    @rule(session=SESSIONS, data=st.data())
    def write_more(self, session: int, data: st.DataObject) -> None:
        for _ in range(3):
            self._run(session, data.draw(statements(self.made)))

    @rule(session=SESSIONS, setting=st.sampled_from(SETTINGS))
    def set(self, session: int, setting: str) -> None:
        self._run(session, setting)
        if setting == "RESET ALL":
            self._settle(self.sessions[session])

    @rule(session=SESSIONS, what=st.sampled_from(["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s"]))
    def transact(self, session: int, what: str) -> None:
        self._run(session, what)

    @rule(data=st.data())
    def meddle(self, data: st.DataObject) -> None:
        idle = [each.info.transaction_status is TransactionStatus.IDLE for each in self.sessions]
        if all(idle) and not self.is_spoilt and data.draw(st.integers(0, 3)) == 0:
            self._run(0, data.draw(meddling(self.made)))
            self.is_spoilt = True

    @rule(data=st.data())
    def rewind_while_somebody_writes(self, data: st.DataObject) -> None:
        self._end_all(data)
        session = self.sessions[data.draw(SESSIONS)]
        session.execute("BEGIN")
        self._run_on(session, data.draw(statements(self.made)))
        if session.execute("SELECT pg_current_xact_id_if_assigned() IS NULL").fetchone() == (True,):
            session.execute("ROLLBACK")
            return
        with pytest.raises(PostgresError, match="not ended their transactions"):
            self.sandbox.rewind(timedelta(milliseconds=5))
        self._run_on(session, data.draw(st.sampled_from(["COMMIT", "ROLLBACK"])))
        self._rewind()

    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        self._end_all(data)
        self._rewind()

    def teardown(self) -> None:
        try:
            if hasattr(self, "made"):
                for session in self.sessions:
                    self._run_on(session, "COMMIT")
                self._rewind()
        finally:
            self.stack.close()

    def _rewind(self) -> None:
        outcome = self.sandbox.rewind()
        if self.is_spoilt:
            assert isinstance(outcome, Fallback)
        elif isinstance(outcome, Fallback):
            assert self._may_fall_back(outcome.reason), outcome.reason
        else:
            self.sandbox.expect_baseline()
            return
        self._begin()

    def _may_fall_back(self, cause: str) -> bool:
        """Whether a restore is due: rows written twice at once, or unique values swapped where foreign keys act."""
        writes_on = re.search("EXECUTE FUNCTION (again|go_on)", " ".join(self.made)) is not None
        return (
            ("wrote a row of public.thing" in cause and writes_on)
            or "wrote a row of public.child" in cause
            or ("duplicate key" in cause and '"child_code_key"' in cause)
        )

    def _begin(self) -> None:
        self.is_spoilt = False
        self.sandbox.clear()
        self.sandbox.journal(*self.made, large=-1 if self.typed else 2**40)

    def _end_all(self, data: st.DataObject) -> None:
        for session in self.sessions:
            self._run_on(session, data.draw(st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"])))

    def _run(self, session: int, statement: str) -> None:
        self._run_on(self.sessions[session], statement)

    def _run_on(self, session: psycopg.Connection[tuple[Any, ...]], statement: str) -> None:
        try:
            session.execute(statement.encode())
        except psycopg.Error:
            # As an application would; half of what it does is wrong here.
            if session.info.transaction_status is TransactionStatus.INERROR:
                session.execute("ROLLBACK")

    def _settle(self, session: psycopg.Connection[tuple[Any, ...]]) -> None:
        session.execute("SET lock_timeout = '5ms'; SET client_min_messages = error")


def run_machine(
    sandbox: JournalledSandbox,
    examples: int,
    tables: tuple[str, ...] = TABLES,
    replica: tuple[bool, ...] = (False, True),
    **more: Any,
) -> None:
    """Rewinds are a replica's, for which foreign keys do not act, or not, or each in turn."""
    attributes = {"sandbox": sandbox, "tables": tables, "replica": replica}
    machine = type("Machine", (RewindMachine,), attributes)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            **more,
        ),
    )


def test_whatever_happened_a_rewind_brings_the_baseline_back(adopted: JournalledSandbox) -> None:
    run_machine(adopted, EXAMPLES)


class Mutant(NamedTuple):
    """A mistake in the SQL, and the table where it tells."""

    file: str
    original: str
    mutated: str
    table: str


MUTANTS = {
    "inserted rows are not journalled": Mutant(
        "journal_writer.sql", "TG_OP = 'INSERT' THEN\n        {new_rows};", "TG_OP = 'INSERT' THEN", "pair"
    ),
    "deleted rows are not journalled": Mutant("journal_writer.sql", "ELSE\n        {old_rows};", "ELSE", "pair"),
    "updated rows are not journalled": Mutant("journal_writer.sql", "{both_rows}", "{new_rows}", "pair"),
    "new keys are not journalled": Mutant("journal_writer.sql", "{both_rows}", "{old_rows}", "pair"),
    "dates are written as the writer likes": Mutant("journal_tables.sql", " SET datestyle = ''ISO, YMD''", "", "thing"),
    "intervals are written as the writer likes": Mutant(
        "journal_tables.sql", " SET intervalstyle = ''postgres''", "", "thing"
    ),
    "floats are written as the writer likes": Mutant("journal_tables.sql", " SET extra_float_digits = 1", "", "thing"),
    "sequences stay": Mutant("rewind.sql", "FROM unnest(moved)", "FROM unnest(moved) WHERE false", "steps"),
    "sequences count as called": Mutant("rewind.sql", "last_value, is_called)", "last_value, true)", "steps"),
    "late writers are not waited for": Mutant(
        "rewind.sql", "PERFORM erp_sandbox_journal.await_writers(patience, grace);", "", "pair"
    ),
    "triggers fire": Mutant("rewind.sql", "WHERE NOT tgisinternal", "WHERE false", "thing"),
    "the catalogue is not looked at": Mutant("rewind.sql", "erp_sandbox_journal.altered(since)", "NULL", "pair"),
    "triggers are not looked at": Mutant(
        "journal.sql", "['pg_trigger', 'oid', 'tgrelid NOT IN ' || temporary],", "", "pair"
    ),
    "tables are not looked at": Mutant("journal.sql", "['pg_class', 'oid', 'oid NOT IN ' || temporary],", "", "pair"),
    "the last image counts": Mutant("undo_keyed.sql", "entry.call\n", "entry.call DESC\n", "pair"),
    "what came is not counted": Mutant("undo_keyed.sql", "WHEN is_new THEN 1", "WHEN is_new THEN 0", "pair"),
    "statements within statements are not doubted": Mutant("journal.sql", "bool_or(calls.nested)", "false", "thing"),
    "what foreign keys write is not doubted": Mutant(
        "journal_tables.sql", "coalesce(obeys, false) AS obeys", "false AS obeys", "child"
    ),
    "foreign keys do not wait": Mutant("rewind.sql", "SET CONSTRAINTS ALL DEFERRED;", "", "line"),
    "foreign keys that act are as others": Mutant(
        "journal_tables.sql", "coalesce(entangled, false) AS entangled", "false AS entangled", "child"
    ),
    "identities are drawn anew": Mutant("undo_keyed.sql", "OVERRIDING SYSTEM VALUE", "", "made"),
    "copies are not counted": Mutant("undo_keyless.sql", "AND surplus.copy <= surplus.net", "", "bag"),
    "unique values are not swapped back": Mutant(
        "rewind.sql", "unique_violation OR exclusion_violation", "division_by_zero", "slot"
    ),
    "nothing ever happened": Mutant("rewind.sql", "baseline.since = 1", "true", "pair"),
    "the journal is not emptied": Mutant("rewind.sql", "DELETE FROM erp_sandbox_journal.rows;", "", "pair"),
}


@pytest.fixture
def mutant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mutant:
    """A mutant, in the place of the scripts for as long as the test runs."""
    made = MUTANTS[request.param]
    assert made.original in query(journal.__package__, made.file)

    def mutant_query(package: str, file: str) -> LiteralString:
        text = query(package, file)
        return text.replace(made.original, made.mutated) if file == made.file else text

    monkeypatch.setattr(journal, "query", mutant_query)
    return made


@pytest.mark.parametrize("mutant", MUTANTS, indirect=True)
def test_a_mutant_is_found_out(adopted_15: JournalledSandbox, mutant: Mutant) -> None:
    # Found, and not found again: what a mutant has left in the database.
    with pytest.raises((AssertionError, pytest.fail.Exception, Flaky)) as found:
        run_machine(
            adopted_15,
            300,
            (mutant.table,),
            (False,),
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            verbosity=Verbosity.quiet,
        )
    print(found.value)  # noqa: T201


@pytest.mark.parametrize("table", sorted({mutant.table for mutant in MUTANTS.values()}))
def test_without_a_mutant_nothing_is_found(adopted_15: JournalledSandbox, table: str) -> None:
    run_machine(adopted_15, 20, (table,), derandomize=True, database=None)


@pytest.fixture(scope="module")
def adopted_15(servers: Any) -> Iterator[JournalledSandbox]:
    with journalled_sandbox(servers["15"]) as made:
        yield made
