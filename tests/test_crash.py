"""kill -9 at any moment: the next run recovers by itself, and nothing of the killed one writes any more."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pytest_erp_sandbox.demo.estate import PROD_DATABASE, PROD_ROLE
from pytest_erp_sandbox.errors import GoldenError

from .estates import BuiltEstate
from .postgres.pairs import eventually, toolset
from .runs import Runs, estate_on, state_of_sandbox
from .servers import connect, run

ROWS, STATEMENTS, AGENT = 42, 43, 44
"""Gates, which are advisory locks: who would pass one, waits as long as the test holds it."""

CROWD = (
    f"SET ROLE {PROD_ROLE}",
    # Only a restore's COPY asks for it: what is there already is not checked again.
    "CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
    " IF starts_with(current_setting('application_name'), 'erp-sandbox lease') THEN"
    f" PERFORM pg_advisory_xact_lock_shared({ROWS}); END IF;"
    " RETURN true; END $$",
    # Without a key: nothing but our own care keeps a second COPY from adding its rows once more.
    "CREATE TABLE llx_crowd (name text CHECK (gate()))",
    "INSERT INTO llx_crowd SELECT 'somebody ' || n FROM generate_series(1, 3) AS n",
    "GRANT SELECT ON llx_crowd TO erp_readers",
    # A restore makes triggers last: the first that comes by this one is who makes the agent.
    "CREATE FUNCTION gate_of_rights() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" PERFORM pg_advisory_xact_lock_shared({AGENT}); RETURN NEW; END $$",
    "CREATE TRIGGER gate BEFORE INSERT ON llx_user_rights FOR EACH ROW EXECUTE FUNCTION gate_of_rights()",
)

LEASED = (
    "SELECT pid, application_name FROM pg_stat_activity WHERE datname = current_database()"
    " AND starts_with(application_name, 'erp-sandbox lease')"
)

DUMPING = b"SELECT pid FROM pg_stat_activity WHERE usename = 'erp_dump' AND wait_event = 'relation'"

Keeper = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module", params=["15", "18"])
def built(request: pytest.FixtureRequest) -> Iterator[BuiltEstate]:
    with estate_on(request.param, request.param) as estate:
        run(estate.prod.dsn(PROD_DATABASE), *CROWD)
        run(
            estate.admin(0),
            "CREATE SCHEMA gates",
            "CREATE FUNCTION gates.gate() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF starts_with(current_setting('application_name'), 'erp-sandbox lease') THEN"
            f" PERFORM pg_advisory_xact_lock_shared({STATEMENTS}); END IF; END $$",
        )
        yield estate


@pytest.fixture
def runs(built: BuiltEstate, tmp_path: Path) -> Runs:
    return Runs(tmp_path / "project", patient(built.settings()))


def patient(settings: dict[str, Any]) -> dict[str, Any]:
    settings["sandboxes"][0]["lock-timeout"] = "60s"
    settings["prod"]["lock-wait-timeout"] = "60s"
    return settings


@pytest.fixture(scope="module")
def clean(built: BuiltEstate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a reset leaves that nobody disturbs."""
    runs = Runs(tmp_path_factory.mktemp("clean"), built.settings())
    golden = runs.golden()
    with runs.sandbox() as sandbox:
        sandbox.reset(golden)
    found = state(built)
    assert found["rows of llx_crowd"].split()[0] == "3"
    return found


def state(built: BuiltEstate) -> dict[str, str]:
    return state_of_sandbox(built, but_for_the_agent=True)


@contextmanager
def closed_gate(built: BuiltEstate, tag: str = "", gate: int = ROWS) -> Iterator[Keeper]:
    """A gate is closed: for statements of that kind, or else for rows of llx_crowd or of the agent's rights.

    Yields:
        A superuser's session in the sandbox.
    """
    with connect(built.admin(0)) as keeper:
        if tag:
            trigger = f"CREATE EVENT TRIGGER gate ON ddl_command_start WHEN TAG IN ('{tag}')"
            keeper.execute(f"{trigger} EXECUTE FUNCTION gates.gate()".encode())
        keeper.execute("SELECT pg_advisory_lock(%s)", [STATEMENTS if tag else gate])
        try:
            yield keeper
        finally:
            open_gate(keeper)
            keeper.execute("DROP EVENT TRIGGER IF EXISTS gate")


