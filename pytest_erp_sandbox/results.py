"""What came of a run's tests, as their reports tell: the same whether they ran here or in pytest-xdist's workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from .record import Luggage, Record, ResetRecord, luggage_of
from .trials import is_tolerated

__all__ = ["Result", "Results"]

_LONGEST = 20_000
"""Characters that are kept of a failure; the end says what it was."""


@dataclass
class Result:
    """What came of a test.

    Attributes:
        id: pytest's name of it.
        outcome: ``passed``, ``failed``, ``error``, ``skipped``, ``xfailed``, ``xpassed``, ``tolerated`` (a trial that
            failed where some may), or ``unfinished`` where the run was interrupted.
        seconds: how long it took, with its reset and whatever else was set up.
        begun: when it began, in seconds since 1970.
        failure: what it failed for, or why it was skipped; else empty.
        record: what it did in its sandbox; None where it had nothing to do with one.
        trial: which trial it was (``number``) of which scenario (``group``), and what came of it; None for others.
    """

    id: str
    outcome: str = "unfinished"
    seconds: float = 0.0
    begun: float = 0.0
    failure: str = ""
    record: Record | None = None
    trial: Mapping[str, Any] | None = None

    def take(self, report: pytest.TestReport) -> None:
        """Learn what one of its reports says."""
        self.seconds += report.duration
        self.begun = self.begun or getattr(report, "start", 0.0)
        if (record := luggage_of(report).get("record")) is not None:
            self.record = record
        self.trial = getattr(report, "erp_sandbox_trial", self.trial)
        if (outcome := _outcome(report)) is not None and self.outcome not in ("failed", "error"):
            self.outcome = outcome
            self.failure = _reason(report)


@dataclass(eq=False)
class Results:
    """A part of the plugin: collects what the reports tell.

    Attributes:
        tests: the results, by pytest's names, in the order in which tests began.
        notes: what deserves a look, by subject.
        facts: what is known of the run.
    """

    luggage: Luggage
    tests: dict[str, Result] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a report says, and what it carries."""
        if report.when == "setup" and report.nodeid in self.tests:
            del self.tests[report.nodeid]  # it is run again: the last time counts
        self.tests.setdefault(report.nodeid, Result(report.nodeid)).take(report)
        carried = luggage_of(report)
        self._learn(carried.get("notes", {}), carried.get("facts", {}))

    def hand_over(self) -> None:
        """Take what this process had to tell after its last report."""
        self._learn(self.luggage.notes, self.luggage.facts)

    @property
    def resets(self) -> Iterator[ResetRecord]:
        """All resets."""
        for result in self.tests.values():
            yield from (result.record or {}).get("resets", ())

    def _learn(self, notes: dict[str, str], facts: dict[str, Any]) -> None:
        self.notes = {**notes, **self.notes}
        for name, fact in facts.items():
            known = self.facts.get(name)
            self.facts[name] = {**fact, **known} if isinstance(known, dict) else fact


def _outcome(report: pytest.TestReport) -> str | None:
    """What a report makes of its test; None where that is nothing, as yet."""
    if report.failed:
        return "failed" if report.when == "call" else "error"
    if report.skipped:
        if not hasattr(report, "wasxfail"):
            return "skipped"
        return "tolerated" if is_tolerated(report) else "xfailed"
    if report.when == "call":
        return "xpassed" if hasattr(report, "wasxfail") else "passed"
    return None


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    text = "" if report.longrepr is None else report.longreprtext
    return text if len(text) <= _LONGEST else f"…{text[-_LONGEST:]}"
