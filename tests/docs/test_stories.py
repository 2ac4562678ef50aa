"""What README and docs tell people to do works when it is done, command by command."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.demo.locks import exclusive
from pytest_erp_sandbox.demo.use import use_demo
from pytest_erp_sandbox.dolibarr.local import _php

from ..estates import Project
from ..test_trials import CONFTEST
from .conftest import OwnPostgres, bind, write_agent
from .pages import PROJECT, Page, story
from .shell import Shell


def shown(secret: SecretStr) -> str:
    """A secret, as JSON has it."""
    return secret.get_secret_value()


def check_requirement(command: str) -> None:
    """Check that what ``pip install`` names is what this project is called, and has this extra."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (name, extra) = re.findall(r"pip install '([\w-]+)\[(\w+)\]'", command)[0]
    assert name == project["name"]
    assert extra in project["optional-dependencies"]


@story("README.md")
def test_the_readme(page: Page, own: OwnPostgres) -> None:
    # .ci/run makes them.
    for line in page.take("sh").splitlines():
        own.shell.run(f"cd {PROJECT}\n{line.replace('make', 'make --dry-run')}")
    first, agent, asked = page.take("gherkin"), page.take("toml"), page.take("gherkin")

    own.psql(page.take("sql"))
    own.make_dump_role(page.take("sh"))
    settings = own.located(page.take("toml"))
    shell = own.shell
    (shell.folder / "pyproject.toml").write_text(settings + agent)
    bind(shell.folder, first, asked)
    write_agent(shell.folder)
    said = shell.run(page.take("sh"), answer="y\n")
    assert "is adopted" in said
    assert "2 passed" in said


@pytest.fixture
def demo_project(pytester: pytest.Pytester) -> Iterator[Path]:
    """An empty folder, whose demo goes with it."""
    yield pytester.path
    with use_demo(pytester.path) as demo:
        pass
    exclusive(demo.folder / "service.lock").close()
    shutil.rmtree(demo.folder)


@story("docs/tutorial.md")
def test_the_tutorial(page: Page, demo_project: Path) -> None:
    shell = Shell(demo_project)
    *environment, install = page.take("sh").splitlines()
    shell.run("\n".join([*environment, "which python | grep .venv"]))
    check_requirement(install)

    files = {"erp-sandbox.toml": "toml", "customers.feature": "gherkin", "test_customers.py": "python"}
    for file, language in {**files, "agent.py": "python"}.items():
        (demo_project / file).write_text(page.take(language))
    said = shell.run(page.take("sh"), code=1)
    assert "1 failed, 1 passed" in said
    assert "(golden dump: " not in said
    assert page.take("text") in said

    agent = demo_project / "agent.py"
    mended = page.take("python")
    kept = agent.read_text().split(mended.splitlines()[0])[0]
    assert len(agent.read_text().splitlines()) - len(kept.splitlines()) == 3
    agent.write_text(kept + mended)
    said = shell.run(page.take("sh"))
    assert "2 passed" in said
    assert "(golden dump: 0 min old), sandbox: embedded demo" in said
    assert "8 passed" in shell.run(page.take("sh"))
    shell.run(page.take("sh"))
    assert "Chez Gwenaëlle is a customer now." in (demo_project / "report.html").read_text()


@story("docs/how-to/own-databases.md")
def test_own_databases(page: Page, own: OwnPostgres) -> None:
    shell = own.shell
    own.psql(page.take("sql"))
    own.psql(page.take("sql"))
    own.make_dump_role(page.take("sh"))
    settings = own.located(page.take("toml"))
    (shell.folder / "pyproject.toml").write_text(settings)
    assert "adopted" in shell.run(page.take("sh"))
    bind(shell.folder, 'Feature: f\n  Scenario: s\n    When the agent calls GET "thirdparties/1"\n')
    assert "1 passed" in shell.run(page.take("sh"))
    assert "adopted already" in shell.run(page.take("sh"))

    dumped = own.located(page.take("toml"))
    dsn = re.search(r'dsn = "(.*erp_dumper.*)"', settings)
    assert dsn is not None
    shell.run(f"pg_dump -Fc -n public -f prod.dump '{dsn[1]}'")
    (shell.folder / "pyproject.toml").write_text(settings.replace(dsn[0], dumped.splitlines()[1]))
    assert "made of" in shell.run("erp-sandbox refresh-from-prod")

    prepare = page.take("toml")
    (shell.folder / "anonymise.sql").write_text(page.take("sql"))
    (shell.folder / "pyproject.toml").write_text(settings + prepare)
    shell.run("erp-sandbox refresh")
    emails = "SELECT count(*), count(*) FILTER (WHERE email LIKE 'customer-%@example.invalid') FROM llx_societe"
    with psycopg.connect(own.server.dsn("erp-sandbox").get_secret_value()) as connection:
        row = connection.execute(f"{emails} WHERE email IS NOT NULL".encode()).fetchone()
    assert row is not None
    assert row[0] == row[1] > 0


