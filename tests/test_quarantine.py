"""The quarantine of golden dumps: from the first moment, as the settings ask for, and kept by golden.prepare."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from pytest_erp_sandbox.demo.estate import PROD_DATABASE, PROD_ROLE
from pytest_erp_sandbox.dolibarr.parts import PARTS
from pytest_erp_sandbox.errors import GoldenError, PostgresError, QuarantineError, SettingsError

from .dolibarr.test_quarantine import OPEN
from .estates import BuiltEstate, Project
from .postgres.pairs import eventually
from .runs import Runs, estate_on
from .servers import connect, run

AMENDED, LATER = 61, 62
"""Gates, which are advisory locks: who would load rows of a table that has one, waits as long as the test holds it."""

GATES = (
    f"SET ROLE {PROD_ROLE}",
    *(
        f"CREATE FUNCTION gate_{gate}() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        " IF starts_with(current_setting('application_name'), 'erp-sandbox lease') THEN"
        f" PERFORM pg_advisory_xact_lock_shared({gate}); END IF; RETURN true; END $$"
        for gate in (AMENDED, LATER)
    ),
    f"ALTER TABLE llx_notify_def ADD CHECK (gate_{AMENDED}())",
    f"ALTER TABLE llx_product ADD CHECK (gate_{LATER}())",
)


@pytest.fixture(scope="module", params=["15", "18"])
def gated(request: pytest.FixtureRequest) -> Iterator[BuiltEstate]:
    """An estate whose preparation stops where a test wants it to."""
    with estate_on(request.param, request.param) as estate:
        run(estate.prod.dsn(PROD_DATABASE), "; ".join(GATES))
        yield estate


@contextmanager
def closed(estate: BuiltEstate, gate: int) -> Iterator[None]:
    """Nobody passes a gate for a while."""
    with connect(estate.admin(0)) as keeper:
        keeper.execute(f"SELECT pg_advisory_lock({gate})".encode())
        yield


def waits(estate: BuiltEstate) -> bool:
    with connect(estate.admin(0)) as connection:
        return bool(
            connection.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
                " AND starts_with(application_name, 'erp-sandbox lease')"
            ).fetchall()
        )


def rows(estate: BuiltEstate, statement: str) -> int:
    with connect(estate.admin(0)) as connection:
        return len(connection.execute(statement.encode()).fetchall())


def open_ways(estate: BuiltEstate) -> set[str]:
    """The parts of which something can be seen that is not quarantined; without rows there is nothing."""
    with connect(estate.admin(0)) as connection, connection.transaction():
        return _open_ways(connection)


def _open_ways(connection: psycopg.Connection[tuple[object, ...]]) -> set[str]:
    # In one snapshot: a wipe may come between two statements.
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    if not connection.execute("SELECT FROM llx_const").fetchall():
        return set()
    return {part for part, statement in OPEN.items() if connection.execute(statement.encode()).fetchall()}


@dataclass
class Onlooker:
    """Looks at a sandbox all the time, as an ERP does that nobody has stopped."""

    estate: BuiltEstate
    seen: set[str] = field(default_factory=set)
    looks_while_incomplete: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def looking(self) -> Iterator[Onlooker]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _look(self) -> None:
        with connect(self.estate.admin(0)) as connection:
            while not self._stop.is_set():
                try:
                    with connection.transaction():
                        self.seen |= _open_ways(connection)
                        counts = "SELECT (SELECT count(*) FROM llx_user), (SELECT count(*) FROM llx_product)"
                        users, products = connection.execute(counts).fetchone() or (0, 0)
                        self.looks_while_incomplete += bool(users) and not products
                except psycopg.errors.Error as error:
                    # The tables come and go.
                    if not isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
                        continue


@pytest.fixture
def runs(gated: BuiltEstate, tmp_path: Path) -> Runs:
    """A project with a cache of its own, on an empty sandbox."""
    with gated.database(0).connect() as connection:
        connection.execute("DROP OWNED BY erp_sandbox_role CASCADE")
    return Runs(tmp_path / "project", {**gated.settings(), "golden": {"path": tmp_path / "cache"}})


class TestWhileItIsPrepared:
    def test_nobody_ever_sees_what_is_not_quarantined(self, runs: Runs, gated: BuiltEstate) -> None:
        onlooker = Onlooker(gated)
        with onlooker.looking():
            with closed(gated, LATER):
                process = runs.start("refresh-from-prod")
                eventually(lambda: onlooker.looks_while_incomplete > 10, 60)
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output
        assert onlooker.seen == set()
        assert open_ways(gated) == set()
        assert rows(gated, "SELECT FROM llx_user") > 2

    @pytest.mark.parametrize(("gate", "users"), [(AMENDED, False), (LATER, True)])
    def test_a_killed_one_leaves_nothing_that_is_not_quarantined(
        self, runs: Runs, gated: BuiltEstate, gate: int, users: bool
    ) -> None:
        with closed(gated, gate):
            process = runs.start("refresh-from-prod")
            eventually(lambda: waits(gated), 60)
            assert open_ways(gated) == set()
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert bool(rows(gated, "SELECT FROM llx_user")) is users
        eventually(lambda: not waits(gated))
        assert open_ways(gated) == set()
        assert runs.golden().manifest.quarantine.keys() == set(PARTS)


@pytest.fixture
def quiet(estate: BuiltEstate, tmp_path: Path) -> Runs:
    """A project with a cache of its own."""
    return Runs(tmp_path / "project", {**estate.settings(), "golden": {"path": tmp_path / "cache"}})


def test_a_prod_whose_tables_are_called_otherwise_is_refused_before_anything_is_wiped(
    quiet: Runs, estate: BuiltEstate
) -> None:
    before = rows(estate, "SELECT FROM pg_class")
    run(estate.prod.dsn(PROD_DATABASE), "ALTER TABLE llx_const RENAME TO erp_const")
    try:
        with pytest.raises(QuarantineError, match=r"prod cannot be quarantined: it has no table public\.llx_const"):
            quiet.golden()
    finally:
        run(estate.prod.dsn(PROD_DATABASE), "ALTER TABLE erp_const RENAME TO llx_const")
    assert rows(estate, "SELECT FROM pg_class") == before
    assert [path.name for path in (quiet.folder.parent / "cache").iterdir()] == [".lock"]


class TestTheSettings:
    def test_say_what_is_quarantined(self, quiet: Runs, estate: BuiltEstate) -> None:
        golden = quiet.golden(quarantine=["mail", "api-keys"])
        with quiet.sandbox() as sandbox:
            sandbox.reset(golden)
        # The agent has its key.
        assert open_ways(estate) == set(PARTS) - {"mail", "api-keys", "connectors"} | {"api-keys"}
        assert rows(estate, "SELECT FROM llx_user WHERE api_key IS NOT NULL AND login <> 'ai_agent_sandbox'") == 0

    def test_make_a_golden_dump_anew_that_was_made_with_others(self, quiet: Runs) -> None:
        first = quiet.golden()
        assert quiet.golden(quarantine=list(reversed(PARTS))) == first
        second = quiet.golden(quarantine="mail")
        assert second.id != first.id
        assert second.manifest.quarantine.keys() == {"mail"}
        assert quiet.golden(quarantine="mail") == second
        assert quiet.golden() == first

    def test_do_not_take_another_one_when_none_may_be_made(self, quiet: Runs) -> None:
        quiet.golden(quarantine=False)
        with pytest.raises(GoldenError, match=r"quarantine: it was off, and should be mail, cron.*\n.*refresh-from"):
            quiet.golden(refresh="never")
        assert quiet.golden(refresh="never", quarantine=False).manifest.quarantine == {}


class TestGoldenPrepare:
    def prepare(self, runs: Runs, **scripts: str) -> Runs:
        files = []
        for name, script in scripts.items():
            file = runs.folder / f"{name}.sql"
            file.write_text(script)
            files.append(file.name)
        runs.add(golden={"path": runs.folder.parent / "cache", "prepare": files})
        return runs

    def test_runs_files_in_their_order_as_the_sandboxes_role(self, quiet: Runs, estate: BuiltEstate) -> None:
        self.prepare(
            quiet,
            first="UPDATE llx_societe SET nom = 'customer ' || rowid;\n"
            "CREATE TABLE done AS SELECT current_user AS who;",
            second="UPDATE llx_societe SET nom = upper(nom);",
        )
        golden = quiet.golden()
        with quiet.sandbox() as sandbox:
            sandbox.reset(golden)
        assert rows(estate, "SELECT FROM llx_societe WHERE nom = 'CUSTOMER ' || rowid") == 12
        assert rows(estate, "SELECT FROM done WHERE who = 'erp_sandbox_role'") == 1

    def test_failing_says_where_and_makes_no_golden_dump(self, quiet: Runs, estate: BuiltEstate) -> None:
        self.prepare(quiet, good="CREATE TABLE made (id integer);", bad="SELECT 1;\n\nUPDATE llx_nowhere SET a = 1;\n")
        with pytest.raises(PostgresError, match=r'bad\.sql:3: ERROR:  relation "llx_nowhere" does not exist'):
            quiet.golden()
        assert [path.name for path in (quiet.folder.parent / "cache").iterdir()] == [".lock"]
        assert rows(estate, "SELECT FROM pg_class WHERE relname = 'made'") == 0

    def test_is_run_anew_when_a_file_changes(self, quiet: Runs) -> None:
        unprepared = quiet.golden()
        first = self.prepare(quiet, one="SELECT 1;").golden()
        assert first.id != unprepared.id
        assert quiet.golden() == first
        self.prepare(quiet, one="SELECT 2;")
        with pytest.raises(GoldenError, match=r"golden.prepare: its files are not the ones that were run"):
            quiet.golden(refresh="never")
        assert quiet.golden().id != first.id

    def test_cannot_undo_the_quarantine_unseen(self, quiet: Runs) -> None:
        self.prepare(quiet, mails="UPDATE llx_const SET value = '0' WHERE name = 'MAIN_DISABLE_ALL_MAILS';")
        with pytest.raises(QuarantineError, match=r"mail: llx_const, 1 row\n.*golden\.prepare"):
            quiet.golden()
        assert [path.name for path in (quiet.folder.parent / "cache").iterdir()] == [".lock"]

    def test_names_a_file_that_is_not_there(self, quiet: Runs) -> None:
        quiet.add(golden={"path": quiet.folder.parent / "cache", "prepare": ["nowhere.sql"]})
        with pytest.raises(SettingsError, match=r"project/nowhere\.sql \(golden\.prepare\) cannot be read: No such"):
            quiet.golden()


class TestARehearsal:
    def test_says_what_was_quarantined(self, project: Project) -> None:
        project.scenarios("there is one Acme")
        assert "quarantined, in rows: mail " in project.run("--erp-sandbox-reset=scenario").expect(0, passed=1).text

    def test_does_not_begin_where_it_does_not_hold(self, project: Project, estate: BuiltEstate) -> None:
        project.scenarios("all is well")
        project.run("--erp-sandbox-reset=scenario").expect(0, passed=1)
        run(estate.admin(0), "UPDATE llx_cronjob SET status = 1 WHERE rowid = 1")
        project.run("--erp-sandbox-reset=never").expect_error(
            "QuarantineError: erp-sandbox is not quarantined", "cron: llx_cronjob, 1 row", error=1
        )
        project.run("--erp-sandbox-reset=never", "--erp-sandbox-quarantine=mail,banner").expect(0, passed=1)

    def test_shows_it_among_golden_dumps(self, project: Project) -> None:
        project.scenarios("all is well")
        project.run().expect(0, passed=1)
        assert re.search(r" all +\n", project.command("status", COLUMNS="200").stdout)
        project.run("--erp-sandbox-quarantine=mail,banner").expect(0, passed=1)
        assert re.search(r" mail, banner +\n", project.command("status", COLUMNS="200").stdout)


class TestPreflight:
    """Asks it of what is restored in a sandbox, and warns: the next reset closes whatever a rehearsal has opened."""

    def found(self, project: Project) -> dict[str, str]:
        (finding,) = [
            each
            for each in json.loads(project.command("preflight", "--json").stdout)
            if each["invariant"] == "is quarantined"
        ]
        return dict(finding)

    def test_warns_of_what_was_opened_until_the_next_reset(self, project: Project, estate: BuiltEstate) -> None:
        project.scenarios("all is well")
        project.run().expect(0, passed=1)
        assert self.found(project)["status"] == "ok"
        run(estate.admin(0), "UPDATE llx_cronjob SET status = 1 WHERE rowid = 1")
        warned = self.found(project)
        assert (warned["status"], "cron: llx_cronjob, 1 row" in warned["detail"]) == ("warning", True)
        project.run().expect(0, passed=1)
        assert self.found(project)["status"] == "ok"

    def test_does_not_wait_for_somebody_elses_reset(self, project: Project, estate: BuiltEstate) -> None:
        project.scenarios("all is well")
        project.run().expect(0, passed=1)
        with connect(estate.admin(0)) as other, other.transaction():
            other.execute("LOCK llx_const")
            said = self.found(project)
        assert (said["status"], "lock timeout" in said["detail"]) == ("skipped", True)

    def test_warns_where_the_settings_switch_it_off(self, project: Project) -> None:
        settings = project.estate.settings()
        project.configure({**settings, "quarantine": False})
        assert self.found(project)["status"] == "warning"
