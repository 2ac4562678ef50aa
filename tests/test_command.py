"""The command: what each part does, says, and ends with."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from pytest_erp_sandbox.command import _only, _show
from pytest_erp_sandbox.demo.estate import PROD_DATABASE
from pytest_erp_sandbox.postgres.adoption import is_adopted
from pytest_erp_sandbox.settings import Settings
from pytest_erp_sandbox.tables import table_of_encrypted

from .estates import BuiltEstate, Project
from .postgres.pairs import eventually
from .servers import connect


def _golden_dumps(project: Project) -> list[str]:
    return re.findall(r"\d{8}T\d{6}\.\d{6}Z", project.command("status").stdout.partition("golden dumps")[2])


def test_refresh_makes_a_golden_dump_and_resets_the_sandbox_to_it(project: Project) -> None:
    done = project.command("refresh")
    assert done.returncode == 0, done.stderr
    made = re.search(r"golden dump (\S+) made of 'erp'", done.stdout)
    assert made
    assert f"is reset to golden dump {made[1]}" in done.stdout
    assert made[1] in _golden_dumps(project)


def test_refresh_from_prod_only_makes_a_golden_dump(project: Project) -> None:
    done = project.command("refresh-from-prod")
    assert done.returncode == 0, done.stderr
    assert "made of" in done.stdout
    assert "is reset" not in done.stdout


def test_reset_puts_back_what_was_changed(project: Project, estate: BuiltEstate) -> None:
    assert project.command("reset").returncode == 0
    with connect(estate.admin(0)) as connection:
        connection.execute("DELETE FROM llx_facturedet; UPDATE llx_societe SET nom = 'gone'")
        assert project.command("reset").returncode == 0
        assert connection.execute("SELECT count(*) FROM llx_societe WHERE nom = 'gone'").fetchone() == (0,)


def test_reset_of_one_sandbox_touches_no_other_though_a_golden_dump_has_to_be_made(
    project: Project, estate: BuiltEstate
) -> None:
    settings = estate.settings(0, 1)
    project.configure(settings)
    assert project.command("reset").returncode == 0
    project.configure({**settings, "refresh": "always"})
    with connect(estate.admin(0)) as connection:
        connection.execute("UPDATE llx_societe SET nom = 'still here'")
        done = project.command("reset", "--sandbox", settings["sandboxes"][1]["name"])
        assert done.returncode == 0, done.stderr
        assert connection.execute("SELECT DISTINCT nom FROM llx_societe").fetchall() == [("still here",)]


def test_a_dry_run_lists_what_would_go_and_writes_nothing(project: Project, estate: BuiltEstate) -> None:
    assert project.command("reset").returncode == 0
    with connect(estate.admin(0)) as connection:
        before = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()
        done = project.command("reset", "--dry-run")
        assert connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone() == before
    assert done.returncode == 0
    assert re.search(r"public +table +erp_sandbox_role +20\b", done.stdout), done.stdout


def test_preflight_shows_a_table_and_fails_when_an_invariant_does(project: Project, estate: BuiltEstate) -> None:
    done = project.command("preflight")
    assert done.returncode == 0, done.stdout
    assert "session is read-only" in " ".join(done.stdout.split())
    settings = estate.settings()
    settings["sandboxes"][0]["role"] = "erp_nobody"
    project.configure(settings)
    done = project.command("preflight")
    assert done.returncode == 1
    assert "failure" in done.stdout


def test_strict_makes_power_over_prod_a_failure(project: Project, estate: BuiltEstate) -> None:
    settings = estate.settings()
    settings["prod"]["dsn"] = estate.prod.dsn(PROD_DATABASE)  # a superuser's
    project.configure(settings)
    assert project.command("preflight").returncode == 0
    done = project.command("preflight", "--strict")
    assert (done.returncode, "failure" in done.stdout) == (1, True), done.stdout


def test_a_setting_makes_power_over_prod_a_failure(project: Project, estate: BuiltEstate) -> None:
    settings = estate.settings()
    settings["prod"] = {"dsn": estate.prod.dsn(PROD_DATABASE), "require-read-only-role": True}
    project.configure(settings)
    done = project.command("preflight")
    assert (done.returncode, "failure" in done.stdout) == (1, True), done.stdout
    settings["prod"]["dsn"] = estate.estate.prod_dsn
    project.configure(settings)
    assert project.command("preflight").returncode == 0


@pytest.mark.parametrize(("answer", "code", "adopted"), [("n\n", 1, False), ("y\n", 0, True)], ids=["no", "yes"])
def test_adopt_shows_what_is_there_and_asks(
    project: Project, estate: BuiltEstate, answer: str, code: int, adopted: bool
) -> None:
    assert project.command("reset").returncode == 0
    with estate.unadopted(0):
        refused = project.command("reset")
        assert refused.returncode == 1
        assert "erp-sandbox adopt" in refused.stderr
        done = project.command("adopt", answer=answer)
        assert done.returncode == code, done.stdout + done.stderr
        assert "erp_sandbox_role" in done.stdout
        with estate.database(0).connect() as connection:
            assert is_adopted(connection) is adopted


@pytest.mark.parametrize("options", [(), ("--encrypted",)], ids=["status", "status --encrypted"])
def test_status_is_shown_although_a_sandbox_cannot_be_reached(
    project: Project, estate: BuiltEstate, options: tuple[str, ...]
) -> None:
    settings = estate.settings(0, 1)
    settings["sandboxes"][1]["dsn"] = "postgresql://nobody@127.0.0.1:1/nothing"
    project.configure(settings)
    done = project.command("status", *options)
    assert done.returncode == 0, done.stderr
    assert "erp-sandbox " in done.stdout
    assert "cannot connect" in " ".join(done.stdout.split())


def test_what_cannot_be_read_of_a_sandbox_is_said_beside_its_status(project: Project, estate: BuiltEstate) -> None:
    settings = estate.settings()
    settings["sandboxes"][0]["role"] = "misspelt"
    project.configure(settings)
    done = project.command("status", "--encrypted")
    assert done.returncode == 0, done.stderr
    assert 'what is encrypted cannot be read: role "misspelt" does not exist' in " ".join(done.stdout.split())


def test_names_of_prod_s_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    _show(table_of_encrypted([{"where": "llx_const.value A[red]B[/x]", "sandbox": ":x:", "rows": 1, "unreadable": 1}]))
    shown = capsys.readouterr().out
    assert "llx_const.value A[red]B[/x]" in shown
    assert ":x:" in shown


def test_a_terminal_of_another_encoding_is_shown_what_it_can_show(project: Project, estate: BuiltEstate) -> None:
    project.configure(estate.settings(journal=True))
    assert project.command("reset").returncode == 0
    with connect(estate.admin(0)) as connection:
        connection.execute("INSERT INTO llx_product (ref, label) VALUES ('plain', 'Ło')")
    done = project.command("changes", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert "'\\u0141o'" in done.stdout
    (changes,) = json.loads(project.command("changes", "--json", PYTHONIOENCODING="latin-1").stdout).values()
    assert changes["tables"][0]["rows"][0]["after"]["label"] == "Ło"


def test_forget_removes_the_golden_dumps_that_are_named(project: Project, estate: BuiltEstate) -> None:
    settings = estate.settings()
    settings["golden"] = {"path": project.path / "cache"}
    project.configure(settings)
    for _ in range(2):
        assert project.command("refresh-from-prod").returncode == 0
    newest, oldest = _golden_dumps(project)
    assert project.command("forget", "20260101T000000.000000Z").returncode == 2
    assert project.command("forget").returncode == 2
    assert project.command("forget", oldest).returncode == 0
    assert _golden_dumps(project) == [newest]
    assert project.command("forget", "--all").returncode == 0
    assert _golden_dumps(project) == []


def test_forget_takes_damaged_golden_dumps_along_and_those_of_another_version(
    project: Project, estate: BuiltEstate
) -> None:
    settings = estate.settings()
    cache = project.path / "cache"
    settings["golden"] = {"path": cache}
    project.configure(settings)
    assert project.command("refresh-from-prod").returncode == 0
    (whole,) = _golden_dumps(project)
    others = {"20260101T000000.000000Z": '{"format": 1}', "20260102T000000.000000Z": "{"}
    for name, manifest in others.items():
        (cache / name).mkdir()
        (cache / name / "manifest.json").write_text(manifest)
    said = json.loads(project.command("status", "--json").stdout)
    assert [each["id"] for each in said["golden"]] == [whole]
    assert said["unusable"] == list(others)
    assert _golden_dumps(project) == [whole, *others]
    assert project.command("forget", "20260102T000000.000000Z").returncode == 0
    assert _golden_dumps(project) == [whole, "20260101T000000.000000Z"]
    assert "2 golden dumps removed" in project.command("forget", "--all").stdout
    assert [path.name for path in cache.iterdir()] == [".lock"]


class TestJson:
    """What programs read; the keys are promised."""

    def read(self, project: Project, *arguments: str, code: int = 0) -> Any:
        done = project.command(*arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def test_status(self, project: Project, estate: BuiltEstate) -> None:
        settings = estate.settings(0, 1, journal=True)
        project.configure(settings)
        assert project.command("reset").returncode == 0
        settings["sandboxes"][1]["dsn"] = "postgresql://nobody@127.0.0.1:1/nothing"
        project.configure(settings)
        here, gone = self.read(project, "status")["sandboxes"]
        assert (here["adopted"], here["error"], here["in_use_by"]) == (True, "", [])
        assert here["drift"] == {"inserted": 0, "updated": 0, "deleted": 0, "tables": [], "unseen": []}
        assert (gone["adopted"], gone["golden"], gone["drift"]) == (None, None, None)
        assert "cannot connect" in gone["error"]
        with connect(estate.admin(0)) as connection:
            connection.execute("UPDATE llx_societe SET nom = 'x'; DELETE FROM llx_facturedet WHERE rowid = 1")
            updated = connection.execute("SELECT count(*) FROM llx_societe").fetchone()
        status = self.read(project, "status")
        drift = status["sandboxes"][0]["drift"]
        assert ((drift["updated"],), drift["deleted"]) == (updated, 1)
        assert here["golden"] in [golden["id"] for golden in status["golden"]]
        assert {"id", "source", "made_at", "size", "counts", "quarantine"} <= set(status["golden"][0])
        table = " ".join(project.command("status", COLUMNS="250").stdout.split())
        assert f"{updated and updated[0]} updated, 1 deleted in 2 tables" in table

    def test_preflight(self, project: Project) -> None:
        findings = self.read(project, "preflight")
        assert {"subject", "invariant", "status", "detail", "remedy"} == set(findings[0])
        assert {finding["status"] for finding in findings} <= {"ok", "warning", "skipped"}

    def test_changes_and_what_a_reset_would_wipe(self, project: Project, estate: BuiltEstate) -> None:
        project.configure(estate.settings(journal=True))
        assert project.command("reset").returncode == 0
        with connect(estate.admin(0)) as connection:
            connection.execute("UPDATE llx_societe SET nom = 'x' WHERE rowid = 1")
        (changes,) = self.read(project, "changes", "--table", "llx_soc*").values()
        (row,) = changes["tables"][0]["rows"]
        assert (row["kind"], row["key"], row["after"]) == ("updated", {"rowid": 1}, {"nom": "x"})
        (going,) = self.read(project, "reset", "--dry-run").values()
        assert {"schema": "public", "kind": "table", "owner": "erp_sandbox_role", "objects": 20} in going

    def test_how_sandboxes_were_put_back(self, project: Project, estate: BuiltEstate) -> None:
        project.configure(estate.settings(0, 1, strategy="rewind"))
        self.read(project, "reset")
        with connect(estate.admin(0)) as connection:
            connection.execute("CREATE TABLE public.new (); ALTER TABLE public.new OWNER TO erp_sandbox_role")
        fallen_back, rewound = self.read(project, "reset").values()
        assert (rewound["strategy"], rewound["reason"], rewound["left_sessions"]) == ("rewind", "", [])
        assert rewound["seconds"] < fallen_back["seconds"]
        assert fallen_back["strategy"] == "restore"
        assert fallen_back["reason"]

    def test_refresh_from_prod(self, project: Project) -> None:
        golden = self.read(project, "refresh-from-prod")
        assert golden["id"] in _golden_dumps(project)

    def test_refresh(self, project: Project) -> None:
        done = self.read(project, "refresh")
        assert done["golden"]["id"] in _golden_dumps(project)
        assert [each["strategy"] for each in done["sandboxes"].values()] == ["restore"]
        assert done["documents"] == {}


def test_refresh_says_at_once_that_it_does_not_know_where_prods_documents_are(
    project: Project, estate: BuiltEstate
) -> None:
    settings = estate.settings()
    settings["sandboxes"][0] |= {"namespace": "erp-sandbox", "documents": {"workload": "dolibarr"}}
    project.configure(settings)
    done = project.command("refresh")
    assert (done.returncode, "prod.documents does not say" in done.stderr) == (2, True), done.stderr


def test_wrong_usage_and_missing_settings_are_exit_code_2(pytester: pytest.Pytester) -> None:
    def code(*arguments: str) -> int:
        command = [sys.executable, "-c", "from pytest_erp_sandbox.command import main; main()", *arguments]
        return subprocess.run(command, cwd=pytester.path, capture_output=True, check=False).returncode

    assert code("nonsense") == 2
    assert code("status") == 2
    assert code("--help") == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_it_with_the_shells_code(
    project: Project, estate: BuiltEstate, number: signal.Signals, code: int
) -> None:
    with estate.database(0).connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [int.from_bytes(b"erp-sand", "big")])
        process = subprocess.Popen(
            [sys.executable, "-c", "from pytest_erp_sandbox.command import main; main()", "reset"],
            cwd=project.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: holder.execute(waiting).fetchone() != (0,))
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said


def test_the_claim_is_looked_for_in_the_same_namespace_whichever_sandbox_is_reset() -> None:
    places = [{"name": name, "dsn": "dbname=x", "namespace": f"ns-{name}"} for name in ("a", "b")]
    settings = Settings.model_validate({"sandboxes": places, "refresh": "never", "golden": {"claim": "erp-golden"}})
    assert settings.claim_namespace == "ns-a"
    assert _only(settings, settings.sandboxes[1:]).claim_namespace == "ns-a"
