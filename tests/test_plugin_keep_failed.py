"""With ``--erp-sandbox-keep-failed``, a failed scenario's state stays to be looked at."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from pytest_erp_sandbox.postgres.clients import installed_toolsets

from .estates import BuiltEstate, Project
from .servers import connect

KEEP = "--erp-sandbox-keep-failed"


def parties(dsn: SecretStr) -> int:
    """How many third parties the scenarios made there."""
    with connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM llx_societe WHERE nom = 'Acme'").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("arguments", [[], ["-n", "2"]], ids=["plain", "two workers"])
def test_with_one_sandbox_the_run_ends_and_the_next_resets_it(
    project: Project, estate: BuiltEstate, arguments: list[str]
) -> None:
    project.scenarios("there is one Acme", "something is wrong", *["there is one Acme"] * 8)
    run = project.run(KEEP, *arguments)
    assert run.code not in (0, pytest.ExitCode.INTERNAL_ERROR), run.text
    assert run.outcomes["failed"] == 1
    # Without workers it ends at once; another worker's scenarios end where they find the sandbox kept.
    assert run.outcomes.get("error", 0) <= (1 if arguments else 0)
    assert sum(run.outcomes.values()) < 10
    assert "test_parties.py::test_number_2: erp-sandbox is left as the failed scenario left it" in run.text
    assert parties(estate.admin(0)) == 1
    project.scenarios("there is one Acme")
    project.run().expect(0, passed=1)


def test_how_to_look_at_it_can_be_pasted_and_has_no_password(project: Project, estate: BuiltEstate) -> None:
    project.scenarios("something is wrong")
    shown = re.search(r'^ *psql "(.*)"$', project.run(KEEP).text, re.M)
    assert shown is not None
    password = str(conninfo_to_dict(estate.estate.sandboxes[0].dsn.get_secret_value())["password"])
    assert password not in shown[1]
    looked = subprocess.run(
        [
            installed_toolsets()[0].program("psql"),
            shown[1],
            "--no-psqlrc",
            "--tuples-only",
            "--command=SELECT count(*) FROM llx_societe WHERE nom = 'Acme'",
        ],
        env={**os.environ, "PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=True,
    )
    assert looked.stdout.strip() == "1"


def test_with_two_sandboxes_the_run_goes_on_in_the_other(project: Project, estate: BuiltEstate) -> None:
    project.configure(estate.settings(0, 1))
    project.scenarios("something is wrong", *["there is one Acme"] * 5)
    run = project.run(KEEP, "-n", "2").expect(1, failed=1, passed=5)
    (kept,) = re.findall(r"(\S+) is left as", run.text)
    number = [sandbox.name for sandbox in estate.estate.sandboxes].index(kept)
    assert parties(estate.admin(number)) == 1
    project.scenarios(*["there is one Acme"] * 4)
    project.run("-n", "2").expect(0, passed=4)


@pytest.mark.parametrize("arguments", [[], ["-n", "2"]], ids=["plain", "two workers"])
def test_with_every_sandbox_kept_the_run_ends(project: Project, estate: BuiltEstate, arguments: list[str]) -> None:
    project.configure(estate.settings(0, 1))
    project.scenarios(*["something is wrong"] * 10)
    run = project.run(KEEP, *arguments)
    assert run.code not in (0, pytest.ExitCode.INTERNAL_ERROR), run.text
    assert run.outcomes["failed"] == 2
    assert run.outcomes["error"] <= 2
    assert "every sandbox is kept as a failed scenario left it" in run.text
    assert [parties(estate.admin(number)) for number in (0, 1)] == [1, 1]


def test_in_a_session_that_is_reset_once_nothing_comes_after_it(project: Project, estate: BuiltEstate) -> None:
    project.scenarios("something is wrong", "all is well")
    project.run(KEEP, "--erp-sandbox-reset=session").expect(1, failed=1)
    assert parties(estate.admin(0)) == 1


def test_a_scenario_that_passes_leaves_nothing(project: Project) -> None:
    project.scenarios("there is one Acme", "there is one Acme")
    run = project.run(KEEP).expect(0, passed=2)
    assert "is left as" not in run.text
