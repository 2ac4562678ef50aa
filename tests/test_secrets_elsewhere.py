"""No secret in what is less looked at: command lines, log files, reasons, properties, and failures of our own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .estates import BuiltEstate, Project

SHOW_ALL = ("--showlocals", "-vv", "-rA", "--full-trace", "--log-level=debug", "--junitxml=report.xml")

TELLTALE = """
import pytest

def test_passes(erp_sandbox, record_property):
    record_property("key", erp_sandbox.key.get_secret_value())

def test_skips(erp_sandbox):
    pytest.skip(erp_sandbox.key.get_secret_value())

def test_fails_within_a_client(erp_sandbox, erp_sandbox_settings, erp_agent_env):
    import httpx
    import psycopg
    headers = {"DOLAPIKEY": erp_agent_env["DOLAPIKEY"]}
    unique_ids = [place.erp.instance_unique_id.get_secret_value() for place in erp_sandbox_settings.all_sandboxes]
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://127.0.0.1:1", headers=headers)
    psycopg.connect(erp_sandbox_settings.prod.dsn.get_secret_value(), dbname="none")

@pytest.fixture
def broken(erp_sandbox):
    raise RuntimeError(erp_sandbox.key.get_secret_value())

def test_has_an_error(broken):
    pass
"""

# Overrides the fixture, to note outside of the project which keys there were.
NOTE_KEYS = """
import os
import pytest

@pytest.fixture
def erp_sandbox(erp_sandbox):
    with open(os.environ["ERP_SANDBOX_TEST_KEYS"], "a") as file:
        file.write(erp_sandbox.key.get_secret_value() + "\\n")
    return erp_sandbox
"""

WITHOUT_REDACTION = "from pytest_erp_sandbox.redaction import Redactor\nRedactor.text = lambda self, text: text\n"


@pytest.fixture
def keys(project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file outside of the project, in which its tests note the keys that they had."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    monkeypatch.setenv("ERP_SANDBOX_TEST_KEYS", str(file))
    settings = project.estate.settings(0, 1, refresh="always")
    settings["golden"]["path"] = "cache"
    project.configure(settings)
    project.pytester.makeconftest(NOTE_KEYS)
    project.pytester.makepyfile(test_telltale=TELLTALE)
    return file


def found(secrets: list[str], text: str) -> list[str]:
    """The secrets that a text has."""
    return [secret for secret in secrets if secret in text]


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """What the command lines of all processes say, meanwhile."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(file.read_bytes().decode(errors="replace"))
                except OSError:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["plain", "two workers"])
def test_reports_and_command_lines(project: Project, estate: BuiltEstate, keys: Path, workers: list[str]) -> None:
    with command_lines() as commands:
        run = project.run(*SHOW_ALL, *workers).expect(1, passed=1, failed=1, skipped=1, error=1)
    noted = keys.read_text().split()
    secrets = [*estate.secrets(), *noted]
    assert len(noted) == 4
    for text in (run.text, (project.path / "report.xml").read_text()):
        assert "unique_ids = " in text
        assert found(secrets, text) == []
    assert any("pg_restore" in command for command in commands)
    assert found(secrets, "\n".join(commands)) == []


def test_the_search_finds_them_where_redaction_is_off(project: Project, estate: BuiltEstate, keys: Path) -> None:
    project.pytester.makeconftest(NOTE_KEYS + WITHOUT_REDACTION)
    run = project.run(*SHOW_ALL)
    noted = keys.read_text().split()
    for text in (run.text, (project.path / "report.xml").read_text()):
        assert found(noted, text)
        for sandbox in estate.estate.sandboxes[:2]:
            assert sandbox.unique_id.get_secret_value() in text


@pytest.mark.parametrize("reset", ["scenario", "session", "never"])
def test_the_key_in_each_way_of_resetting(project: Project, estate: BuiltEstate, keys: Path, reset: str) -> None:
    project.configure(estate.settings())
    project.pytester.makepyfile(test_telltale="def test_one(erp_sandbox): pass")
    project.run().expect(0, passed=1)
    project.pytester.makepyfile(
        test_telltale="def test_one(erp_sandbox): assert not erp_sandbox.key.get_secret_value()"
    )
    run = project.run("--showlocals", "-vv", f"--erp-sandbox-reset={reset}").expect(1, failed=1)
    assert found(keys.read_text().split(), run.text) == []


