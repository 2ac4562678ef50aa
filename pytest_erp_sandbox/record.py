"""What a test did in its sandbox: it travels with pytest's reports, in JSON's types, from whichever process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from .redaction import REDACTOR

if TYPE_CHECKING:
    from .asking import Asked
    from .plain import PlainChanges

__all__ = ["LUGGAGE", "Luggage", "Record", "asked_record", "luggage_of", "pack", "record_of", "take_resets", "tell"]

LONGEST = 20_000
"""Characters that are kept of what an agent was asked, or said."""


class ResetRecord(TypedDict):
    """How a sandbox was put back."""

    kind: str
    seconds: float
    reason: str
    """Why it was restored although a rewind was asked for; else empty."""


class StepRecord(TypedDict):
    """A step, and what came of it: ``passed``, ``failed``, or ``skipped``."""

    keyword: str
    name: str
    outcome: str
    seconds: float
    table: list[list[str]] | None
    docstring: str | None


class ScenarioRecord(TypedDict):
    """Where a scenario stands."""

    feature: str
    file: str
    about: str
    """What is written below the feature's name."""
    name: str
    line: int
    tags: list[str]
    example: str
    """Which example of an outline it is; else empty."""


class AskedRecord(TypedDict):
    """What an agent was asked, and what it said."""

    prompt: str
    answer: str
    errors: str
    ending: str
    exit_code: int | None
    seconds: float


class Record(TypedDict, total=False):
    """What a test did in its sandbox."""

    sandbox: str
    resets: list[ResetRecord]
    scenario: ScenarioRecord
    steps: list[StepRecord]
    asked: list[AskedRecord]
    changes: PlainChanges
    written: str
    """The changes of a trial in writing, which is the same for the same changes."""


@dataclass
class Luggage:
    """What a process has to tell of the run, until a report takes it along.

    Attributes:
        notes: what deserves a look, by subject; of each, what is said first counts.
        facts: what is known of the run by now.
        resets: those that no test's record has yet.
    """

    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    resets: list[ResetRecord] = field(default_factory=list)


LUGGAGE = pytest.StashKey[Luggage]()

_RECORD: pytest.StashKey[Record] = pytest.StashKey()

_ATTRIBUTE = "erp_sandbox"
"""Of reports. pytest-xdist carries what is there, if it is of JSON's types."""


def tell(config: pytest.Config, **facts: object) -> None:
    """Let summary and report know of the run, in JSON's types; a fact that is a dict adds to it."""
    known = config.stash[LUGGAGE].facts
    for name, fact in facts.items():
        known[name] = {**known.get(name, {}), **fact} if isinstance(fact, dict) else fact


def record_of(item: pytest.Item) -> Record:
    """A test's record, to write into."""
    empty: Record = {}
    return item.stash.setdefault(_RECORD, empty)


def take_resets(item: pytest.Item) -> list[ResetRecord]:
    """The resets of a test, with those that were made for it just now."""
    resets = record_of(item).setdefault("resets", [])
    resets += item.config.stash[LUGGAGE].resets
    item.config.stash[LUGGAGE].resets.clear()
    return resets


def asked_record(asked: Asked) -> AskedRecord:
    """What an agent was asked and said, the ends of it."""
    return {
        "prompt": _cut(asked.prompt),
        "answer": _cut(asked.answer),
        "errors": _cut(asked.errors),
        "ending": asked.ending,
        "exit_code": asked.exit_code,
        "seconds": asked.seconds,
    }


def pack(report: pytest.TestReport, item: pytest.Item) -> None:
    """Give a report all that is to be told, of its test and of the run."""
    luggage = item.config.stash[LUGGAGE]
    packed = {
        "record": None if report.when == "teardown" else item.stash.get(_RECORD, None),
        "notes": luggage.notes,
        "facts": luggage.facts,
    }
    if packed["record"] is not None or luggage.notes or luggage.facts:
        setattr(report, _ATTRIBUTE, item.config.stash[REDACTOR].data(packed))
    luggage.notes, luggage.facts = {}, {}


def luggage_of(report: object) -> Mapping[str, Any]:
    """What a report was given to carry."""
    found = getattr(report, _ATTRIBUTE, {})
    return found if isinstance(found, Mapping) else {}


def _cut(text: str) -> str:
    half = LONGEST // 2
    left = len(text) - LONGEST
    return text if left <= 0 else f"{text[:half]}\n[… {left:,} characters …]\n{text[-half:]}"
