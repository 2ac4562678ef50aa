"""What pytest shows of the plugin: when it resets, and when it does nothing at all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.postgres.adoption import require_mark, write_mark
from pytest_erp_sandbox.postgres.connection import as_owner

from .estates import BuiltEstate, Project
from .servers import connect

HEAVY = ("psycopg", "pydantic", "httpx", "kubernetes", "cryptography", "rich", "click", "filelock")


class Listener:
    """Counts the connections that come to a port, and answers none."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._socket.accept()[0]
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def elsewhere(project: Project, listener: Listener) -> Project:
    """A project whose databases are all at the listener's."""
    dsn = SecretStr(f"postgresql://somebody:secret-password@127.0.0.1:{listener.port}/erp")
    settings = project.estate.settings()
    settings["prod"]["dsn"] = settings["sandboxes"][0]["dsn"] = dsn
    project.configure(settings)
    project.scenarios("all is well")
    return project


class TestWithoutSettings:
    def test_nothing_heavy_is_imported_and_no_fixture_runs(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_one(): pass")
        # pytest-bdd and others import what they like; what counts is what comes on top of it.
        pytester.makeconftest(
            f"""
            import gc, sys

            def pytest_unconfigure(config):
                print("imported:", [name for name in {HEAVY!r} if name in sys.modules])
                print("kept from the garbage collector:", gc.get_freeze_count())
            """
        )
        result = pytester.runpytest_subprocess("--setup-show", "-s", "-p", "no:xdist", "-p", "no:anyio")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["imported: []", "kept from the garbage collector: 0"])
        result.stdout.no_fnmatch_line("*erp-sandbox:*")
        result.stdout.no_fnmatch_line("*SETUP    S*")

    def test_asking_for_a_sandbox_says_what_is_missing(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_one(erp_sandbox): pass")
        result = pytester.runpytest_subprocess()
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            ["SettingsError: there are no settings for a sandbox in *", "*Write ?tool.erp-sandbox?*--erp-sandbox-demo*"]
        )
        result.stdout.no_fnmatch_line("*fixtures.py*")

    def test_an_option_without_settings_is_refused_at_the_start(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_one(): pass")
        result = pytester.runpytest_subprocess("--erp-sandbox-reset=scenario")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*say where the sandbox is: either ?sandbox? with a dsn*"])

    def test_a_scenario_runs_as_ever(self, pytester: pytest.Pytester) -> None:
        pytester.makefile(".feature", a="Feature: a\n  Scenario: one\n    Given nothing\n")
        pytester.makepyfile(
            "from pytest_bdd import given, scenarios\nscenarios('.')\n@given('nothing')\ndef _(): pass\n"
        )
        pytester.runpytest_subprocess().assert_outcomes(passed=1)

    def test_its_name_among_the_dependencies_is_no_setting(self, pytester: pytest.Pytester) -> None:
        pytester.makepyprojecttoml('[project]\nname = "a"\nversion = "1"\ndependencies = ["pytest-erp-sandbox"]\n')
        pytester.makepyfile("import sys\ndef test_one(): assert 'pydantic' not in sys.modules")
        pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)


class TestTouchingNoDatabase:
    @pytest.mark.parametrize(
        "arguments",
        [["--collect-only"], ["--setup-plan"], ["-k", "nothing_of_this_name"], ["--fixtures"], ["--markers"], ["-h"]],
        ids=" ".join,
    )
    @pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["plain", "two workers"])
    def test_looking_does_not_connect(
        self, elsewhere: Project, listener: Listener, arguments: list[str], workers: list[str]
    ) -> None:
        run = elsewhere.run(*arguments, *workers)
        assert run.code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), run.text
        assert listener.connections == 0

    def test_plain_tests_and_unneeding_scenarios_do_not_connect(self, elsewhere: Project, listener: Listener) -> None:
        (elsewhere.path / "parties.feature").write_text(
            "Feature: parties\n  @no_erp_sandbox\n  Scenario: one\n    Then all is well\n"
        )
        elsewhere.pytester.makepyfile(test_plain="def test_one(): pass")
        elsewhere.run().expect(0, passed=2)
        assert listener.connections == 0

    def test_what_is_imported_is_kept_from_the_garbage_collector_and_what_tests_leave_is_not(
        self, elsewhere: Project
    ) -> None:
        elsewhere.pytester.makepyfile(
            test_garbage="""
            import gc, sys, weakref

            class Node: pass

            def test_one():
                assert gc.get_freeze_count() > 10_000
                assert not any(each is sys.modules["pydantic"].__dict__ for each in gc.get_objects())
                node = Node()
                node.itself = node
                gone = weakref.ref(node)
                del node
                gc.collect()
                assert gone() is None
            """
        )
        elsewhere.run("test_garbage.py").expect(0, passed=1)

    def test_of_earlier_runs_in_one_process_nothing_is_kept(self, elsewhere: Project) -> None:
        elsewhere.pytester.makepyfile(test_plain="def test_one(): pass")
        script = elsewhere.pytester.makepyfile(
            runs="""
            import gc, weakref, pytest

            class Watch:
                sessions = []
                def pytest_sessionstart(self, session):
                    self.sessions.append(weakref.ref(session))

            alive = []
            for _ in range(5):
                pytest.main(["-q", "-p", "no:cacheprovider", "test_plain.py"], plugins=[Watch()])
                gc.collect()
                alive.append(sum(session() is not None for session in Watch.sessions))
            print("alive:", alive)
            assert alive[-1] == alive[1] <= 2
            """
        )
        result = elsewhere.pytester.runpython(script)
        assert result.ret == 0, result.outlines

    def test_rehearsing_does(self, elsewhere: Project, listener: Listener) -> None:
        assert elsewhere.run().code == 1
        assert listener.connections > 0