def test_the_new_key_of_a_reset_within_a_test(project: Project, estate: BuiltEstate, keys: Path) -> None:
    project.configure(estate.settings())
    project.pytester.makepyfile(
        test_telltale=f"""
        from pathlib import Path

        def test_one(erp_sandbox, erp_sandbox_golden):
            erp_sandbox.reset(erp_sandbox_golden)
            with Path({str(keys)!r}).open("a") as file:
                file.write(erp_sandbox.key.get_secret_value() + "\\n")
            assert not erp_sandbox.key.get_secret_value()
        """
    )
    run = project.run("--showlocals", "-vv").expect(1, failed=1)
    first, second = keys.read_text().split()
    assert first != second
    assert found([first, second], run.text) == []


def test_logs_of_the_clients(project: Project, estate: BuiltEstate, keys: Path) -> None:
    project.pytester.makepyfile(
        test_telltale="def test_one(erp_api, erp_sandbox): assert erp_api.get('status').is_success"
    )
    run = project.run("--log-file=all.log", "--log-level=debug", "--log-cli-level=debug", "-s").expect(0, passed=1)
    log = (project.path / "all.log").read_text()
    assert "httpcore" in log
    assert found([*estate.secrets(), *keys.read_text().split()], log + run.text) == []


LOGS_ITS_KEY = """
import logging, os

def test_one(erp_agent_env, caplog):
    key = erp_agent_env["DOLAPIKEY"]
    with open(os.environ["ERP_SANDBOX_TEST_KEYS"], "a") as file:
        file.write(key + "\\n")
    try:
        raise ValueError(key)
    except ValueError:
        logging.getLogger("theirs").exception("with %s", key)
    assert key in caplog.text
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["here", "a worker"])
def test_logs_of_the_tests_themselves(project: Project, keys: Path, workers: tuple[str, ...]) -> None:
    project.pytester.makepyfile(test_telltale=LOGS_ITS_KEY)
    run = project.run("--log-file=all.log", "--log-cli-level=debug", *workers).expect(0, passed=1)
    log = (project.path / "all.log").read_text()
    assert log.count("with **********") == log.count("ValueError: **********") == 1
    # pytest-xdist shows no live log of its workers.
    assert run.text.count("with **********") == (0 if workers else 1)
    assert found(keys.read_text().split(), log + run.text) == []


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["here", "a worker"])
def test_what_comes_before_any_sandbox(project: Project, estate: BuiltEstate, workers: tuple[str, ...]) -> None:
    dsn = estate.settings()["sandboxes"][0]["dsn"].get_secret_value()
    project.pytester.makepyfile(
        test_broken=f"raise RuntimeError({dsn!r})",
        test_plain=f"import pytest\ndef test_expected(): pytest.xfail({dsn!r})\ndef test_fails(): assert not {dsn!r}",
    )
    run = project.run("--continue-on-collection-errors", "-rA", "--junitxml=report.xml", *workers)
    assert run.outcomes == {"failed": 1, "xfailed": 1, "error": 1}, run.text
    assert run.text.count("**********") > 3
    assert found(estate.secrets(), run.text + (project.path / "report.xml").read_text()) == []


@pytest.mark.parametrize("what", ["prod", "sandbox", "erp"])
def test_failures_of_our_own(project: Project, estate: BuiltEstate, what: str) -> None:
    settings = estate.settings()
    place = settings["sandboxes"][0]
    if what == "erp":
        place["erp"]["url"] = "http://somebody:basic-password@127.0.0.1:1"
    else:
        table = settings["prod"] if what == "prod" else place
        # A port at which nobody listens; login and password stay.
        table["dsn"] = table["dsn"].get_secret_value().rpartition(":")[0] + ":1/erp"
    project.configure(settings)
    project.scenarios("all is well")
    secrets = [*estate.secrets(), "basic-password"]
    for arguments in ([], ["--showlocals", "--full-trace", "-vv"]):
        run = project.run(*arguments)
        assert run.outcomes == {"error": 1}, run.text
        assert found(secrets, run.text) == []
    done = project.command("reset")
    assert done.returncode == 1
    assert found(secrets, done.stdout + done.stderr) == []
