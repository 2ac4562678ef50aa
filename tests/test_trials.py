"""Trials: what asks an agent is run several times, and passes as a whole at the rate that is asked for."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET

import pytest

from .estates import Project, Run

AGENT = """
import json, os, sys, urllib.request

def make(name):
    urllib.request.urlopen(urllib.request.Request(
        os.environ["DOLIBARR_URL"] + "/api/index.php/thirdparties",
        json.dumps({"name": name, "client": "1"}).encode(),
        {"DOLAPIKEY": os.environ["DOLAPIKEY"], "Content-Type": "application/json"},
    ))

asked, trial = sys.stdin.read().split(), os.environ["TRIAL"]
make("Acme")
if f"twice-in-{trial}" in asked:
    make("Acme")
if f"fail-in-{trial}" in asked:
    sys.exit(f"no luck in trial {trial}")
print("done")
"""

CONFTEST = """
import pytest

@pytest.fixture
def erp_agent_env(erp_agent_env, erp_sandbox_trial):
    return {**erp_agent_env, "TRIAL": str(erp_sandbox_trial)}
"""

ASKED = 'When the agent is asked "{}"\n    Then the agent answered "done"\n'
ALONE = '    And the sandbox has 13 rows in "llx_societe"\n'
FOUR = "--erp-sandbox-trials=4"
THREE_OF_FOUR = (FOUR, "--erp-sandbox-trials-required=0.75")


@pytest.fixture(autouse=True)
def agent(project: Project) -> None:
    configure(project)


def configure(project: Project, *places: int, **top: object) -> None:
    settings = project.estate.settings(*places, **{"strategy": "rewind", **top})
    settings["agent"]["command"] = [sys.executable, "{project}/agent.py"]
    project.configure(settings)
    (project.path / "agent.py").write_text(AGENT)
    project.pytester.makeconftest(CONFTEST)
    project.pytester.makepyfile(test_features="from pytest_bdd import scenarios\nscenarios('.')\n")


def feature(project: Project, text: str) -> None:
    (project.path / "one.feature").write_text(text)


def rehearse(project: Project, prompt: str, *arguments: str, then: str = "") -> Run:
    """Run one scenario that asks the agent this."""
    feature(project, f"Feature: one\n  Scenario: one\n    {ASKED.format(prompt)}{then}")
    return project.run(*arguments)


def names_of(run: Run) -> list[str]:
    """What was run, of the output of ``-v``."""
    return re.findall(r"::(test_\S+) [A-Z]", run.text)


class TestWhatIsRunSeveralTimes:
    def test_is_what_asks_an_agent_each_time_from_the_golden_state(self, project: Project) -> None:
        looks = '    When the agent calls GET "thirdparties/1"\n    Then the answer is 200\n'
        feature(project, f"Feature: f\n  Scenario: asks\n    {ASKED.format('')}{ALONE}  Scenario: looks\n{looks}")
        project.pytester.makepyfile(
            test_plain="""
            import subprocess, sys

            def test_asks(erp_agent, erp_db):
                assert erp_agent("").answer == "done\\n"
                assert erp_db.execute("SELECT count(*) FROM llx_societe").fetchone() == (13,)

            def test_has_an_agent_of_its_own(erp_agent_env):
                assert erp_agent_env["DOLAPIKEY"]

            def test_looks(erp_api):
                assert erp_api.get("thirdparties/1").status_code == 200

            def test_plain(erp_sandbox_trial):
                assert erp_sandbox_trial == 1
            """
        )
        run = project.run("--erp-sandbox-trials=2", "-v").expect(0, passed=9)
        each = ["test_asks", "test_asks", "test_has_an_agent_of_its_own"]
        trials = [f"{name}[trial-{number}]" for name in each for number in (1, 2)]
        assert sorted(names_of(run)) == sorted([*trials, "test_looks", "test_looks", "test_plain"])

    def test_is_found_in_background_and_steps_of_ones_own(self, project: Project) -> None:
        steps = """
            import pytest
            from pytest_bdd import parsers, scenarios, when

            scenarios(".")

            @pytest.fixture
            def assistant(erp_agent):
                return erp_agent

            @when(parsers.parse("someone asks for {what}"))
            def ask(assistant, what):
                assistant(what)

            @when("nobody asks")
            def nobody():
                pass
            """
        project.pytester.makepyfile(test_features=steps)
        (project.path / "two.feature").write_text(
            "Feature: two\n  Background:\n    When someone asks for help\n  Scenario: behind\n    When nobody asks\n"
        )
        feature(
            project, "Feature: f\n  Scenario: asks\n    When someone asks for it\n  Scenario: not\n    When nobody asks"
        )
        run = project.run("--erp-sandbox-trials=2", "-v").expect(0, passed=5)
        names = ["test_asks[trial-1]", "test_asks[trial-2]", "test_behind[trial-1]"]
        assert sorted(names_of(run)) == [*names, "test_behind[trial-2]", "test_not"]

    def test_is_said_by_a_marker_or_the_nearest_tag_before_the_settings(self, project: Project) -> None:
        asked = ASKED.format("")
        feature(
            project,
            f"@erp_sandbox_trials(3)\nFeature: f\n  Scenario: as the feature\n    {asked}\n"
            f"  @erp_sandbox_trials(2)\n  Scenario: fewer\n    {asked}\n"
            f"  @erp_sandbox_trials(1)\n  Scenario: once\n    {asked}\n"
            '  Scenario: asks nobody\n    When the agent calls GET "thirdparties/1"\n',
        )
        project.pytester.makepyfile(
            test_plain="import pytest\n@pytest.mark.erp_sandbox_trials(2)\ndef test_plain(erp_agent): erp_agent('')\n"
        )
        run = project.run(FOUR, "-v", "--strict-markers").expect(0, passed=9)
        numbers = {name: names_of(run).count(name) for name in ("test_once", "test_asks_nobody", "test_fewer[trial-2]")}
        assert set(numbers.values()) == {1}
        assert "test_fewer[trial-3]" not in run.text

    @pytest.mark.parametrize("arguments", ["", "0", "'8'", "2, 3", "n=2, m=3"])
    def test_a_marker_without_a_number_is_refused(self, project: Project, arguments: str) -> None:
        marker = f"@pytest.mark.erp_sandbox_trials({arguments})"
        project.pytester.makepyfile(test_plain=f"import pytest\n{marker}\ndef test_one(erp_agent): pass\n")
        project.run("test_plain.py").expect_error("erp_sandbox_trials takes one number", code=2)

    def test_an_outline_has_trials_of_each_example_and_expects_the_same_changes_of_all(self, project: Project) -> None:
        changes = "    And the changes are as expected\n    Examples:\n      | name |\n      | a    |\n      | b-1  |\n"
        feature(project, f"Feature: f\n  Scenario Outline: one\n    {ASKED.format('<name>')}{changes}")
        run = project.run("--erp-sandbox-trials=2", "--erp-sandbox-update-expected", "-v").expect(0, passed=4)
        assert names_of(run) == [f"test_one[{name}-trial-{number}]" for name in ("a", "b-1") for number in (1, 2)]
        files = sorted(file.name for file in (project.path / "one.changes").iterdir())
        assert len(files) == 2
        assert not [name for name in files if "trial" in name]
        run = project.run("--erp-sandbox-trials=3").expect(0, passed=6)
        assert "one[a]\n  3 of 3 trials passed" in run.text
        assert "one[b-1]\n  3 of 3 trials passed" in run.text

    def test_needs_a_reset_before_each(self, project: Project) -> None:
        run = rehearse(project, "", FOUR, "--erp-sandbox-reset=session")
        assert run.code == pytest.ExitCode.USAGE_ERROR
        assert 'they need reset = "scenario"' in run.text
        feature(project, f"@erp_sandbox_trials(4)\nFeature: f\n  Scenario: one\n    {ASKED.format('')}")
        run = project.run("--erp-sandbox-reset=session").expect(0, passed=1)
        assert "trials: one of each, since reset = 'session'" in run.text


class TestByDefaultAllHaveToPass:
    def test_and_one_that_does_not_is_a_failure_as_any_other(self, project: Project) -> None:
        run = rehearse(project, "fail-in-2 twice-in-3", FOUR).expect(1, failed=1, passed=3)
        for part in (
            "3 of 4 trials passed, median ",
            "pass^1 0.75, pass^2 0.50, pass^3 0.25, pass^4 0.00",
            "2 different change sets:\n    changed in trials 1, 2, 4: 1 llx_societe inserted\n"
            "    changed in trial 3: 2 llx_societe inserted",
            'trial 2 failed: When the agent is asked "fail-in-2 twice-in-3": AgentProcessError: the agent ended with',
            "no luck in trial 2",
        ):
            assert part in run.text
        project.run(FOUR, "--lf").expect(1, failed=1)

    def test_what_each_changed_is_not_known_without_a_journal(self, project: Project) -> None:
        configure(project, strategy="restore")
        run = rehearse(project, "", "--erp-sandbox-trials=2").expect(0, passed=2)
        assert "changed in trials 1, 2: that is not known, without journal = true" in run.text

    def test_what_cannot_be_compared_is_no_change_set(self, project: Project) -> None:
        project.pytester.makepyfile(
            test_ddl="""
            import pytest

            @pytest.mark.erp_sandbox_trials(2)
            def test_ddl(erp_agent_env, erp_db):
                erp_db.execute("CREATE TABLE more (rowid integer PRIMARY KEY)")
            """
        )
        run = project.run("test_ddl.py").expect(0, passed=2)
        assert "changed in trials 1, 2: not all that was changed is known" in run.text

    def test_what_is_expected_to_fail_and_passes_is_one_that_failed(self, project: Project) -> None:
        project.pytester.makepyfile(
            test_plain="""
            import pytest

            @pytest.mark.xfail(strict=True)
            def test_one(erp_agent):
                erp_agent("")

            def test_two():
                pass
            """
        )
        run = project.run("test_plain.py", "--erp-sandbox-trials=2")
        assert run.outcomes == {"failed": 2, "passed": 1}, run.text
        assert "0 of 2 trials passed" in run.text

    @pytest.mark.skipif(pytest.version_tuple < (9,), reason="subtests come with pytest 9")
    def test_a_subtest_is_no_trial(self, project: Project) -> None:
        project.pytester.makepyfile(
            test_plain="""
            def test_one(erp_agent, erp_sandbox_trial, subtests):
                erp_agent("")
                for number in range(3):
                    with subtests.test(number=number):
                        assert (erp_sandbox_trial, number) != (2, 1)
            """
        )
        run = project.run("test_plain.py", FOUR, "--erp-sandbox-trials-required=0.5")
        assert "3 of 4 trials passed" in run.text
        assert "without a result" not in run.text

    def test_an_attempt_that_is_made_again_does_not_count(self, project: Project) -> None:
        # As pytest-rerunfailures does it.
        project.pytester.makeconftest(
            CONFTEST
            + """