class TestReset:
    @pytest.mark.parametrize(
        ("places", "arguments"),
        [
            ([0], []),
            ([0], ["-p", "no:xdist"]),
            ([0], ["-n", "2"]),
            ([0, 1], ["-n", "2"]),
            ([0], ["-n", "4"]),
            ([0, 1, 2, 3], ["-n", "4"]),
        ],
        ids=str,
    )
    def test_each_scenario_begins_afresh(self, project: Project, places: list[int], arguments: list[str]) -> None:
        project.configure(project.estate.settings(*places))
        project.scenarios(*["there is one Acme"] * 4)
        project.run("--erp-sandbox-reset=scenario", *arguments).expect(0, passed=4)

    def test_once_a_session(self, project: Project) -> None:
        project.scenarios("there is one Acme", "there is one Acme")
        project.run("--erp-sandbox-reset=session").expect(1, passed=1, failed=1)

    def test_once_a_session_in_as_many_workers_as_sandboxes(self, project: Project) -> None:
        project.configure(project.estate.settings(0, 1, reset="session"))
        project.scenarios("there is one Acme", "there is one Acme")
        project.run("-n", "2").expect(0, passed=2)

    @pytest.mark.parametrize("workers", [["-n", "2"], ["--dist", "load", "--tx", "2*popen"]], ids=" ".join)
    def test_once_a_session_in_more_workers_is_refused(self, project: Project, workers: list[str]) -> None:
        project.scenarios("there is one Acme")
        project.run("--erp-sandbox-reset=session", *workers).expect_error(
            "2 workers and 1 sandbox", "--erp-sandbox-reset=scenario", code=4
        )

    def test_never_takes_what_is_there_with_the_key_of_its_baseline(self, project: Project) -> None:
        project.scenarios("there is one Acme")
        project.run().expect(0, passed=1)
        # What the last run left is still there: with the one of this run there are two.
        project.run("--erp-sandbox-reset=never").expect(1, failed=1)

    def test_never_without_a_whole_baseline_says_so(self, project: Project) -> None:
        project.scenarios("all is well")
        project.run().expect(0, passed=1)
        database = project.estate.database(0)
        with database.connect() as connection, as_owner(connection, database.role):
            write_mark(connection, require_mark(connection), baseline=None)
        project.run("--erp-sandbox-reset=never").expect_error(
            "never reset, or a reset was cut off", "Reset it once: `erp-sandbox reset`", error=1
        )

    def test_never_with_another_agent_says_so(self, project: Project) -> None:
        project.scenarios("all is well")
        project.run().expect(0, passed=1)
        settings = project.estate.settings(reset="never")
        settings["agent"]["rights"] = ["facture.*"]
        project.configure(settings)
        project.run().expect_error(
            "is not the one that the settings ask for", "Reset it once: `erp-sandbox reset`", error=1
        )

    def test_stopping_at_the_first_failure_and_going_on_there(self, project: Project) -> None:
        project.scenarios("there is one Acme", "something is wrong", "there is one Acme")
        project.run("-x").expect(1, passed=1, failed=1)
        project.run("--lf").expect(1, failed=1)
        project.run("--sw").expect(2, passed=1, failed=1)
        project.scenarios(*["there is one Acme"] * 3)
        project.run("--sw").expect(0, passed=2, deselected=1)


