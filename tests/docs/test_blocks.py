"""Every snippet of README and docs is run: by the story of its page, or here by itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pytest_erp_sandbox.loading import load_settings
from pytest_erp_sandbox.settings import Settings

from ..cluster import test_documentation
from ..estates import Project, toml
from . import test_ci, test_stories
from .conftest import bind
from .pages import ALL, PAGES, STORIES, Block

SELF_CONTAINED = [block for block in ALL if block.page not in STORIES]

assert all((test_ci, test_documentation, test_stories))  # they tell stories


def of(*languages: str) -> list[Block]:
    return [block for block in SELF_CONTAINED if block.language in languages]


def test_nothing_is_left_that_no_test_runs() -> None:
    assert [str(block) for block in SELF_CONTAINED if block.language not in ("toml", "gherkin", "python")] == []
    assert {block.page for block in ALL} >= STORIES


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "toml"], ids=str)
def test_settings_can_be_used(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a snippet leaves out is added; what it has is taken as it is."""
    given: dict[str, Any] = tomllib.loads(block.text)
    given = given.get("tool", {}).get("erp-sandbox", given)
    settings = load(tmp_path, complete(given))
    asked_for = Settings.model_validate(settings.model_dump())
    assert asked_for
    for key in given:
        assert key.replace("-", "_") in settings.model_fields_set


def load(folder: Path, table: dict[str, Any]) -> Settings:
    (folder / "erp-sandbox.toml").write_text("".join(f"{key} = {toml(value)}\n" for key, value in table.items()))
    settings = load_settings(folder)
    assert settings is not None
    return settings


def complete(given: dict[str, Any]) -> dict[str, Any]:
    """Settings with a prod and a sandbox, where they have none."""
    if given.get("demo"):
        return given
    prod = given.get("prod", {})
    if not prod.keys() & {"dsn", "secret", "dump"}:
        prod = {"dsn": "postgresql:///erp", **prod}
    sandbox = given.get("sandbox", {})
    if not sandbox.keys() & {"dsn", "secret", "embedded"}:
        sandbox = {"dsn": "postgresql:///erp-sandbox", "namespace": "erp-sandbox", **sandbox}
    return {**given, "prod": prod} if "sandboxes" in given else {**given, "prod": prod, "sandbox": sandbox}


@pytest.mark.parametrize("block", of("gherkin"), ids=str)
def test_a_feature_is_rehearsed(block: Block, rehearsing: Project) -> None:
    bind(rehearsing.path, block.text)
    rehearsing.run().expect(0, passed=block.text.count("Scenario:"))


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_is_run(block: Block, rehearsing: Project) -> None:
    """A snippet with tests is run; one with fixtures is a conftest."""
    tests = block.text.count("def test_")
    if not tests:
        (rehearsing.path / "conftest.py").write_text(block.text)
        (rehearsing.path / "test_it.py").write_text(
            "def test_only_reads(erp_api):\n"
            "    assert erp_api.get('thirdparties/1').status_code == 200\n"
            "    assert erp_api.delete('thirdparties/1').status_code == 403\n"
        )
    else:
        (rehearsing.path / "test_it.py").write_text(block.text)
    rehearsing.run().expect(0, passed=tests or 1)


def test_links_lead_somewhere() -> None:
    """Those of the README, which Sphinx does not look at; it looks at all others."""
    (readme, *_) = PAGES
    for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", readme.read_text()):
        assert (readme.parent / link).exists(), link