def open_gate(keeper: Keeper) -> None:
    keeper.execute("SELECT pg_advisory_unlock_all()")


def waiting(keeper: Keeper, for_what: str = "advisory") -> set[object]:
    """The leases whose sessions wait at the gate, or for the lock on a table (``relation``)."""
    return {name for _, name in keeper.execute(f"{LEASED} AND wait_event = %s".encode(), [for_what])}


def kill(process: subprocess.Popen[str]) -> list[int]:
    """End a run at once, and nothing but the run itself; its programs, which go on, are given back."""
    process.send_signal(signal.SIGSTOP)  # it starts no other one while its programs are listed
    programs = children_of(process.pid)
    process.kill()
    process.communicate()
    return programs


def children_of(pid: int) -> list[int]:
    """Its programs, and theirs; those that end meanwhile have none any more."""
    children = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                children += [child, *children_of(child)]
    return children


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def have_ended(pids: list[int]) -> bool:
    return not any(map(is_alive, pids))


def expect_clean_reset(process: subprocess.Popen[str], built: BuiltEstate, clean: dict[str, str]) -> None:
    """The run ends well, and leaves what an undisturbed one does."""
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert state(built) == clean


class TestKilledInTheSandbox:
    """In the middle of ``erp-sandbox reset``, whose programs are left alone with what they do."""

    @pytest.mark.parametrize(
        ("tag", "program"),
        [
            ("DROP OWNED", False),
            ("CREATE TEXT SEARCH CONFIGURATION", False),
            ("CREATE TABLE", False),
            ("CREATE TRIGGER", False),
            ("", True),
            ("CREATE INDEX", True),
            ("DROP TEXT SEARCH CONFIGURATION", False),
        ],
        ids=["wipe", "admission", "tables", "triggers of empty tables", "data", "indexes", "end of the restore"],
    )
    def test_the_next_run_recovers(
        self, runs: Runs, built: BuiltEstate, clean: dict[str, str], tag: str, program: bool
    ) -> None:
        with closed_gate(built, tag) as keeper:
            first = runs.start("reset")
            eventually(lambda: waiting(keeper), 60)
            earlier = waiting(keeper)
            orphans = kill(first)
            second = runs.start("reset")
            if program:
                # It outlived its run, and is ended; then it is the second run's turn to wait here.
                eventually(lambda: waiting(keeper) and not waiting(keeper) & earlier, 60)
        expect_clean_reset(second, built, clean)
        assert bool(orphans) == program
        eventually(lambda: have_ended(orphans))

    def test_while_the_agent_is_made(self, runs: Runs, built: BuiltEstate, clean: dict[str, str]) -> None:
        with closed_gate(built, gate=AGENT) as keeper:
            first = runs.start("reset")
            eventually(lambda: waiting(keeper), 60)
            kill(first)
            second = runs.start("reset")
        expect_clean_reset(second, built, clean)

    @pytest.mark.usefixtures("clean")
    def test_nothing_is_resumed(self, runs: Runs, built: BuiltEstate) -> None:
        with closed_gate(built) as keeper:
            first = runs.start("reset")
            eventually(lambda: waiting(keeper), 60)
            kill(first)
            with pytest.raises(GoldenError, match="no whole baseline"), runs.pool().rehearsal(None):
                pytest.fail("the state is a half restored one")


LATE = """#!/bin/sh
case "$*" in
*{argument}*)
    echo $$ > {folder}/late.pid
    until [ -e {folder}/go ]; do sleep 0.02; done
    exec {program} "$@" 2> {folder}/late.log
    ;;
esac
exec {program} "$@"
"""


