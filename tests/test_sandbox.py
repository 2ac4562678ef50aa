"""A sandbox: put back to the same state each time, with an agent whose key opens it, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from pytest_erp_sandbox.demo.estate import PROD_DATABASE, SANDBOX_ROLE
from pytest_erp_sandbox.errors import AgentError, GoldenError, LeaseError, PostgresError
from pytest_erp_sandbox.golden import Golden
from pytest_erp_sandbox.postgres.adoption import require_mark
from pytest_erp_sandbox.postgres.archive import read_archive
from pytest_erp_sandbox.postgres.clients import installed_toolsets
from pytest_erp_sandbox.sandbox import Sandbox

from .estates import BuiltEstate
from .runs import Runs, state_of_sandbox
from .servers import connect, run

MESS = (
    f'SET ROLE "{SANDBOX_ROLE}"',
    "DELETE FROM llx_facturedet",
    "UPDATE llx_societe SET nom = 'somebody else'",
    "INSERT INTO llx_societe (nom) VALUES ('new')",
    "SELECT setval('llx_product_rowid_seq', 12345)",
    "DROP TABLE llx_actioncomm CASCADE",
    "CREATE TABLE llx_module_that_was_switched_on (rowid serial PRIMARY KEY)",
    "CREATE VIEW report AS SELECT nom FROM llx_societe",
    "CREATE OR REPLACE FUNCTION update_modified_column_tms() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN OLD; END'",
    "ALTER TABLE llx_societe DISABLE TRIGGER USER",
    "CREATE SCHEMA elsewhere CREATE TABLE kept (id integer)",
)


@pytest.fixture
def runs(estate: BuiltEstate, tmp_path: Path) -> Runs:
    return Runs(tmp_path / "project", estate.settings())


@pytest.fixture
def golden(runs: Runs) -> Golden:
    return runs.golden()


@pytest.fixture
def sandbox(runs: Runs, golden: Golden) -> Iterator[Sandbox]:
    """The first sandbox, leased and reset."""
    with runs.sandbox() as sandbox:
        sandbox.reset(golden)
        yield sandbox


def state(estate: BuiltEstate) -> dict[str, str]:
    return state_of_sandbox(estate, but_for_the_agent=True)


def login_of(sandbox: Sandbox, key: str) -> tuple[int, object]:
    """What the ERP says of a key."""
    answer = httpx.get(
        f"{sandbox.url}/api/index.php/users/login/ai_agent_sandbox", headers={"DOLAPIKEY": key}, trust_env=False
    )
    return answer.status_code, answer.json().get("login")


@contextmanager
def a_login(estate: BuiltEstate, name: str = "other_app") -> Iterator[psycopg.Connection[Any]]:
    """A session of another login in the first sandbox, which is a member of the role as well."""
    admin = estate.admin(0)
    run(admin, f"CREATE ROLE {name} LOGIN PASSWORD 'word' IN ROLE \"{SANDBOX_ROLE}\"")
    dsn = estate.sandbox.dsn(estate.estate.sandboxes[0].name, name, type(admin)("word"))
    with connect(dsn) as connection:
        connection.execute("SET application_name = 'another application'")
        yield connection
    run(admin, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


class TestReset:
    def test_gives_the_same_state_each_time(self, sandbox: Sandbox, golden: Golden, estate: BuiltEstate) -> None:
        before = state(estate)
        run(estate.admin(0), *MESS)
        assert state(estate) != before
        sandbox.reset(golden)
        assert state(estate) == before
        with connect(estate.admin(0)) as connection:
            assert connection.execute("SELECT to_regnamespace('elsewhere')").fetchone() == (None,)

    def test_makes_a_new_key_and_the_old_one_is_dead(self, sandbox: Sandbox, golden: Golden) -> None:
        old = sandbox.key.get_secret_value()
        assert login_of(sandbox, old) == (200, "ai_agent_sandbox")
        sandbox.reset(golden)
        new = sandbox.key.get_secret_value()
        assert new != old
        assert login_of(sandbox, new) == (200, "ai_agent_sandbox")
        assert login_of(sandbox, old)[0] == 401

    @pytest.mark.usefixtures("sandbox")
    def test_leaves_prods_own_users_and_none_of_their_keys(self, estate: BuiltEstate) -> None:
        query = "SELECT login, api_key FROM llx_user WHERE login <> 'ai_agent_sandbox' ORDER BY 1"
        with connect(estate.prod.dsn(PROD_DATABASE)) as prod, connect(estate.admin(0)) as copy:
            keys = prod.execute(query).fetchall()
            assert any(key for _, key in keys)
            assert copy.execute(query).fetchall() == [(login, None) for login, _ in keys]

    def test_gives_the_grants_again(self, sandbox: Sandbox, golden: Golden, estate: BuiltEstate) -> None:
        admin = estate.admin(0)
        run(admin, "CREATE ROLE report_reader", "GRANT SELECT, UPDATE (nom) ON llx_societe TO report_reader")
        try:
            for _ in range(2):
                sandbox.reset(golden)
                with connect(admin) as connection:
                    assert connection.execute(
                        "SELECT has_table_privilege('report_reader', 'llx_societe', 'SELECT'),"
                        " has_column_privilege('report_reader', 'llx_societe', 'nom', 'UPDATE'),"
                        " has_table_privilege('report_reader', 'llx_societe', 'UPDATE')"
                    ).fetchone() == (True, True, False)
        finally:
            run(admin, "DROP OWNED BY report_reader", "DROP ROLE report_reader")

    def test_gives_back_an_extension_that_the_role_had_made(
        self, sandbox: Sandbox, golden: Golden, estate: BuiltEstate
    ) -> None:
        run(estate.admin(0), f'SET ROLE "{SANDBOX_ROLE}"', "CREATE EXTENSION pg_trgm")
        sandbox.reset(golden)
        with connect(estate.admin(0)) as connection:
            made = connection.execute("SELECT extowner::regrole::text FROM pg_extension WHERE extname = 'pg_trgm'")
            assert made.fetchone() == (SANDBOX_ROLE,)
        run(estate.admin(0), "DROP EXTENSION pg_trgm")

    def test_ends_idle_sessions_of_its_own_login_and_names_those_of_others(
        self, sandbox: Sandbox, golden: Golden, estate: BuiltEstate
    ) -> None:
        with connect(estate.estate.sandboxes[0].dsn) as application, a_login(estate) as other:
            for connection in (application, other):
                connection.execute("SELECT count(*) FROM llx_societe")
            sandbox.reset(golden)
            with pytest.raises(psycopg.OperationalError, match="terminat"):
                application.execute("SELECT 1")
            other.execute("SELECT 1")
            assert [session.partition(",")[2] for session in sandbox.idle_sessions_left] == [
                " login other_app, application another application"
            ]

    def test_does_not_end_what_looks_at_the_sandbox_for_us(
        self, sandbox: Sandbox, golden: Golden, estate: BuiltEstate
    ) -> None:
        with estate.database(0).connect() as preflight, sandbox.connect() as step:
            sandbox.reset(golden)
            preflight.execute("SELECT 1")
            step.execute("SELECT 1")
            assert sandbox.idle_sessions_left == []

    def test_that_gives_something_else_than_the_manifest_says_is_an_error(
        self, runs: Runs, golden: Golden, estate: BuiltEstate
    ) -> None:
        settings = estate.settings()
        settings["sandboxes"][0]["leave-out"] = ["public.llx_actioncomm*"]
        runs.configure(settings)
        with runs.sandbox() as sandbox:
            with pytest.raises(GoldenError, match=r"manifest says: .*\d+ instead of \d+ tables.*\n.*leave-out"):
                sandbox.reset(golden)
            with pytest.raises(GoldenError, match="no whole baseline"):
                sandbox.resume()

    def test_notices_who_changes_things_meanwhile(self, sandbox: Sandbox, golden: Golden, estate: BuiltEstate) -> None:
        admin = estate.admin(0)
        run(
            admin,
            "CREATE SCHEMA meddler",
            "CREATE FUNCTION meddler.meddle() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            # Several connections make indexes at once.
            f' PERFORM pg_advisory_xact_lock(77); SET LOCAL ROLE "{SANDBOX_ROLE}";'
            " CREATE TABLE IF NOT EXISTS public.meddled (id integer); END $$",
            "CREATE EVENT TRIGGER meddle ON ddl_command_end WHEN TAG IN ('CREATE INDEX')"
            " EXECUTE FUNCTION meddler.meddle()",
        )
        try:
            with pytest.raises(GoldenError, match=r"(\d+) instead of \d+ tables"):
                sandbox.reset(golden)
        finally:
            run(admin, "DROP EVENT TRIGGER meddle", "DROP SCHEMA meddler CASCADE")
        sandbox.reset(golden)

    def test_with_an_unknown_right_wipes_nothing(self, runs: Runs, golden: Golden, estate: BuiltEstate) -> None:
        with runs.sandbox() as sandbox:
            sandbox.reset(golden)
        before = state_of_sandbox(estate)
        runs.configure({**estate.settings(), "agent": {"rights": ["societe.lier"]}})
        with runs.sandbox() as sandbox, pytest.raises(AgentError, match=r"societe\.lier.*societe\.lire"):
            sandbox.reset(golden)
        assert state_of_sandbox(estate) == before

    def test_stops_when_the_hold_is_lost(self, sandbox: Sandbox, golden: Golden, estate: BuiltEstate) -> None:
        before = state(estate)
        run(estate.admin(0), f"SELECT pg_terminate_backend({sandbox.lease.connection.info.backend_pid}, 5000)")
        with pytest.raises(LeaseError, match=r"hold on .* was lost"):
            sandbox.reset(golden)
        assert state(estate) == before


class TestNothingIsWiped:
    @pytest.fixture(autouse=True)
    def sandbox_stays_as_it_is(self, sandbox: Sandbox, estate: BuiltEstate) -> Iterator[None]:
        before, key = state_of_sandbox(estate), sandbox.key
        yield
        assert state_of_sandbox(estate) == before
        sandbox.resume()
        assert sandbox.key == key

    def test_for_a_golden_dump_of_a_newer_server(self, sandbox: Sandbox, golden: Golden) -> None:
        newer = replace(golden, manifest=replace(golden.manifest, server_major=99))
        with pytest.raises(PostgresError, match=r"prepared on PostgreSQL 99, .* nothing was wiped"):
            sandbox.reset(newer)

    def test_for_a_golden_dump_that_is_gone(self, sandbox: Sandbox, golden: Golden, tmp_path: Path) -> None:
        copy = replace(golden, folder=tmp_path / golden.id)
        with pytest.raises(GoldenError, match=f"{golden.id} was removed while this run used it"):
            sandbox.reset(copy)

    def test_for_a_golden_dump_whose_contents_are_unreadable(
        self, sandbox: Sandbox, golden: Golden, tmp_path: Path
    ) -> None:
        copy = replace(golden, folder=tmp_path / golden.id)
        shutil.copytree(golden.folder, copy.folder)
        (copy.dump / "toc.dat").write_bytes(b"")
        with pytest.raises(PostgresError, match="not a dump"):
            sandbox.reset(copy)

    def test_while_others_hold_locks(self, sandbox: Sandbox, golden: Golden, estate: BuiltEstate) -> None:
        with connect(estate.estate.sandboxes[0].dsn) as application, application.transaction():
            application.execute("SELECT count(*) FROM llx_societe")
            with pytest.raises(PostgresError, match=f"pid {application.info.backend_pid}, login"):
                sandbox.reset(golden)


class TestResume:
    def test_takes_the_state_as_it_is_with_the_key_of_its_baseline(
        self, runs: Runs, golden: Golden, estate: BuiltEstate
    ) -> None:
        with runs.sandbox() as sandbox:
            sandbox.reset(golden)
            key = sandbox.key
            assert sandbox.api().post("thirdparties", json={"name": "Acme", "client": "1"}).is_success
        before = state_of_sandbox(estate)
        with runs.sandbox() as sandbox:
            sandbox.resume()
            assert sandbox.key == key
            sandbox.check_erp()
        assert state_of_sandbox(estate) == before

    def test_refuses_what_a_reset_left_that_was_cut_off(self, sandbox: Sandbox, golden: Golden) -> None:
        sandbox.rebuild(read_archive(golden.dump, installed_toolsets()), {})
        with pytest.raises(GoldenError, match=r"no whole baseline.*\n.*erp-sandbox reset"):
            sandbox.resume()

    def test_refuses_another_agent_than_is_asked_for(self, runs: Runs, golden: Golden, estate: BuiltEstate) -> None:
        with runs.sandbox() as sandbox:
            sandbox.reset(golden)
        for agent in ({"rights": ["societe.lire"]}, {"rights": ["societe.*"], "login": "another"}):
            runs.configure({**estate.settings(), "agent": agent})
            with runs.sandbox() as sandbox, pytest.raises(AgentError, match=r"not the one .* ask for\n.*reset"):
                sandbox.resume()

    def test_refuses_a_key_that_was_changed(self, sandbox: Sandbox, estate: BuiltEstate) -> None:
        run(estate.admin(0), "UPDATE llx_user SET api_key = NULL WHERE login = 'ai_agent_sandbox'")
        with pytest.raises(AgentError, match="key of ai_agent_sandbox cannot be read"):
            sandbox.resume()

    def test_refuses_an_empty_sandbox(self, sandbox: Sandbox, estate: BuiltEstate) -> None:
        run(estate.admin(0), f'SET ROLE "{SANDBOX_ROLE}"', f'DROP OWNED BY "{SANDBOX_ROLE}" CASCADE')
        with pytest.raises(AgentError):
            sandbox.resume()


class TestASandbox:
    def test_is_used_through_the_erp_and_seen_in_the_database(self, sandbox: Sandbox) -> None:
        with sandbox.api() as api, sandbox.connect() as connection:
            assert api.post("thirdparties", json={"name": "Acme", "client": "1"}).is_success
            rows = connection.execute("SELECT count(*) FROM llx_societe WHERE nom = 'Acme'").fetchone()
            assert rows == (1,)
            assert connection.execute("SELECT current_user, session_user").fetchone() == (
                SANDBOX_ROLE,
                "erp_sandbox_app",
            )

    def test_that_is_kept_says_how_to_look_at_it_without_the_password(
        self, sandbox: Sandbox, estate: BuiltEstate
    ) -> None:
        said = sandbox.keep("this run")
        assert require_mark(sandbox.lease.connection).kept == "this run"
        assert "psql" in said
        assert f"port={estate.sandbox.port}" in said
        for secret in estate.secrets():
            assert secret not in said

    def test_without_an_erp_has_no_url(self, runs: Runs, estate: BuiltEstate, golden: Golden) -> None:
        settings = estate.settings()
        del settings["sandboxes"][0]["erp"]["url"]
        runs.configure(settings)
        with runs.pool().rehearsal(golden) as sandbox, pytest.raises(AgentError, match=r"no ERP.*\n.*erp.url"):
            sandbox.api()

    def test_that_was_not_reset_has_no_key(self, runs: Runs) -> None:
        with runs.sandbox() as sandbox, pytest.raises(AgentError, match="no agent's key yet"):
            sandbox.api()
