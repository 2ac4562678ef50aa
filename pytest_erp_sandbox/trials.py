"""Trials: an agent is not deterministic, so what asks one is run several times, each time from the golden state."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Generator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from .errors import AgentProcessError, ErpSandboxError
from .run import FAILED, REHEARSED, TRIAL, note, worker_input
from .scenarios import fixtures_asked_for, tags
from .tally import Outcome, Tally, Trial, pass_hat

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sandbox import Sandbox
    from .settings import Settings

__all__ = ["Trials", "example_of", "group_of", "is_tolerated", "pass_hat"]

MARKER = "erp_sandbox_trials"

TRIALS_OF = "trials of "
"""With which the subject of a scenario's note begins."""

_TAG = re.compile(rf"{MARKER}\((\d+)\)")

_AGENTS = {"erp_agent", "erp_agent_env"}
"""Who asks for one of these fixtures asks an agent."""

PLANNED = pytest.StashKey[int]()
"""On a test that is one of several trials: how many there are in this run."""


def group_of(item: pytest.Item) -> str:
    """A scenario's name without its trial: what all its trials share, and its node id where it has none."""
    number = item.stash.get(TRIAL, None)
    if number is None:
        return item.nodeid
    before = item.nodeid.rpartition(f"trial-{number}]")[0]
    return before.removesuffix("[") if before.endswith("[") else f"{before.removesuffix('-')}]"


def example_of(item: pytest.Item) -> str:
    """Which example of a scenario outline it is, in whichever trial; empty where there is none."""
    name: str = getattr(getattr(item, "callspec", None), "id", "")
    return name.removesuffix(f"trial-{item.stash.get(TRIAL, 0)}").removesuffix("-")


