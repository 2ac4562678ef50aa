"""Killed with -9 at any point, leaving its programs behind: the next run finds out, and mends it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pytest_erp_sandbox.demo.estate import PROD_DATABASE
from pytest_erp_sandbox.demo.generator import SMALL, fill
from pytest_erp_sandbox.postgres.adoption import read_mark

from .estates import BuiltEstate
from .postgres.pairs import eventually
from .runs import Runs, estate_on, state_of_sandbox
from .servers import connect


@pytest.fixture(scope="module")
def small() -> Iterator[BuiltEstate]:
    """An estate of Dolibarr's real shape: there is time to be killed in."""
    with estate_on("18", "18", fill=partial(fill, **SMALL)) as built:
        yield built


@pytest.fixture
def runs(small: BuiltEstate, tmp_path: Path) -> Runs:
    return Runs(tmp_path / "project", {**small.settings(), "golden": {"path": tmp_path / "cache"}})


def _count(estate: BuiltEstate, database: str, statement: bytes) -> int:
    server = estate.prod if database == PROD_DATABASE else estate.sandbox
    with connect(server.dsn(database)) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def _dumping_prod(estate: BuiltEstate) -> bool:
    here = b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY %'"
    return _count(estate, PROD_DATABASE, here) > 0


def _indexes(estate: BuiltEstate, at_least: int) -> bool:
    name = estate.estate.sandboxes[0].name
    indexes = b"SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'"
    return _count(estate, name, indexes) >= at_least


def _programs(estate: BuiltEstate) -> bool:
    """Whether a child program's session is at work in the sandbox."""
    name = estate.estate.sandboxes[0].name
    sessions = b"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'erp-sandbox lease %'"
    return _count(estate, name, sessions) >= 2


MOMENTS: dict[str, Callable[[BuiltEstate], bool]] = {
    "while prod is dumped": _dumping_prod,
    "when the first program is in the sandbox": _programs,
    "when its indexes begin": partial(_indexes, at_least=20),
    "when most of its indexes are there": partial(_indexes, at_least=600),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_the_next_run_is_right(runs: Runs, small: BuiltEstate, moment: Callable[[BuiltEstate], bool]) -> None:
    with runs.pool().rehearsal(runs.golden()):
        clean = state_of_sandbox(small, but_for_the_agent=True)
    with connect(small.admin(0)) as connection:
        connection.execute("DROP OWNED BY erp_sandbox_role CASCADE")

    process = runs.start("refresh")
    eventually(lambda: process.poll() is not None or moment(small))
    _kill(process)
    golden = runs.golden(refresh="always")
    with runs.pool().rehearsal(golden) as sandbox:
        assert sandbox.lease.end_earlier_sessions() == 0
        assert state_of_sandbox(small, but_for_the_agent=True) == clean
    assert not list(golden.folder.parent.glob(".making-*"))


def test_a_cut_off_reset_leaves_no_baseline_to_resume(runs: Runs, small: BuiltEstate) -> None:
    golden = runs.golden()
    with runs.pool().rehearsal(golden) as sandbox:
        whole = read_mark(sandbox.lease.connection)
    assert whole is not None
    assert whole.baseline is not None

    process = runs.start("reset")
    eventually(lambda: process.poll() is not None or _baseline_is_gone(runs))
    _kill(process)
    with runs.sandbox() as sandbox, pytest.raises(Exception, match="holds no whole baseline"):
        sandbox.resume()


def _baseline_is_gone(runs: Runs) -> bool:
    with runs.settings().all_sandboxes[0].database().connect() as connection:
        mark = read_mark(connection)
    return mark is not None and mark.baseline is None


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the command alone: what it has started stays."""
    assert process.poll() is None, f"it had ended before it could be killed: {process.communicate()[0]}"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