@story("docs/how-to/own-agent.md")
def test_own_agent(page: Page, shell: Shell, rehearsing: Project) -> None:
    folder, settings = shell.folder, rehearsing.estate.settings(strategy="rewind")
    asking = tomllib.loads(page.take("toml"))["tool"]["erp-sandbox"]["agent"]
    rehearsing.configure({**settings, "agent": asking})
    feature = page.take("gherkin")
    bind(folder, feature)
    for name in ("test_asks.py", "test_starts.py"):
        (folder / name).write_text(page.take("python"))
    assert "3 passed" in shell.run("pytest")

    # tests/test_examples.py rehearses with the example itself.
    model = tomllib.loads(page.take("toml"))["tool"]["erp-sandbox"]["agent"]["command"][1]
    assert (PROJECT / model.removeprefix("{project}/")).exists()

    for name in ("test_asks.py", "test_starts.py"):
        (folder / name).unlink()
    (folder / "conftest.py").write_text(CONFTEST)
    said = shell.run(page.take("sh"), code=1)
    assert re.sub(r"median [\d.]+ s", "median 2.1 s", page.take("text")) in re.sub(
        r"median [\d.]+ s", "median 2.1 s", said
    )

    (folder / "conftest.py").unlink()
    bind(folder, page.take("gherkin"))
    assert "3 passed" in shell.run("pytest")
    assert "made of" in shell.run(page.take("sh"))
    never = tomllib.loads(page.take("toml"))["tool"]["erp-sandbox"]
    assert "prod" not in never
    del settings["prod"]
    rehearsing.configure({**settings, "agent": asking, "refresh": never["refresh"]})
    assert "3 passed" in shell.run("pytest")


@story("docs/how-to/changes.md")
def test_changes(page: Page, shell: Shell, rehearsing: Project) -> None:
    folder = shell.folder
    shell.run("erp-sandbox reset")
    assert "nothing was changed" in shell.run(page.take("sh"))
    bind(folder, page.take("gherkin"))
    (folder / "test_changes.py").write_text(page.take("python"))
    assert "2 passed" in shell.run("pytest")
    bind(folder, page.take("gherkin"))
    shell.run(page.take("sh"))
    expected = folder / "features" / "feature0.changes" / "a-customer-moves.txt"
    assert expected.read_text() == page.take("text")
    assert "2 passed" in shell.run("pytest")
    changes = tomllib.loads(page.take("toml"))["tool"]["erp-sandbox"]["changes"]
    rehearsing.configure({**rehearsing.estate.settings(strategy="rewind"), "changes": changes})
    said = shell.run(page.take("sh"))
    assert "2 passed" in said
    assert (folder / "report.html").exists()
    assert json.loads((folder / "report.json").read_text())["format"] == 1


@story("docs/how-to/several-sandboxes.md")
def test_several_sandboxes(page: Page, shell: Shell, rehearsing: Project) -> None:
    given = tomllib.loads(page.take("toml"))["tool"]["erp-sandbox"]
    estate = rehearsing.estate
    settings = estate.settings(0, 1, strategy=given["strategy"])
    for place, named in zip(settings["sandboxes"], given["sandboxes"], strict=True):
        assert place.keys() - {"lock-timeout", "role"} == named.keys()
        place["name"] = named["name"]
    rehearsing.configure(settings)
    looks = '  Scenario: {}\n    When the agent calls GET "thirdparties/1"\n'
    bind(shell.folder, "Feature: f\n" + "".join(looks.format(number) for number in range(4)))
    said = shell.run(page.take("sh"))
    assert "2 workers" in said
    assert "4 passed" in said
    assert all(name in shell.run("erp-sandbox status") for name in ("left", "right"))
    assert "in use by" in shell.run(page.take("sh"))
    said = shell.run(page.take("sh"))
    assert "left is reset" in said
    assert "right" not in said

    variable = json.dumps(settings.pop("sandboxes"), default=shown)
    rehearsing.configure(settings)
    assert "right" in shell.run("erp-sandbox status", variables={"ERP_SANDBOX_SANDBOXES": variable})


SIMULATED = """
# What cannot be installed for a test: that there are such packages is asked of apt, where it knows any.
command -v apt-get >/dev/null && apt-cache show php-cli >/dev/null 2>&1 || exit 0
exec apt-get --simulate "$@"
"""


