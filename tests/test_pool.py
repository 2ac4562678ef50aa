"""The pool: a sandbox is one scenario's at a time, whoever asks, and free again however that ended."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_erp_sandbox import pool as pool_module
from pytest_erp_sandbox.errors import AgentError, LeaseError, NotASandboxError
from pytest_erp_sandbox.golden import Golden
from pytest_erp_sandbox.postgres.lease import holders

from .estates import BuiltEstate, Project
from .postgres.pairs import eventually
from .runs import Runs
from .servers import connect, run


@pytest.fixture
def runs(estate: BuiltEstate, tmp_path: Path) -> Runs:
    """A project with two sandboxes."""
    return Runs(tmp_path / "project", estate.settings(0, 1))


@pytest.fixture
def golden(runs: Runs) -> Golden:
    return runs.golden()


@pytest.fixture(autouse=True)
def all_are_free_afterwards(estate: BuiltEstate) -> Iterator[None]:
    yield
    for number in (0, 1):
        with estate.database(number).connect() as connection:
            # A closed connection's lock goes with its session, which the server ends a moment later.
            eventually(lambda connection=connection: holders(connection) == [])  # type: ignore[misc]


class TestLeasing:
    def test_gives_each_one_another(self, runs: Runs) -> None:
        pool = runs.pool()
        with pool.lease() as first, pool.lease() as second:
            assert {first.name, second.name} == {"erp-sandbox", "erp-sandbox-2"}

    def test_waits_until_one_is_free_and_tells_who_has_them(self, runs: Runs) -> None:
        mine, theirs = runs.pool(), runs.pool("other")
        got = []
        with theirs.lease() as first, theirs.lease():
            waiter = threading.Thread(target=lambda: got.append(mine._take(mine._place)))
            waiter.start()
            waiter.join(1.5)
            assert got == []
            assert runs.told.lines[0].startswith("waiting for a sandbox\n")
            assert runs.told.lines[0].count("is in use: pid") == 2
            first.close()
            waiter.join(20)
            assert got[0].name == first.name
        got[0].close()

    def test_gives_up_after_the_time_that_is_set(self, runs: Runs) -> None:
        pool, impatient = runs.pool(), runs.pool("other", lease_timeout="1s")
        said = r"no sandbox became free within 0:00:01:\n(.*\n)*.*in use: pid"
        with pool.lease(), pool.lease(), pytest.raises(LeaseError, match=said), impatient.lease():
            pytest.fail("there is none")


class TestItIsFreeAgain:
    def test_when_a_scenario_fails(self, runs: Runs, golden: Golden) -> None:
        with pytest.raises(ZeroDivisionError), runs.pool().rehearsal(golden):
            raise ZeroDivisionError

    def test_when_it_cannot_be_reset(self, estate: BuiltEstate, runs: Runs, golden: Golden) -> None:
        runs.configure({**estate.settings(0, 1), "agent": {"rights": ["no.such"]}})
        with pytest.raises(AgentError), runs.pool().rehearsal(golden):
            pytest.fail("there is no such right")

    def test_when_it_cannot_be_resumed(self, estate: BuiltEstate, runs: Runs) -> None:
        with ExitStack() as stack:
            for number in (0, 1):
                stack.enter_context(estate.unadopted(number))
            with pytest.raises(NotASandboxError), runs.pool().rehearsal(None):
                pytest.fail("it is not a sandbox")

    def test_when_its_mark_cannot_be_read(self, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: object) -> None:
            raise ConnectionError

        monkeypatch.setattr(pool_module, "read_mark", fail)
        with pytest.raises(ConnectionError), runs.pool().lease():
            pytest.fail("it was not leased")


class TestTheErp:
    @pytest.fixture
    def both(self, runs: Runs, golden: Golden) -> Runs:
        """Both sandboxes were reset."""
        pool = runs.pool()
        with pool.rehearsal(golden), pool.rehearsal(golden):
            return runs

    @pytest.fixture
    def swapped(self, both: Runs, estate: BuiltEstate) -> Runs:
        """Two sandboxes, each of which is said to have the other's ERP before it."""
        settings = estate.settings(0, 1)
        first, second = settings["sandboxes"]
        first["erp"]["url"], second["erp"]["url"] = second["erp"]["url"], first["erp"]["url"]
        both.configure(settings)
        return both

    def test_of_another_database_is_refused_before_any_scenario(self, swapped: Runs, golden: Golden) -> None:
        pool = swapped.pool()
        said = r"ERP at http.* answers 401.*\n.*another database than sandbox.dsn"
        for _ in range(2):
            with pytest.raises(AgentError, match=said), pool.rehearsal(golden):
                pytest.fail("the scenario has begun")

    def test_of_another_database_is_refused_without_a_reset_too(self, swapped: Runs) -> None:
        with pytest.raises(AgentError, match="another database"), swapped.pool().rehearsal(None):
            pytest.fail("the scenario has begun")


