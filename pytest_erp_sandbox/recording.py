"""Recording what a test does: its steps as they come, what it changed once it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .errors import ErpSandboxError
from .record import StepRecord, asked_record, record_of, take_resets
from .run import ASKED, REHEARSED, SETTINGS, TRIAL
from .scenarios import is_scenario
from .trials import example_of

if TYPE_CHECKING:
    from .sandbox import Sandbox
    from .settings import Settings

__all__ = ["ScenarioRecorder", "record"]

EACH = 25
"""Rows of each table that a record has; the others are counted."""

_READERS_OF_PROPERTIES = ("xmlpath", "htmlpath", "allure_report_dir")
"""The options with which others write what tests did; for them, too, changes are read."""

_RUNNING = "running"


class ScenarioRecorder:
    """A part of the plugin where pytest-bdd is: notes the steps of scenarios."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._steps: list[StepRecord] = []
        self._number = 0
        self._begun = 0.0

    def pytest_bdd_before_scenario(self, request: pytest.FixtureRequest, feature: Any, scenario: Any) -> None:
        """Note where the scenario stands, and the steps that it has."""
        record = record_of(request.node)
        file = Path(feature.filename)
        record["scenario"] = {
            "feature": feature.name or "",
            "file": str(file.relative_to(self._root) if file.is_relative_to(self._root) else file),
            "about": feature.description or "",
            "name": scenario.name,
            "line": scenario.line_number,
            "tags": sorted({*scenario.tags, *feature.tags}),
            "example": example_of(request.node),
        }
        record["steps"] = self._steps = [_step(step) for step in scenario.steps]
        self._number = 0

    def pytest_bdd_before_step(self) -> None:
        """Note that a step begins."""
        self._steps[self._number]["outcome"] = _RUNNING
        self._begun = time.perf_counter()

    def pytest_bdd_after_step(self) -> None:
        """Note that it has passed."""
        self._end("passed")

    def pytest_bdd_step_error(self) -> None:
        """Note that it has failed."""
        self._end("failed")

    def pytest_bdd_step_func_lookup_error(self) -> None:
        """Note that nobody knows what it means."""
        self._begun = time.perf_counter()
        self._end("failed")

    def _end(self, outcome: str) -> None:
        self._steps[self._number]["outcome"] = outcome
        self._steps[self._number]["seconds"] = time.perf_counter() - self._begun
        self._number += 1


def record(item: pytest.Item, report: pytest.TestReport) -> None:
    """Record what a test has done by now, where it has anything to do with a sandbox; a failing one shows it, too."""
    fixtures = getattr(item, "fixturenames", ())
    if not (is_scenario(fixtures) or "erp_sandbox" in fixtures or REHEARSED in item.stash):
        return
    if report.when == "setup":
        _record_setup(item, report)
    elif report.when == "call":
        _record_call(item, report)


def _record_setup(item: pytest.Item, report: pytest.TestReport) -> None:
    """Record which sandbox a test has, and how that was put back."""
    record_of(item)
    if (sandbox := item.stash.get(REHEARSED, None)) is not None:
        record_of(item)["sandbox"] = sandbox.name
        properties: dict[str, object] = {"erp_sandbox": sandbox.name}
        if resets := take_resets(item):
            properties["erp_sandbox_reset"] = resets[-1]["kind"]
            properties["erp_sandbox_reset_seconds"] = round(resets[-1]["seconds"], 4)
        _add_properties(item, report, properties)


def _record_call(item: pytest.Item, report: pytest.TestReport) -> None:
    """Record what a test changed, and what its agent said; a failing one shows them below."""
    record = record_of(item)
    take_resets(item)
    for step in record.get("steps", ()):
        if step["outcome"] == _RUNNING:
            # A failure that is no Exception, such as pytest.fail's, or a skip.
            step["outcome"] = report.outcome
    if conversation := item.stash.get(ASKED, ()):
        from .asking import shown

        record["asked"] = list(map(asked_record, conversation))
        if report.failed:
            report.sections += [("the agent", shown(asked)) for asked in conversation]
    sandbox, settings = item.stash.get(REHEARSED, None), item.config.stash[SETTINGS]
    if sandbox is not None and settings is not None and settings.journals:
        if report.failed or _is_wanted(item.config, settings):
            _record_changes(item, report, sandbox)
        if (changes := record.get("changes")) is not None:
            counts = {f"erp_sandbox_{kind}": changes[kind] for kind in ("inserted", "updated", "deleted")}
            _add_properties(item, report, counts)


def _is_wanted(config: pytest.Config, settings: Settings) -> bool:
    """Whether anybody is to see what a test changed that has passed: it takes milliseconds to read."""
    others = any(config.getoption(option, None) for option in _READERS_OF_PROPERTIES)
    return bool(settings.report) or others or config.get_verbosity() > 0


def _record_changes(item: pytest.Item, report: pytest.TestReport, sandbox: Sandbox) -> None:
    from .changes import told
    from .plain import plain_changes

    record = record_of(item)
    try:
        found = sandbox.changes(each=EACH)
        record["changes"], text = plain_changes(found), told(found)
        if TRIAL in item.stash:
            record["written"] = sandbox.changes_in_writing()
    except ErpSandboxError as error:
        text = str(error)
    if report.failed:
        report.sections.append((f"changed in {sandbox.name}", text))


def _add_properties(item: pytest.Item, report: pytest.TestReport, properties: Mapping[str, object]) -> None:
    """Let JUnit's XML, and whoever else reads properties, have them; a test that is run again has the last."""
    others = [(name, value) for name, value in item.user_properties if name not in properties]
    item.user_properties[:] = [*others, *properties.items()]
    report.user_properties = list(item.user_properties)


def _step(step: Any) -> StepRecord:
    table = getattr(step, "datatable", None)
    return {
        "keyword": step.keyword,
        "name": step.name,
        "outcome": "skipped",
        "seconds": 0.0,
        "table": None if table is None else [[str(cell) for cell in row] for row in table.raw()],
        "docstring": getattr(step, "docstring", None),
    }
