"""Putting a sandbox back by rewind: as equal as by a restore, and by a restore wherever that cannot be proven."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_erp_sandbox.demo.estate import SANDBOX_LOGIN, SANDBOX_ROLE
from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.golden import Golden
from pytest_erp_sandbox.pool import Pool
from pytest_erp_sandbox.postgres.adoption import require_mark
from pytest_erp_sandbox.postgres.journal import SCHEMA
from pytest_erp_sandbox.sandbox import Sandbox

from .estates import STEPS, BuiltEstate, Project
from .runs import Runs, state_of_sandbox
from .servers import connect, may_be_a_replica, run

WRITES = (
    "INSERT INTO llx_societe (nom) VALUES ('new')",
    "UPDATE llx_societe SET nom = 'somebody else'",
    "DELETE FROM llx_facturedet",
    "SELECT setval('llx_product_rowid_seq', 12345)",
)


@pytest.fixture
def runs(estate: BuiltEstate, tmp_path: Path) -> Runs:
    return Runs(tmp_path / "project", estate.settings(strategy="rewind"))


@pytest.fixture
def golden(runs: Runs) -> Golden:
    return runs.golden()


@pytest.fixture
def pool(runs: Runs) -> Iterator[Pool]:
    with closing(runs.pool()) as pool:
        yield pool


@pytest.fixture
def begun(pool: Pool, golden: Golden, estate: BuiltEstate) -> dict[str, str]:
    """The state of the baseline; the sandbox has it, and can be rewound."""
    with pool.rehearsal(golden):
        return state_of_sandbox(estate)


def write(estate: BuiltEstate, *statements: str) -> None:
    run(estate.admin(0), f'SET ROLE "{SANDBOX_ROLE}"', *statements)


@contextmanager
def reset_by(pool: Pool, golden: Golden, strategy: str, reason: str = "") -> Iterator[Sandbox]:
    """A sandbox, after a reset that must have been of this kind."""
    with pool.rehearsal(golden) as sandbox:
        assert sandbox.last_reset is not None
        assert sandbox.last_reset.strategy == strategy, sandbox.last_reset
        assert reason in sandbox.last_reset.reason
        assert bool(reason) == bool(sandbox.last_reset.reason), sandbox.last_reset
        yield sandbox


def pids_of(sandbox: Sandbox) -> tuple[int, int, int]:
    """Of the sessions that a sandbox rewinds with: the lease's, the one that undoes, the one that looks."""
    lease = sandbox.lease
    return lease.connection.info.backend_pid, lease.undoer.info.backend_pid, lease.reader.info.backend_pid