class Trials:
    """A part of the plugin: makes trials of what asks an agent, and tells what came of them.

    A trial's result travels with its report, so that it is all the same which process it was run in: those who report
    count. Of a failing trial that is tolerated the report says that it was skipped, as pytest has it of what was
    expected to fail; one failure too many is a failure.

    Attributes:
        tallies: what came of the trials, by the group.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.tallies: dict[str, Tally] = {}
        self._config = config
        self._settings = settings
        self._reports = not worker_input(config)
        self._is_running = False

    @pytest.hookimpl(trylast=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make as many tests of one that asks an agent as trials are wanted."""
        trials = self._wanted(metafunc)
        if trials == 1 or _AGENTS.isdisjoint(fixtures_asked_for(metafunc)):
            return
        if self._settings.reset != "scenario":
            # The settings cannot say so; a marker can, or a tag.
            why = f"trials: one of each, since reset = {self._settings.reset!r} gives them no sandbox of their own"
            note(self._config, "trials", why)
            return
        numbers = range(1, trials + 1)
        if "erp_sandbox_trial" not in metafunc.fixturenames:
            metafunc.fixturenames.append("erp_sandbox_trial")
        metafunc.parametrize("erp_sandbox_trial", numbers, ids=[f"trial-{number}" for number in numbers], indirect=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_bdd_apply_tag(self, tag: str, function: Callable[..., object]) -> object:
        """Let a tag have an argument: ``@erp_sandbox_trials(8)``."""
        if (match := _TAG.fullmatch(tag)) is None:
            return None
        pytest.mark.erp_sandbox_trials(int(match[1]))(function)
        return True

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Know of each trial which one it is, and of how many that were not deselected."""
        items = []
        for item in session.items:
            number = getattr(getattr(item, "callspec", None), "params", {}).get("erp_sandbox_trial")
            if number is not None:
                item.stash[TRIAL] = number
                items.append(item)
        planned = Counter(map(group_of, items))
        for item in items:
            item.stash[PLANNED] = planned[group_of(item)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Know whether a test is still running."""
        self._is_running = True
        try:
            return (yield)
        finally:
            self._is_running = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send a trial's result with its report; tolerate a failure, for now, where some may fail."""
        report = yield
        # A subtest's report comes while its test runs.
        if report.when == "call" and TRIAL in item.stash and not self._is_running:
            trial = self._trial(item, call, report)
            report.erp_sandbox_trial = {  # type: ignore[attr-defined]
                "group": group_of(item),
                "planned": item.stash[PLANNED],
                **asdict(trial),
            }
            if trial.outcome == "failed" and self._settings.trials_required < 1:
                report.outcome, report.wasxfail = "skipped", f"tolerated: {trial.failure}"
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Count a trial; if it is one failure too many, have it fail before anybody else looks at the report."""
        fields: dict[str, Any] | None = getattr(report, "erp_sandbox_trial", None)
        if fields is not None and self._reports and str(report.outcome) != "rerun":
            trial = Trial(**{name: value for name, value in fields.items() if name not in ("group", "planned")})
            tally = self.tallies.setdefault(fields["group"], Tally(fields["planned"], self._settings.trials_required))
            tally.trials.append(trial)
            if trial.outcome == "failed" and tally.failed > tally.may_fail and is_tolerated(report):
                report.outcome = "failed"
                del report.wasxfail
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, object] | None:
        """Call a tolerated failure what it is."""
        return ("tolerated", "t", ("TOLERATED", {"yellow": True})) if is_tolerated(report) else None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Have the summary tell of each scenario's trials, and the run fail where too few of them passed."""
        for group, tally in self.tallies.items():
            lines = list(tally.told())
            if not tally.reaches:
                lines.append(f"fewer than required: {tally.required:g}")
            note(self._config, f"{TRIALS_OF}{group}", "\n  ".join([group, *lines]))
        if not all(tally.reaches for tally in self.tallies.values()) and session.exitstatus == pytest.ExitCode.OK:
            # Where some were skipped, those that failed can be too many although none of them was one too many.
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _wanted(self, metafunc: pytest.Metafunc) -> int:
        """How many trials the nearest tag, or marker, or the settings want."""
        for tag in tags(metafunc):
            if match := _TAG.fullmatch(tag):
                return _checked(int(match[1]))
        marker = metafunc.definition.get_closest_marker(MARKER)
        if marker is None:
            return self._settings.trials
        return _checked(*marker.args, **marker.kwargs)

    def _trial(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> Trial:
        outcome: Outcome = "neither"
        failure = ""
        if report.passed and item.stash.get(FAILED, False):
            outcome, failure = "failed", "a subtest did"
        elif report.passed:
            outcome = "passed"
        elif report.failed and not _is_ours(call):
            outcome, failure = "failed", _in_a_line(report)
        changes, gist = self._changes(item.stash.get(REHEARSED, None))
        return Trial(item.stash[TRIAL], outcome, report.duration, changes, gist, failure)

    def _changes(self, sandbox: Sandbox | None) -> tuple[str | None, str]:
        """What was changed: a digest that is the same wherever it was changed, and a few words."""
        if sandbox is None or not self._settings.journals:
            return None, 'that is not known, without journal = true, or the strategy "rewind"'
        try:
            counts = Counter(f"{change.table} {change.kind}" for change in sandbox.changes())
            text = sandbox.changes_in_writing()
        except ErpSandboxError as error:
            return None, str(error).splitlines()[0]
        gist = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        return hashlib.sha256(text.encode()).hexdigest(), gist or "nothing"


def _checked(trials: object = None, *others: object, **named: object) -> int:
    if not isinstance(trials, int) or trials < 1 or others or named:
        pytest.fail(f"{MARKER} takes one number, from 1 on: how often it is run", pytrace=False)
    return trials


def _is_ours(call: pytest.CallInfo[None]) -> bool:
    """Whether a test failed for what is no fault of the agent's: a lost lease, say. A step's error has it behind it."""
    if call.excinfo is None:
        return False  # it passed, and was expected to fail
    errors = (call.excinfo.value, call.excinfo.value.__context__)
    return any(isinstance(error, ErpSandboxError) and not isinstance(error, AgentProcessError) for error in errors)


def is_tolerated(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Whether a trial has failed where some may."""
    return hasattr(report, "erp_sandbox_trial") and getattr(report, "wasxfail", "").startswith("tolerated: ")


def _in_a_line(report: pytest.TestReport) -> str:
    """What a test failed for: of a step, its words and the reason."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    lines = [line.strip().rstrip(":") for line in text.removeprefix("Failed: ").splitlines()]
    return ": ".join([line for line in lines if line][:2])