class TestKept:
    def test_is_not_given_to_the_same_run_again(self, runs: Runs, golden: Golden) -> None:
        pool = runs.pool("mine")
        with pool.rehearsal(golden) as sandbox:
            sandbox.keep("mine")
        for _ in range(2):
            with pool.lease() as other:
                assert other.name != sandbox.name
        assert not pool.all_kept
        with runs.pool("next").lease() as first, runs.pool("next").lease() as second:
            assert sandbox.name in {first.name, second.name}

    def test_all_of_them_leave_nothing_for_this_run(self, runs: Runs, golden: Golden) -> None:
        pool = runs.pool("this one")
        for _ in range(2):
            with pool.rehearsal(golden) as sandbox:
                sandbox.keep("this one")
        with pytest.raises(LeaseError, match="every sandbox is kept"), pool.lease():
            pytest.fail("it is kept")
        assert pool.all_kept
        # Another process of the run finds it out by itself; the next run resets them.
        with pytest.raises(LeaseError, match="every sandbox is kept"), runs.pool("this one").lease():
            pytest.fail("it is kept")
        with runs.pool("next").rehearsal(golden):
            pass


COUNT_HOLDERS = """
import sys
from pathlib import Path
from tests.runs import Runs, Told
runs = Runs.__new__(Runs)
runs.folder, runs.told = Path(sys.argv[1]), Told()
pool = runs.pool(sys.argv[2])
for _ in range(15):
    with pool.lease() as sandbox, sandbox.connect() as connection:
        connection.execute("INSERT INTO holding.holder VALUES (pg_backend_pid())")
        assert connection.execute("SELECT count(*) FROM holding.holder").fetchone() == (1,), "there are two holders"
        connection.execute("DELETE FROM holding.holder")
        connection.execute("INSERT INTO holding.had VALUES (%s)", [int(sys.argv[2])])
"""


def test_no_sandbox_has_two_holders(runs: Runs, estate: BuiltEstate) -> None:
    for number in (0, 1):
        run(
            estate.admin(number),
            "CREATE SCHEMA holding",
            "CREATE TABLE holding.holder (pid integer)",
            "CREATE TABLE holding.had (number integer)",
            "GRANT ALL ON SCHEMA holding TO PUBLIC",
            "GRANT ALL ON ALL TABLES IN SCHEMA holding TO PUBLIC",
        )
    try:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", COUNT_HOLDERS, runs.folder, str(number)],
                cwd=Path(__file__).parents[1],
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        said = [process.communicate(timeout=120)[1] for process in processes]
        assert [process.returncode for process in processes] == [0] * 4, said
        had = 0
        for number in (0, 1):
            with connect(estate.admin(number)) as connection:
                row = connection.execute("SELECT count(*) FROM holding.had").fetchone()
                assert row is not None
                assert row[0] > 0
                had += row[0]
        assert had == 4 * 15
    finally:
        for number in (0, 1):
            run(estate.admin(number), "DROP SCHEMA holding CASCADE")


class TestPytest:
    """Each scenario makes the same third party, and sees one of them."""

    SCENARIOS = ["there is one Acme"] * 8

    def test_two_runs_at_once_share_a_sandbox(self, project: Project) -> None:
        project.scenarios(*self.SCENARIOS)
        processes = [project.start("-p", "no:cacheprovider") for _ in range(2)]
        for process in processes:
            said = process.communicate(timeout=180)[0]
            assert process.returncode == 0, said
            assert "8 passed" in said

    @pytest.mark.parametrize("places", [(0,), (0, 1, 2, 3)], ids=["one sandbox", "four sandboxes"])
    def test_four_workers_share_what_there_is(self, project: Project, places: tuple[int, ...]) -> None:
        project.scenarios(*self.SCENARIOS)
        project.configure(project.estate.settings(*places))
        run = project.run("-n", "4", "-v")
        run.expect(0, passed=8)
