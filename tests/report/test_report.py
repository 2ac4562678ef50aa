"""Reports of real runs: what they say, and when they are written."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pytest_erp_sandbox.report
from pytest_erp_sandbox.report.trials import compared

from ..estates import BuiltEstate, Project
from ..postgres.pairs import eventually
from ..servers import connect
from .contents import content, result, trials

SCHEMA = json.loads((Path(pytest_erp_sandbox.report.__file__).parent / "schema.json").read_text(encoding="utf-8"))

FILE = "--erp-sandbox-report=report.json"


def read(project: Project, name: str = "report.json") -> dict[str, Any]:
    """A report's data, after comparing them with the schema."""
    found = json.loads((project.path / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return found  # type: ignore[no-any-return]


def rehearsals(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        scenario["name"]: scenario["rehearsals"][0]
        for feature in found["features"]
        for scenario in feature["scenarios"]
    }


@pytest.fixture
def journalled(project: Project, estate: BuiltEstate) -> Project:
    project.configure(estate.settings(0, 1, journal=True))
    return project


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["here", "in workers"])
def test_it_says_the_same_wherever_scenarios_run(journalled: Project, workers: list[str]) -> None:
    journalled.scenarios("there is one Acme", "something is wrong", "there is one Acme")
    journalled.pytester.makepyfile(test_plain="def test_plain(): pass\ndef test_own(erp_api): pass\n")
    run = journalled.run(FILE, "--erp-sandbox-report=report.html", *workers).expect(1, passed=4, failed=1)
    found = read(journalled)
    assert found["run"]["outcomes"] == {"passed": 3, "failed": 1}
    assert found["run"]["others"] == {"passed": 1}
    assert found["run"]["resets"]["restore"]["count"] == 4
    assert {finding["subject"] for finding in found["preflight"]} >= {"prod"}
    assert found["golden"]["source"]["name"].startswith("'erp'")
    assert found["environment"]["sandboxes"]
    failed = rehearsals(found)["number 2"]
    assert [(step["keyword"], step["outcome"]) for step in failed["steps"]] == [("Given", "passed"), ("Then", "failed")]
    assert "this scenario fails" in failed["failure"]
    for each in ("number 1", "number 2", "number 3"):
        (table,) = rehearsals(found)[each]["changes"]["tables"]
        assert (table["table"], table["inserted"], table["updated"]) == ("llx_societe", 1, 0)
        assert table["rows"][0]["after"]["nom"] == "Acme"
    page = (journalled.path / "report.html").read_text(encoding="utf-8")
    assert "this scenario fails" in page
    assert f"report: {journalled.path / 'report.html'}" in run.text


def test_what_cannot_be_set_up_is_an_error_in_it(journalled: Project, estate: BuiltEstate) -> None:
    settings = estate.settings(0)
    settings["sandboxes"][0]["role"] = "erp_nobody"
    journalled.configure(settings)
    journalled.scenarios("all is well", "all is well")
    journalled.run(FILE)
    found = read(journalled)
    assert found["run"]["outcomes"] == {"error": 1}
    assert "failure" in [finding["status"] for finding in found["preflight"]]
    assert found["golden"] is None


def test_a_sandbox_that_is_put_back_once_has_one_reset(journalled: Project, estate: BuiltEstate) -> None:
    journalled.configure(estate.settings(0, reset="session", journal=True))
    journalled.scenarios("there is one Acme", "all is well")
    journalled.run(FILE).expect(0, passed=2)
    found = rehearsals(read(journalled))
    assert [len(each["resets"]) for each in found.values()] == [1, 0]
    assert [each["changes"]["inserted"] for each in found.values()] == [1, 2]


def test_without_a_report_nothing_of_it_is_imported(journalled: Project) -> None:
    journalled.scenarios("all is well")
    journalled.pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure(config):
            print("imported:", [name for name in sys.modules if name.startswith("pytest_erp_sandbox.report.")])
        """
    )
    assert "imported: []" in journalled.run("-s").expect(0, passed=1).text


def test_no_secret_is_in_it(journalled: Project, estate: BuiltEstate) -> None:
    journalled.pytester.makepyfile(
        """
        def test_leaks(erp_agent_env, erp_db, erp_sandbox_settings):
            key, place = erp_agent_env["DOLAPIKEY"], erp_sandbox_settings.all_sandboxes[0]
            secret = place.erp.instance_unique_id.get_secret_value()
            word = "-".join(["hidden", "word"])
            erp_db.execute("UPDATE llx_user SET pass_crypted = %s, lastname = %s", [word, secret])
            erp_db.execute("INSERT INTO llx_societe (nom, entity) VALUES (%s, 1)", [f"told {key}"])
            open("key", "w").write(key)
            assert False, f"it was {key}, {secret}"
        """
    )
    journalled.run(FILE, "--erp-sandbox-report=report.html").expect(1, failed=1)
    found = rehearsals(read(journalled))
    assert "told **********" in str(found)
    for name in ("report.json", "report.html"):
        text = (journalled.path / name).read_text(encoding="utf-8")
        for secret in [*estate.secrets(), (journalled.path / "key").read_text(), "hidden-word"]:
            assert secret not in text


def test_very_many_rows_are_counted_and_some_are_shown(journalled: Project) -> None:
    journalled.pytester.makepyfile(
        """
        def test_imports(erp_db):
            erp_db.execute("INSERT INTO llx_societe (nom, entity) SELECT 'n' || i, 1 FROM generate_series(1, 50000) i")
            erp_db.execute("UPDATE llx_product SET label = 'x' WHERE rowid = 1")
        """
    )
    journalled.run(FILE, "--erp-sandbox-report=report.html").expect(0, passed=1)
    (rehearsal,) = rehearsals(read(journalled)).values()
    tables = {table["table"]: table for table in rehearsal["changes"]["tables"]}
    assert (tables["llx_societe"]["inserted"], len(tables["llx_societe"]["rows"])) == (50_000, 25)
    assert len(tables["llx_product"]["rows"]) == 1
    assert (journalled.path / "report.html").stat().st_size < 200_000


def test_the_rows_of_all_rehearsals_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_erp_sandbox.report.content.ROOM", 10_000)
    found = content([result(f"number {number}") for number in range(20)])
    changes = [each["changes"] for each in rehearsals(found).values()]
    assert len(json.dumps(found["features"])) < 40_000
    assert changes[0]["tables"][0]["rows"]
    assert not changes[-1]["tables"][0]["rows"]
    assert {each["inserted"] for each in changes} == {1}


class TestWriting:
    def test_an_interrupted_run_has_one(self, journalled: Project) -> None:
        (journalled.path / "parties.feature").write_text(
            "Feature: parties\n  Scenario: done\n    Then all is well\n  Scenario: cut\n    Then it takes for ever\n"
        )
        journalled.pytester.makepyfile(
            test_parties="""
            import time
            from pytest_bdd import scenarios, then
            scenarios(".")
            @then("all is well")
            def well(): pass
            @then("it takes for ever")
            def ever():
                open("now", "w").close()
                time.sleep(60)
            """
        )
        process = journalled.start(FILE)
        eventually((journalled.path / "now").exists)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == pytest.ExitCode.INTERRUPTED, said
        found = read(journalled)
        assert found["run"]["interrupted"] is True
        assert found["run"]["outcomes"] == {"passed": 1, "unfinished": 1}

    def test_the_old_one_stays_until_the_new_one_is_whole(
        self, journalled: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = journalled.path / "there" / "report.json"
        file.parent.mkdir()
        file.write_text("old")
        with pytest.raises(ValueError, match="not JSON compliant"):
            pytest_erp_sandbox.report.write_report(file, {"a": float("nan")})
        monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(OSError, match="no"):
            pytest_erp_sandbox.report.write_report(file, {"new": 1})
        assert [each.name for each in file.parent.iterdir()] == ["report.json"]
        assert file.read_text() == "old"

    @pytest.mark.parametrize("place", ["file/report.html", "folder.html"])
    def test_a_place_that_cannot_be_written_is_refused_at_the_start(self, journalled: Project, place: str) -> None:
        (journalled.path / "file").write_text("")
        (journalled.path / "folder.html").mkdir()
        journalled.scenarios("all is well")
        run = journalled.run(f"--erp-sandbox-report={place}")
        assert run.code == pytest.ExitCode.USAGE_ERROR
        assert "cannot be written" in run.text
        assert "passed" not in run.text

    def test_another_kind_of_file_is_refused(self, journalled: Project) -> None:
        run = journalled.run("--erp-sandbox-report=report.pdf")
        assert run.code == pytest.ExitCode.USAGE_ERROR
        assert "a report is a file .html or .json" in run.text

    def test_a_setting_asks_for_it_too_and_looking_writes_none(self, journalled: Project, estate: BuiltEstate) -> None:
        journalled.configure(estate.settings(0, report=["a.json", "deep/b.html"]))
        journalled.scenarios("all is well")
        journalled.run("--collect-only")
        assert not (journalled.path / "a.json").exists()
        journalled.run().expect(0, passed=1)
        assert rehearsals(read(journalled, "a.json"))["number 1"]["changes"] is None
        assert "What each rehearsal changed" not in (journalled.path / "deep/b.html").read_text(encoding="utf-8")


class TestOtherReports:
    @pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["here", "in workers"])
    def test_junits_xml_has_reset_and_changes(self, journalled: Project, workers: list[str]) -> None:
        journalled.scenarios("there is one Acme", "something is wrong")
        journalled.run("--junitxml=junit.xml", *workers).expect(1, passed=1, failed=1)
        cases = ElementTree.parse(journalled.path / "junit.xml").getroot().findall(".//testcase")  # noqa: S314
        assert len(cases) == 2
        for case in cases:
            properties = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
            assert properties.pop("erp_sandbox", "").startswith("erp-sandbox")
            assert 0 < float(properties.pop("erp_sandbox_reset_seconds", "0")) < 60
            assert properties == {
                "erp_sandbox_reset": "restore",
                "erp_sandbox_inserted": "1",
                "erp_sandbox_updated": "0",
                "erp_sandbox_deleted": "0",
            }

    def test_pytest_html_goes_on_beside_it(self, journalled: Project) -> None:
        pytest.importorskip("pytest_html")
        journalled.scenarios("there is one Acme", "something is wrong")
        journalled.run("--html=other.html", "--self-contained-html", FILE).expect(1, passed=1, failed=1)
        other = (journalled.path / "other.html").read_text(encoding="utf-8")
        assert "this scenario fails" in other
        assert "inserted llx_societe" in other
        assert len(rehearsals(read(journalled))) == 2

    def test_allure_goes_on_beside_it(self, journalled: Project) -> None:
        pytest.importorskip("allure_pytest")
        journalled.scenarios("there is one Acme", "something is wrong")
        journalled.run("--alluredir=allure", FILE).expect(1, passed=1, failed=1)
        results = [json.loads(file.read_text()) for file in (journalled.path / "allure").glob("*-result.json")]
        assert sorted(each["status"] for each in results) == ["failed", "passed"]
        assert len(rehearsals(read(journalled))) == 2


class TestTerminal:
    def test_the_header_tells_the_golden_dumps_age(self, journalled: Project, estate: BuiltEstate) -> None:
        settings = estate.settings(0)
        settings["golden"] = {"path": "cache"}
        journalled.configure(settings)
        journalled.scenarios("all is well")
        assert "(golden dump:" not in journalled.run().expect(0, passed=1).text
        assert "refresh=auto (golden dump: 0 min old), sandbox: " in journalled.run("--collect-only").text

    def test_the_summary_tells_what_was_done(self, journalled: Project) -> None:
        journalled.scenarios("there is one Acme", "all is well")
        for arguments in ([], ["-n", "2"]):
            text = journalled.run(*arguments).expect(0, passed=2).text
            assert "resets: 2 by restore (median" in text
            assert "golden dump 2" in text
            assert "from the cache" in text or "made in this run" in text
            assert "quarantined, in rows" in text
            assert "invariants, " in text
            assert "1 inserted in 1 table" not in text
        text = journalled.run("-v", "-n", "2").expect(0, passed=2).text
        assert text.count(": 1 inserted in 1 table") == 2

    def test_with_q_only_what_deserves_a_look(self, journalled: Project, estate: BuiltEstate) -> None:
        journalled.scenarios("there is one Acme")
        with connect(estate.admin(0)) as somebody, connect(estate.admin(1)):
            text = journalled.run("-q").expect(0, passed=1).text
            assert f"pid {somebody.info.backend_pid}, login postgres" in text or "login postgres" in text
        assert "resets:" not in text
        assert "golden dump" not in text


def test_trials_are_one_scenario() -> None:
    found = content([*trials([True, False]), result("Another")])
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    scenario = found["features"][0]["scenarios"][0]
    assert [each["trial"] for each in scenario["rehearsals"]] == [1, 2]
    assert scenario["trials"]["pass_hat"] == [0.5, 0.0]


def test_change_sets_that_are_the_same_are_one() -> None:
    one, two = "inserted a#1\n    b: 1\n", "inserted a#1\n    b: 2\n"
    both = "deleted c 1\n"
    sets = compared({1: one + both, 2: two + both, 3: two + both})
    assert sets == [
        {"trials": [2, 3], "own": ["inserted a#1\n    b: 2"], "common": 1},
        {"trials": [1], "own": ["inserted a#1\n    b: 1"], "common": 1},
    ]
    assert compared({}) == []