class TestRewind:
    def test_brings_back_rows_sequences_and_the_agents_key(
        self, pool: Pool, golden: Golden, estate: BuiltEstate, begun: dict[str, str]
    ) -> None:
        with pool.rehearsal(golden) as sandbox:
            key = sandbox.key
        write(estate, *WRITES)
        assert state_of_sandbox(estate) != begun
        with reset_by(pool, golden, "rewind") as sandbox:
            assert state_of_sandbox(estate) == begun
            assert sandbox.key == key

    @pytest.mark.usefixtures("begun")
    def test_begins_at_once_in_another_run(self, runs: Runs, golden: Golden, estate: BuiltEstate) -> None:
        write(estate, *WRITES)
        with closing(runs.pool("another run")) as pool, reset_by(pool, golden, "rewind"):
            pass

    @pytest.mark.usefixtures("begun")
    def test_keeps_the_session_of_the_application(self, pool: Pool, golden: Golden, estate: BuiltEstate) -> None:
        with connect(estate.estate.sandboxes[0].dsn) as application:
            application.execute("UPDATE llx_societe SET nom = 'x'")
            with reset_by(pool, golden, "rewind"):
                assert application.execute("SELECT count(*) FROM llx_societe WHERE nom = 'x'").fetchone() == (0,)

    @pytest.mark.usefixtures("begun")
    def test_takes_turns_on_the_same_sessions(self, pool: Pool, golden: Golden) -> None:
        sessions = set()
        for _ in range(3):
            with reset_by(pool, golden, "rewind") as sandbox:
                sessions.add(pids_of(sandbox))
        assert len(sessions) == 1
        assert len(set(sessions.pop())) == 3

    def test_is_planned_anew_after_a_restore(self, pool: Pool, golden: Golden, estate: BuiltEstate) -> None:
        with pool.rehearsal(golden) as sandbox:
            lease, undoer, reader = pids_of(sandbox)
            write(estate, "CREATE TABLE llx_of_a_module (rowid serial PRIMARY KEY)")
            sandbox.reset(golden)
            assert pids_of(sandbox)[0] == lease
            assert not {undoer, reader} & {*pids_of(sandbox)}

    def test_reads_no_more_of_the_catalogue_however_often_it_was_restored(
        self, pool: Pool, golden: Golden, estate: BuiltEstate
    ) -> None:
        pages = []
        for _ in range(4):
            with pool.rehearsal(golden) as sandbox:
                asked = "SELECT pg_relation_size('pg_attribute') / 8192"
                pages += sandbox.lease.connection.execute(asked).fetchall()
            write(estate, "CREATE TABLE llx_of_a_module (rowid serial PRIMARY KEY)")
        assert pages[-1][0] < 1.1 * pages[0][0], pages

    @pytest.mark.usefixtures("begun")
    def test_lets_others_have_the_sandbox_in_between(self, pool: Pool, runs: Runs, golden: Golden) -> None:
        with closing(runs.pool("another run")) as other:
            for each in (other, pool, other):
                with reset_by(each, golden, "rewind"):
                    pass

    @pytest.mark.usefixtures("begun")
    @pytest.mark.parametrize("kept", ["connection", "undoer", "reader"])
    def test_survives_the_end_of_a_session_that_was_kept(
        self, kept: str, pool: Pool, golden: Golden, estate: BuiltEstate
    ) -> None:
        with reset_by(pool, golden, "rewind") as sandbox:
            pid = getattr(sandbox.lease, kept).info.backend_pid
        write(estate, *WRITES)
        run(estate.admin(0), f"SELECT pg_terminate_backend({pid}, 5000)")
        with reset_by(pool, golden, "rewind"):
            pass

    @pytest.mark.usefixtures("begun")
    def test_has_no_need_of_foreign_keys_where_the_login_may_be_a_replica(
        self, runs: Runs, golden: Golden, estate: BuiltEstate, begun: dict[str, str]
    ) -> None:
        with (
            may_be_a_replica(estate.admin(0), SANDBOX_LOGIN),
            connect(estate.admin(0)) as admin,
            closing(runs.pool("another run")) as pool,
        ):
            for _ in range(2):
                write(estate, *WRITES)
                with reset_by(pool, golden, "rewind") as sandbox:
                    assert state_of_sandbox(estate) == begun
                    # The last thing that each session has done.
                    undoers = admin.execute(
                        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%put_sequences_back%; COMMIT'"
                    ).fetchall()
                    assert undoers == [(sandbox.lease.undoer.info.backend_pid,)]
                    assert undoers != [(sandbox.lease.connection.info.backend_pid,)]

    @pytest.mark.usefixtures("begun")
    def test_clears_what_was_kept_for_inspection(self, pool: Pool, runs: Runs, golden: Golden) -> None:
        with pool.rehearsal(golden) as sandbox:
            sandbox.keep("run")
        with closing(runs.pool("another run")) as other, reset_by(other, golden, "rewind") as sandbox:
            assert require_mark(sandbox.lease.connection).kept is None