class TestPlainTests:
    def test_they_have_a_sandbox_for_the_asking(self, project: Project) -> None:
        project.pytester.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("again", [False, True])
            def test_fresh(erp_api, erp_db, again):
                assert erp_api.post("thirdparties", json={"name": "Acme", "client": "1"}).status_code == 200
                assert erp_db.execute("SELECT count(*) FROM llx_societe WHERE nom = 'Acme'").fetchone() == (1,)

            def test_an_agents_process_gets_in(erp_agent_env):
                import httpx
                url, key = erp_agent_env["DOLIBARR_URL"], erp_agent_env["DOLAPIKEY"]
                answer = httpx.get(f"{url}/api/index.php/users/login/ai_agent_sandbox", headers={"DOLAPIKEY": key})
                assert answer.json()["login"] == "ai_agent_sandbox"
                assert key not in repr(erp_agent_env) and "DOLAPIKEY" in repr(erp_agent_env)

            def test_other(request):
                assert "erp_sandbox" not in request.fixturenames
            """
        )
        project.run().expect(0, passed=4)

    def test_a_conftest_may_put_a_layer_in_between(self, project: Project) -> None:
        settings = project.estate.settings()
        settings["agent"]["login"] = "somebody"
        project.configure(settings)
        project.pytester.makeconftest(
            """
            import pytest

            @pytest.fixture(scope="session")
            def erp_sandbox_settings(erp_sandbox_settings):
                agent = erp_sandbox_settings.agent.model_copy(update={"login": "another_agent"})
                return erp_sandbox_settings.model_copy(update={"agent": agent})
            """
        )
        project.pytester.makepyfile("def test_one(erp_api): assert erp_api.get('users/login/another_agent').is_success")
        project.run().expect(0, passed=1)

    def test_settings_of_one_folder_alone_are_refused(self, project: Project) -> None:
        for name in ("a", "b"):
            (project.path / name).mkdir()
            (project.path / name / f"test_{name}.py").write_text("def test_one(erp_sandbox): pass")
        (project.path / "b" / "conftest.py").write_text(
            "import pytest\n"
            "@pytest.fixture(scope='session')\n"
            "def erp_sandbox_settings(erp_sandbox_settings):\n"
            "    return erp_sandbox_settings.model_copy(update={'journal': True})\n"
        )
        project.run("a", "b").expect_error(
            "are not those of the session's sandboxes", "root conftest", passed=1, error=1
        )
        project.run("b", "a").expect_error("are not those of the session's sandboxes", passed=1, error=1)
        project.run("b").expect(0, passed=1)

    def test_a_sandbox_that_is_not_made_ready_is_nobodys_expectation(self, project: Project) -> None:
        project.pytester.makeconftest(
            """
            import errno
            from contextlib import contextmanager

            import pytest
            from pytest_erp_sandbox.pool import Pool

            @pytest.fixture(autouse=True)
            def full(monkeypatch):
                @contextmanager
                def rehearsal(*_):
                    raise OSError(errno.ENOSPC, "No space left on device")
                    yield
                monkeypatch.setattr(Pool, "rehearsal", rehearsal)
            """
        )
        project.pytester.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_one(full, erp_sandbox): assert False")
        project.run().expect_error("the sandbox was not made ready: [Errno 28] No space left", error=1)


class TestOnce:
    def test_prod_is_asked_and_dumped_once_for_all_workers(self, project: Project, estate: BuiltEstate) -> None:
        settings = estate.settings(0, 1, 2, 3, refresh="always")
        settings["golden"]["path"] = "cache"
        project.configure(settings)
        project.scenarios(*["there is one Acme"] * 4)
        begun = estate.log_size
        project.run("-n", "4").expect(0, passed=4)
        said = estate.said_to_prod(since=begun)
        assert said.count("LOG:  statement: CREATE TEMPORARY TABLE erp_sandbox_probe") == 1
        assert said.count("COPY public.llx_societe ") == 1

    def test_the_next_run_takes_the_golden_dump_that_is_there(self, project: Project, estate: BuiltEstate) -> None:
        project.scenarios("there is one Acme")
        project.run().expect(0, passed=1)
        begun = estate.log_size
        project.run().expect(0, passed=1)
        assert "COPY public." not in estate.said_to_prod(since=begun)


def test_sessions_of_other_logins_are_named_once_in_the_summary(project: Project, estate: BuiltEstate) -> None:
    project.scenarios("there is one Acme", "there is one Acme")
    with connect(estate.admin(0)) as somebody:
        pid = somebody.info.backend_pid
        run = project.run("-n", "2").expect(0, passed=2)
    assert run.text.count(f"pid {pid}, login postgres") == 1, run.text
