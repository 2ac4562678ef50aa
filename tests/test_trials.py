"""Trials: what asks an agent is run several times, and passes as a whole at the rate that is asked for."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from pytest_erp_sandbox.tally import Tally, Trial, pass_hat

from .estates import BuiltEstate, Project, Run

AGENT = """
import json, os, sys, urllib.request

def make(name):
    urllib.request.urlopen(urllib.request.Request(
        os.environ["DOLIBARR_URL"] + "/api/index.php/thirdparties",
        json.dumps({"name": name, "client": "1"}).encode(),
        {"DOLAPIKEY": os.environ["DOLAPIKEY"], "Content-Type": "application/json"},
    ))

asked, trial = sys.stdin.read().split(), int(os.environ["TRIAL"])
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

SCENARIO = '  Scenario: one\n    When the agent is asked "{}"\n    Then the agent answered "done"\n'


@pytest.fixture
def configure(project: Project, estate: BuiltEstate) -> Project:
    configured(project)
    return project


def configured(project: Project, *places: int, **top: object) -> None:
    settings = project.estate.settings(*places, **{"strategy": "rewind", **top})
    settings["agent"]["command"] = [sys.executable, "{project}/agent.py"]
    project.configure(settings)
    (project.path / "agent.py").write_text(AGENT)
    project.pytester.makeconftest(CONFTEST)
    project.pytester.makepyfile(test_features="from pytest_bdd import scenarios\nscenarios('.')\n")


def rehearse(project: Project, prompt: str, *arguments: str) -> Run:
    (project.path / "one.feature").write_text("Feature: one\n" + SCENARIO.format(prompt))
    return project.run(*arguments)


def test_quick(configure: Project) -> None:
    run = rehearse(configure, "fail-in-2 twice-in-3", "--erp-sandbox-trials=4", "-v")
    print(run.text)
    run = rehearse(
        configure, "fail-in-2 twice-in-3", "--erp-sandbox-trials=4", "--erp-sandbox-trials-required=0.75", "-rA"
    )
    print(run.text)
    run = rehearse(configure, "fail-in-2 fail-in-3", "--erp-sandbox-trials=4", "--erp-sandbox-trials-required=0.75")
    print(run.text)
    assert 0