class TestARestoreTakesItsPlace:
    @pytest.mark.parametrize(
        ("statements", "reason"),
        [
            (["CREATE TABLE llx_of_a_module (rowid serial PRIMARY KEY)"], "catalogue"),
            (
                ["ALTER TABLE llx_societe DISABLE TRIGGER USER", "ALTER TABLE llx_societe ENABLE TRIGGER USER"],
                "catalog",
            ),
            ([f"DROP SCHEMA {SCHEMA} CASCADE"], "no journal"),
            (["SELECT lo_create(0)"], "largeobject"),
            (["UPDATE llx_user SET api_key = NULL WHERE login = 'ai_agent_sandbox'", f"TRUNCATE {SCHEMA}.calls"], ""),
        ],
        ids=["DDL", "triggers off for a moment", "journal lost", "large object", "journal emptied"],
    )
    def test_where_a_rewind_cannot_be_proven_right(
        self,
        pool: Pool,
        golden: Golden,
        estate: BuiltEstate,
        begun: dict[str, str],
        statements: list[str],
        reason: str,
    ) -> None:
        write(estate, *statements)
        with pool.rehearsal(golden) as sandbox:
            assert sandbox.last_reset is not None
            assert sandbox.last_reset.strategy == "restore"
            assert reason in sandbox.last_reset.reason
            assert sandbox.last_reset.reason
        now = state_of_sandbox(estate)
        # The key is a new one.
        assert {name for name in now | begun if now.get(name) != begun.get(name)} <= {"rows of llx_user"}

    @pytest.mark.usefixtures("begun")
    @pytest.mark.parametrize(
        "settings",
        [{"agent": {"rights": ["societe.lire"]}}, {"verify": True}],
        ids=["other rights", "to be verified"],
    )
    def test_for_another_baseline(self, runs: Runs, golden: Golden, settings: dict[str, Any]) -> None:
        runs.add(**settings)
        with closing(runs.pool()) as pool:
            with reset_by(pool, golden, "restore"):
                pass
            with reset_by(pool, golden, "rewind"):
                pass

    @pytest.mark.usefixtures("begun")
    def test_for_another_golden_dump(self, runs: Runs, pool: Pool) -> None:
        newer = runs.golden(refresh="always")
        with reset_by(pool, newer, "restore"):
            pass
        with reset_by(pool, newer, "rewind"):
            pass

    def test_by_default_and_without_a_trace(self, runs: Runs, golden: Golden) -> None:
        runs.add(strategy="restore")
        with runs.pool().rehearsal(golden) as sandbox, sandbox.connect() as connection:
            assert connection.execute("SELECT to_regnamespace(%s)", [SCHEMA]).fetchone() == (None,)
            triggers = connection.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%erp_sandbox%'")
            assert triggers.fetchone() == (0,)
            with pytest.raises(PostgresError, match=r"no journal.*\n.*journal = true"):
                sandbox.changes()


class TestVerify:
    def test_finds_what_a_rewind_left_and_has_the_next_reset_restore(
        self, runs: Runs, golden: Golden, estate: BuiltEstate
    ) -> None:
        runs.add(verify=True)
        with closing(runs.pool()) as pool:
            with pool.rehearsal(golden):
                before = state_of_sandbox(estate)
            write(estate, *WRITES)
            with reset_by(pool, golden, "rewind"):
                assert state_of_sandbox(estate) == before
            # In place of an error of the rewind's.
            write(estate, f"UPDATE {SCHEMA}.contents SET digest = '0 rows' WHERE name LIKE '%llx_societe'")
            with pytest.raises(PostgresError, match=r"although it was rewound:\n.*llx_societe"), pool.rehearsal(golden):
                pytest.fail("the sandbox is not as it was")
            with reset_by(pool, golden, "restore"):
                after = state_of_sandbox(estate)
        assert {name for name in after if after[name] != before.get(name)} <= {"rows of llx_user"}