import pytest
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        report.outcome = "rerun" if report.when == "call" else report.outcome
        item.ihook.pytest_runtest_logreport(report=report)
    item._initrequest()
    runtestprotocol(item, nextitem=nextitem)
    return True

def pytest_report_teststatus(report):
    return ("rerun", "R", "RERUN") if report.outcome == "rerun" else None
"""
        )
        project.pytester.makepyfile(
            test_plain="""
            tries = []

            def test_one(erp_agent, erp_sandbox):
                erp_agent("")
                tries.append(1)
                assert len(tries) % 2 == 0
            """
        )
        run = project.run("test_plain.py", "--erp-sandbox-trials=2")
        assert run.code == 0, run.text
        assert "2 of 2 trials passed" in run.text


class TestWhereSomeMayFail:
    def test_they_are_tolerated(self, project: Project) -> None:
        run = rehearse(project, "fail-in-2", *THREE_OF_FOUR, "-x", "--junitxml=report.xml").expect(0, passed=3)
        assert "test_features.py .t.." in run.text
        assert "3 passed, 1 tolerated" in run.text
        assert "trial 2 failed: When the agent is asked" in run.text
        suite = ET.parse(project.path / "report.xml").getroot()[0]  # noqa: S314 - our own
        assert {name: suite.get(name) for name in ("tests", "skipped", "failures", "errors")} == {
            "tests": "4",
            "skipped": "1",
            "failures": "0",
            "errors": "0",
        }
        assert "TOLERATED" in project.run(*THREE_OF_FOUR, "-v").text

    def test_one_too_many_is_a_failure(self, project: Project) -> None:
        run = rehearse(project, "fail-in-1 fail-in-3", *THREE_OF_FOUR, "-x", "--junitxml=report.xml")
        assert run.code == 1
        assert "1 failed, 1 passed, 1 tolerated" in run.text
        assert "1 of 3 trials passed (1 without a result)" in run.text
        assert "no luck in trial 3" in run.text
        assert "fewer than required: 0.75" in run.text
        suite = ET.parse(project.path / "report.xml").getroot()[0]  # noqa: S314 - our own
        assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")
        # Alone, it may not fail at all.
        project.run(*THREE_OF_FOUR, "--lf").expect(1, failed=1)

    def test_those_that_were_skipped_do_not_count(self, project: Project) -> None:
        project.pytester.makepyfile(
            test_plain="""
            import pytest

            def test_one(erp_agent, erp_sandbox_trial):
                if erp_sandbox_trial > 1:
                    pytest.skip("too many requests")
                assert False, "the first"
            """
        )
        run = project.run("test_plain.py", *THREE_OF_FOUR)
        assert "0 of 1 trials passed (3 without a result)" in run.text
        assert "fewer than required" in run.text
        assert run.code == 1

    def test_a_sandbox_that_is_not_there_is_never_tolerated(self, project: Project) -> None:
        project.pytester.makeconftest(
            CONFTEST
            + """