@story("docs/how-to/local-dolibarr.md")
def test_local_dolibarr(page: Page, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/dolibarr/test_local.py rehearses with one."""
    page.take("toml")  # loaded below, as all
    shell.stub("apt", SIMULATED)
    commands = page.take("sh")
    (version,) = re.findall(r"--branch (\S+)", commands)
    shell.run(commands, variables=publish("Dolibarr/dolibarr", version, shell))
    assert (shell.folder / "dolibarr" / "htdocs" / "filefunc.inc.php").exists()
    (install,) = shell.calls
    monkeypatch.setenv("PATH", str(shell.folder))
    with pytest.raises(Exception, match="there is no PHP") as error:
        _php()
    assert install in str(error.value)
    page.take("toml")
    page.take("toml")


def publish(repository: str, tag: str, shell: Shell) -> dict[str, str]:
    """Stand in for GitHub, which cannot be reached: variables with which git finds a repository, of one file, here."""
    place = shell.folder / ".github.com" / repository
    (place / "htdocs").mkdir(parents=True)
    (place / "htdocs" / "filefunc.inc.php").touch()
    who = "-c user.name=somebody -c user.email=somebody@example.org"
    shell.run(f"cd {place}\ngit init -q\ngit add .\ngit {who} commit -qm dolibarr\ngit tag {tag}")
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{shell.folder}/.github.com/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }


@story("docs/how-to/when-something-fails.md")
def test_when_something_fails(page: Page, shell: Shell, rehearsing: Project) -> None:
    looking = page.take("sh")
    shell.run("erp-sandbox reset")
    said = shell.run(looking)
    assert "nothing was changed" in said
    for command in looking.splitlines():
        json.loads(shell.run(f"erp-sandbox --quiet {command.removeprefix('erp-sandbox ')} --json"))
    rehearsing.scenarios("something is wrong", "all is well")
    said = shell.run(page.take("sh"), code=1)
    assert "is left as the failed scenario left it" in said
    assert "1 failed" in said


VAULT = """
case "$1 $2" in
"write database/roles/erp-dump") test -s creation.sql && test -s revocation.sql ;;
"policy write") grep -q database/creds/erp-dump ;;
"read -format=json") cat "{answer}" ;;
*) exit 1 ;;
esac
"""


@story("docs/how-to/vault.md")
def test_vault(page: Page, own: OwnPostgres) -> None:
    """Its logins are made by Vault's own statements; tests/deploy has more of that. Vault itself is not here."""
    shell = own.shell
    own.psql("CREATE ROLE vault LOGIN CREATEROLE PASSWORD 'vaults'")
    own.psql("".join(block.text for block in Page("README.md").left if block.language == "sql"))
    shell.run(f"cd {PROJECT}\n{page.take('sh')}")
    name, password = "v-token-erp-1", "its-own-secret"
    statements = (PROJECT / "deploy/vault/creation.sql").read_text()
    for key, value in {"name": name, "password": password, "expiration": "infinity"}.items():
        statements = statements.replace(f"{{{{{key}}}}}", value)
    shell.run(f"PGUSER=vault PGPASSWORD=vaults psql -Xq -v ON_ERROR_STOP=1 -d erp <<'SQL'\n{statements}\nSQL")

    answer = shell.folder / "answer.json"
    answer.write_text(json.dumps({"lease_id": "1", "data": {"username": name, "password": password}}))
    shell.stub("vault", VAULT.format(answer=answer))
    shell.run(f"cd {PROJECT}\n{page.take('sh')}")
    readme = next(block.text for block in Page("README.md").left if "instance-unique-id" in block.text)
    (_, sandbox) = readme.split("[tool.erp-sandbox.sandbox]")
    settings = f"{page.take('toml')}\n[tool.erp-sandbox.sandbox]{sandbox}"
    (shell.folder / "pyproject.toml").write_text(own.located(settings))
    assert "made of 'erp'" in shell.run(page.take("sh"))


@story("docs/explanation/fidelity.md")
def test_fidelity(page: Page, shell: Shell) -> None:
    shell.run("erp-sandbox reset")
    assert "do not decrypt here" in shell.run(page.take("sh"))


@story("docs/reference/report.md")
def test_report(page: Page, shell: Shell) -> None:
    bind(shell.folder, next(block.text for block in Page("README.md").left if block.language == "gherkin"))
    shell.run("erp-sandbox reset\npytest --erp-sandbox-strategy=restore --erp-sandbox-report=report.json")
    shown = json.loads(page.take("json"))
    shown["project"] = shell.folder.name
    _require_part(shown, json.loads((shell.folder / "report.json").read_text()))


def _require_part(part: Any, whole: Any) -> None:
    if isinstance(part, dict):
        for key, value in part.items():
            _require_part(value, whole[key])
    elif isinstance(part, list):
        for each, of in zip(part, whole, strict=True):
            _require_part(each, of)
    else:
        assert part == whole