class TestInARun:
    @pytest.fixture(autouse=True)
    def rewinding(self, project: Project) -> None:
        project.configure(project.estate.settings(strategy="rewind"))

    @pytest.mark.parametrize("workers", [[], ["-n", "2"], ["-p", "no:xdist"]], ids=["plain", "two workers", "no xdist"])
    def test_each_scenario_begins_afresh_and_the_next_run_at_once(self, project: Project, workers: list[str]) -> None:
        project.scenarios(*["there is one Acme"] * 5)
        project.run("--erp-sandbox-refresh=always", *workers).expect(0, passed=5)
        run = project.run(*workers).expect(0, passed=5)
        assert re.search(r"^resets: 5 by rewind \(median \d\S* m?s, slowest \d\S* m?s\)$", run.text, re.M), run.text

    def test_what_only_a_restore_needs_is_not_imported(self, project: Project) -> None:
        project.scenarios("there is one Acme")
        project.run().expect(0, passed=1)
        project.pytester.makeconftest(
            """
            import sys

            def pytest_unconfigure(config):
                names = ("preparing", "postgres.archive", "postgres.restore", "postgres.wipe", "dolibarr.local")
                print("imported:", [name for name in names if f"pytest_erp_sandbox.{name}" in sys.modules])
            """
        )
        assert "imported: []" in project.run("-s").expect(0, passed=1).text

    @pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["plain", "two workers"])
    def test_the_scenario_that_made_a_restore_necessary_is_named(self, project: Project, workers: list[str]) -> None:
        project.scenarios("there is one Acme", "a module is activated", *["there is one Acme"] * 6)
        project.pytester.makepyfile(
            test_parties=STEPS
            + """
@then("a module is activated")
def activate(erp_db):
    erp_db.execute("CREATE TABLE llx_of_a_module (rowid serial PRIMARY KEY)")
"""
        )
        project.run().expect(0, passed=8)
        run = project.run(*workers).expect(0, passed=8)
        said = re.findall(r"was restored instead of rewound, after (\S+): (.*)", run.text)
        assert [cause for cause, _ in said] == ["test_parties.py::test_number_2"], run.text
        assert "catalogue" in said[0][1]

    def test_a_failing_scenario_shows_what_it_changed_but_no_secret(self, project: Project) -> None:
        project.pytester.makepyfile(
            """
            def test_one(erp_api, erp_db, erp_changes):
                erp_api.post("thirdparties", json={"name": "Acme", "client": "1"}).raise_for_status()
                erp_db.execute("UPDATE llx_user SET api_key = 'hidden-word' WHERE login = 'ai_agent_sandbox'")
                erp_db.execute("UPDATE llx_const SET value = 'hidden-word' WHERE name = 'MAIN_SECURITY_KEY'")
                (party,) = erp_changes(table="llx_soc*", kind="inserted")
                assert party.after["nom"] == "Acme" and party.key == {"rowid": party.after["rowid"]}
                assert "tms" not in party.after
                assert False
            """
        )
        run = project.run().expect(1, failed=1)
        shown = run.text.partition("changed in erp-sandbox")[2]
        assert re.search(r"^inserted llx_societe \d+$", shown, re.M), run.text
        assert re.search(r"^    nom: 'Acme'$", shown, re.M), run.text
        assert re.search(r"^updated llx_user \d+\n    api_key: changed$", shown, re.M), run.text
        assert "hidden-word" not in shown

    def test_the_journal_is_there_for_restores_too(self, project: Project) -> None:
        project.configure(project.estate.settings(journal=True))
        project.pytester.makepyfile(
            """
            def test_one(erp_api, erp_changes):
                assert len(erp_changes()) == 0
                erp_api.post("thirdparties", json={"name": "Acme", "client": "1"}).raise_for_status()
                assert [change.table for change in erp_changes()] == ["llx_societe"]
            """
        )
        run = project.run().expect(0, passed=1)
        assert "resets: 1 by restore" in run.text
        done = project.command("changes")
        assert done.returncode == 0, done.stderr
        assert re.search(r"^inserted llx_societe \d+$", done.stdout, re.M)
        assert project.command("changes", "--kind", "deleted").stdout == "nothing was changed\n"

    def test_a_kept_sandbox_is_rewound_by_the_next_run(self, project: Project, estate: BuiltEstate) -> None:
        project.scenarios("something is wrong")
        assert "is left as the failed scenario left it" in project.run("--erp-sandbox-keep-failed").text
        with connect(estate.admin(0)) as connection:
            acme = connection.execute("SELECT count(*) FROM llx_societe WHERE nom = 'Acme'").fetchone()
        assert acme == (1,)
        project.scenarios("there is one Acme")
        assert "resets: 1 by rewind" in project.run().expect(0, passed=1).text
