"""No password, no unique id, no key of the agent's: in no output and no file of a whole run."""

from __future__ import annotations

from pathlib import Path

import pytest

from .estates import BuiltEstate, Project

TESTS = """
import logging, os

def test_green(erp_api, erp_agent_env):
    logging.getLogger("theirs").warning("key %s", erp_agent_env["DOLAPIKEY"])
    print(erp_agent_env, erp_agent_env["DOLAPIKEY"])
    with open(os.environ["ERP_SANDBOX_TEST_KEYS"], "a") as keys:
        keys.write(erp_agent_env["DOLAPIKEY"] + "\\n")
    assert erp_api.get("status").status_code == 200

def test_red(erp_api, erp_db, erp_sandbox, erp_sandbox_settings, erp_agent_env):
    settings, key, text = erp_sandbox_settings, erp_sandbox.key, erp_agent_env["DOLAPIKEY"]
    plain = [place.dsn.get_secret_value() for place in settings.all_sandboxes]
    print(key, text, plain)
    with open(os.environ["ERP_SANDBOX_TEST_KEYS"], "a") as keys:
        keys.write(text + "\\n")
    assert dict(erp_agent_env) == {"DOLAPIKEY": plain}
"""


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tests of the project write their keys down, for us to look for."""
    file = tmp_path / "keys"
    monkeypatch.setenv("ERP_SANDBOX_TEST_KEYS", str(file))
    return file


def _everything(project: Project, *arguments: str) -> str:
    run = project.run(*arguments, "--junitxml=report.xml")
    assert run.outcomes == {"failed": 1, "passed": 1}, run.text
    written = [file.read_text(errors="replace") for file in project.path.rglob("*") if _is_ours(file)]
    manifests = [file.read_text() for file in project.estate.golden.rglob("manifest.json")]
    assert manifests
    return "\n".join([run.text, *written, *manifests])


def _is_ours(file: Path) -> bool:
    """Whether a run wrote it; the settings hold the DSNs, of course."""
    return file.is_file() and file.name != "erp-sandbox.toml"


def _found(secrets: list[str], text: str) -> list[str]:
    return [secret for secret in secrets if secret in text]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-rA", "-vv"],
        ["-vv", "--showlocals", "--log-level=DEBUG"],
        ["--full-trace", "-l", "-rA"],
        ["-n", "1", "-l", "-rA"],
    ],
    ids=" ".join,
)
def test_nothing_shows_a_secret(project: Project, estate: BuiltEstate, keys: Path, arguments: list[str]) -> None:
    project.pytester.makepyfile(test_secrets=TESTS)
    text = _everything(project, *arguments)
    in_use = keys.read_text().split()
    assert len(in_use) == 2
    assert _found([*estate.secrets(), *in_use], text) == []


def test_without_redaction_a_secret_is_found(project: Project, keys: Path) -> None:
    project.pytester.makepyfile(test_secrets=TESTS)
    project.pytester.makeconftest(
        "from pytest_erp_sandbox.redaction import Redactor\nRedactor.text = lambda self, text: text\n"
    )
    text = _everything(project, "-rA", "-l")
    assert _found(keys.read_text().split(), text)


def test_the_command_shows_none(project: Project, estate: BuiltEstate) -> None:
    said = ""
    for command in (["preflight"], ["refresh"], ["status"], ["reset", "--dry-run"], ["reset"], ["adopt"]):
        done = project.command(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout + done.stderr
    assert _found(estate.secrets(), said) == []