from pytest_erp_sandbox import LeaseError

@pytest.fixture
def erp_sandbox(erp_sandbox, erp_sandbox_trial):
    if erp_sandbox_trial == 2:
        raise LeaseError("no sandbox became free")
    return erp_sandbox
"""
        )
        run = rehearse(project, "", FOUR, "--erp-sandbox-trials-required=0.1").expect(1, passed=3, error=1)
        assert "3 of 3 trials passed (1 without a result)" in run.text

    def test_a_lost_sandbox_is_no_failure_of_the_agents(self, project: Project) -> None:
        project.pytester.makeconftest(
            CONFTEST
            + """
from pytest_erp_sandbox import LeaseError

@pytest.fixture
def erp_db(erp_sandbox_trial):
    if erp_sandbox_trial == 2:
        raise LeaseError("the hold on it was lost")
"""
        )
        run = rehearse(project, "fail-in-4", FOUR, "--erp-sandbox-trials-required=0.1", then=ALONE)
        assert run.code == 1
        assert "the hold on it was lost" in run.text
        assert "2 failed" not in run.text
        project.pytester.makepyfile(
            test_plain="""
            from pytest_erp_sandbox import LeaseError

            def test_one(erp_agent, erp_sandbox_trial):
                erp_agent("fail-in-2")
                if erp_sandbox_trial == 1:
                    raise LeaseError("lost")
            """
        )
        run = project.run("test_plain.py", "--erp-sandbox-trials=3", "--erp-sandbox-trials-required=0.1")
        assert run.code == 1
        assert "1 failed, 1 passed, 1 tolerated" in run.text
        assert "1 of 2 trials passed (1 without a result)" in run.text

    @pytest.mark.parametrize("rate", ["0", "1.1", "most"])
    def test_a_rate_is_more_than_none_and_at_most_all(self, project: Project, rate: str) -> None:
        run = rehearse(project, "", FOUR, f"--erp-sandbox-trials-required={rate}")
        assert run.code == pytest.ExitCode.USAGE_ERROR
        assert "trials-required (--erp-sandbox-trials-required)" in run.text


class TestOverSeveralSandboxes:
    def test_workers_trials_are_counted_as_one(self, project: Project) -> None:
        configure(project, 0, 1)
        run = rehearse(project, "fail-in-2 twice-in-3 twice-in-6", "--erp-sandbox-trials=8", "-n2", "-v")
        run.expect(1, failed=1, passed=7)
        assert "7 of 8 trials passed, median" in run.text
        assert "2 different change sets:\n    changed in trials 1, 2, 4, 5, 7, 8: 1 llx_societe" in run.text
        assert len(set(re.findall(r"\[gw\d\]", run.text))) == 2

    def test_failures_of_all_workers_are_tolerated_up_to_the_rate(self, project: Project) -> None:
        configure(project, 0, 1)
        rate = ("--erp-sandbox-trials=8", "--erp-sandbox-trials-required=0.75", "-n2")
        run = rehearse(project, "fail-in-2 fail-in-5", *rate, "--maxfail=1").expect(0, passed=6)
        assert "6 passed, 2 tolerated" in run.text
        run = rehearse(project, "fail-in-2 fail-in-5 fail-in-6", *rate, "--junitxml=report.xml")
        assert run.code == 1
        assert "1 failed, 5 passed, 2 tolerated" in run.text
        suite = ET.parse(project.path / "report.xml").getroot()[0]  # noqa: S314 - our own
        assert (suite.get("failures"), suite.get("skipped")) == ("1", "2")