class Late:
    """A client program that was started, but connects only when it is let; it outlives its run.

    Args:
        folder: for ``programs``.
        built: whose server's version is meant.
        program: which of the programs is held up.
        argument: when it is called with this.
    """

    def __init__(self, folder: Path, built: BuiltEstate, program: str, argument: str) -> None:
        self.folder = folder
        folder.mkdir()
        for name in {"pg_dump", "pg_restore", "psql"} - {program}:
            (folder / name).symlink_to(toolset(built.sandbox.version).program(name))
        real = toolset(built.sandbox.version).program(program)
        script = folder / program
        script.write_text(LATE.format(argument=argument, folder=folder, program=real))
        script.chmod(0o755)

    def begun(self) -> bool:
        pid = self.folder / "late.pid"
        return pid.exists() and bool(pid.read_text().strip())

    def is_alive(self) -> bool:
        return is_alive(int((self.folder / "late.pid").read_text()))

    def go_on(self) -> None:
        """Let it connect now."""
        (self.folder / "go").touch()

    def last_words(self) -> str:
        """Let it connect now; what it said until it ended."""
        self.go_on()
        eventually(lambda: not self.is_alive())
        return (self.folder / "late.log").read_text()


class TestKilledInARefresh:
    @pytest.fixture
    def cache(self, tmp_path: Path) -> Path:
        return tmp_path / "cache"

    @pytest.fixture
    def runs(self, built: BuiltEstate, tmp_path: Path, cache: Path) -> Runs:
        """A project with a cache of its own."""
        return Runs(tmp_path / "project", {**patient(built.settings()), "golden": {"path": cache}})

    @contextmanager
    def killed_at_a_locked_table(
        self, runs: Runs, late: Late, locker: Keeper, is_waiting: Callable[[], object]
    ) -> Iterator[None]:
        """A run whose program goes on alone, and waits for a lock; afterwards it gets it."""
        settings = runs.settings()
        runs.add(programs=late.folder)
        first = runs.start("refresh")
        eventually(late.begun, 60)
        with locker.transaction():
            locker.execute("LOCK TABLE llx_societe")
            late.go_on()
            eventually(is_waiting, 60)
            kill(first)
            assert list(settings.golden.path.glob(".making-*/scratch/prod"))
            runs.add(programs=None)
            yield

    def test_while_prod_is_dumped(
        self, runs: Runs, built: BuiltEstate, cache: Path, clean: dict[str, str], tmp_path: Path
    ) -> None:
        late = Late(tmp_path / "programs", built, "pg_dump", "--lock-wait-timeout")
        prod = built.prod.dsn(PROD_DATABASE)
        with connect(prod) as other, connect(prod) as locker:

            def dumps() -> int:
                return len(other.execute(DUMPING).fetchall())

            with self.killed_at_a_locked_table(runs, late, locker, dumps):
                second = runs.start("refresh")
                eventually(lambda: dumps() == 2, 60)
                # Both dump the same prod now; what the first one writes goes nowhere.
                assert len(list(cache.glob(".making-*"))) == 1
            expect_clean_reset(second, built, clean)
            eventually(lambda: not late.is_alive(), 60)
        assert len(list(cache.iterdir())) == 2
        assert len(list(cache.glob("2*Z"))) == 1

    def test_while_the_golden_state_is_dumped(
        self, runs: Runs, built: BuiltEstate, cache: Path, clean: dict[str, str], tmp_path: Path
    ) -> None:
        late = Late(tmp_path / "programs", built, "pg_dump", "--role=")
        with (
            connect(built.admin(0)) as keeper,
            connect(built.admin(0)) as locker,
            self.killed_at_a_locked_table(runs, late, locker, lambda: waiting(keeper, "relation")),
        ):
            second = runs.start("refresh")
            # It would be in the way of the wipe: it is ended, lock or no lock.
            eventually(lambda: not late.is_alive(), 60)
        expect_clean_reset(second, built, clean)
        assert len(list(cache.iterdir())) == 2

    def test_while_it_is_prepared(self, runs: Runs, built: BuiltEstate, cache: Path, clean: dict[str, str]) -> None:
        with closed_gate(built) as keeper:
            first = runs.start("refresh")
            eventually(lambda: waiting(keeper), 60)
            kill(first)
            second = runs.start("refresh")
        expect_clean_reset(second, built, clean)
        assert len(list(cache.iterdir())) == 2


@pytest.fixture
def late(runs: Runs, built: BuiltEstate, clean: dict[str, str], tmp_path: Path) -> Iterator[Late]:
    """What is left of a run that was killed when its pg_restore had not connected yet."""
    late = Late(tmp_path / "programs", built, "pg_restore", "--jobs=")
    runs.add(programs=late.folder)
    first = runs.start("reset")
    try:
        eventually(late.begun, 60)
        kill(first)
        runs.add(programs=None)
        yield late
    finally:
        late.go_on()


REFUSED = 'FATAL:  invalid value for parameter "default_text_search_config"'


class TestAProgramThatConnectsTooLate:
    def test_is_refused_while_a_scenario_is_under_way(self, late: Late, runs: Runs, built: BuiltEstate) -> None:
        golden = runs.golden()
        with runs.pool().rehearsal(golden) as sandbox:
            sandbox.api().post("thirdparties", json={"name": "Acme", "client": "1"}).raise_for_status()
            before = state(built)
            assert REFUSED in late.last_words()
            assert state(built) == before

    def test_is_refused_while_the_next_run_restores(
        self, late: Late, runs: Runs, built: BuiltEstate, clean: dict[str, str]
    ) -> None:
        with closed_gate(built) as keeper:
            second = runs.start("reset")
            eventually(lambda: waiting(keeper), 60)
            assert REFUSED in late.last_words()
        expect_clean_reset(second, built, clean)

    def test_is_ended_when_it_came_before_the_next_wipe(
        self, late: Late, runs: Runs, built: BuiltEstate, clean: dict[str, str], tmp_path: Path
    ) -> None:
        runs.add(golden={"path": tmp_path / "cache"})
        prod = built.prod.dsn(PROD_DATABASE)
        with closed_gate(built) as keeper, connect(prod) as other, connect(prod) as locker:
            with locker.transaction():
                locker.execute("LOCK TABLE llx_societe")
                second = runs.start("refresh")
                # It has the lease, and found nobody of an earlier one; now it waits for prod.
                eventually(lambda: other.execute(DUMPING).fetchall(), 60)
                late.go_on()
                eventually(lambda: waiting(keeper) or not late.is_alive())
            eventually(lambda: not late.is_alive(), 60)
        expect_clean_reset(second, built, clean)

    def test_that_has_no_need_of_a_pass_makes_the_restore_fail(
        self, runs: Runs, built: BuiltEstate, clean: dict[str, str]
    ) -> None:
        with built.database(0).connect("not known as one yet") as outdated:
            with closed_gate(built) as keeper:
                second = runs.start("reset")
                eventually(lambda: waiting(keeper), 60)
                outdated.execute("SET application_name = 'erp-sandbox lease 0123456789ab'")
            said = second.communicate(timeout=60)[0]
            assert second.returncode == 1
            assert "a program of an earlier run was still writing into erp-sandbox" in said
            with pytest.raises(psycopg.OperationalError):
                outdated.execute("SELECT 1")
        with pytest.raises(GoldenError, match="no whole baseline"), runs.pool().rehearsal(None):
            pytest.fail("the state may have been written into")
        expect_clean_reset(runs.start("reset"), built, clean)


class TestAPrepareFileThatIsRunTooLate:
    """A run was killed in ``refresh`` when the psql of golden.prepare had not connected yet."""

    @pytest.fixture
    def late(self, runs: Runs, built: BuiltEstate, clean: dict[str, str], tmp_path: Path) -> Iterator[Late]:
        del clean  # so that the golden dump is there that the next run restores
        file = tmp_path / "prepare.sql"
        file.write_text("DELETE FROM llx_crowd;\n")
        late = Late(tmp_path / "programs", built, "psql", f"--file={file}")
        before = runs.settings().golden.path
        runs.add(programs=late.folder, golden={"path": tmp_path / "cache", "prepare": [file]})
        first = runs.start("refresh")
        try:
            eventually(late.begun, 60)
            kill(first)
            runs.add(programs=None, golden={"path": before})
            yield late
        finally:
            late.go_on()

    def test_is_refused_while_a_scenario_is_under_way(self, late: Late, runs: Runs, built: BuiltEstate) -> None:
        with runs.pool().rehearsal(runs.golden()):
            before = state(built)
            assert REFUSED in late.last_words()
            assert state(built) == before
