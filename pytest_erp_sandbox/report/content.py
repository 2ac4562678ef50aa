"""What a report says, in JSON's types; ``schema.json`` beside it describes them."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import TYPE_CHECKING, Any

from ..tally import pass_hat
from ..trials import TRIALS_OF
from .trials import compared

if TYPE_CHECKING:
    from ..results import Result, Results
    from ..settings import Settings

__all__ = ["Content", "report_of"]

Content = dict[str, Any]

FORMAT = 1
"""Of the data. It changes when a key goes, or means something else; not when one comes."""

ROOM = 12_000_000
"""Characters of changed rows in a report; the rows of what comes later are counted only."""

_PACKAGES = ("pytest-erp-sandbox", "pytest", "pytest-bdd", "psycopg")


def report_of(results: Results, settings: Settings, *, project: str, begun: datetime, interrupted: bool) -> Content:
    """All that a report says of a run.

    Args:
        results: what came of the tests; those without a sandbox are counted only.
        settings: how it was run; no secret of theirs is told.
        project: what the project is called.
        begun: when the run began.
        interrupted: whether it ended before its end.
    """
    tests = [test for test in results.tests.values() if test.record is not None]
    return {
        "format": FORMAT,
        "project": project,
        "run": {
            "begun": begun.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - begun).total_seconds(), 3),
            "interrupted": interrupted,
            "outcomes": dict(Counter(test.outcome for test in tests)),
            "others": dict(Counter(test.outcome for test in results.tests.values() if test.record is None)),
            "resets": _resets(results),
            # What came of trials is told of where they stand.
            "notes": [text for subject, text in results.notes.items() if not subject.startswith(TRIALS_OF)],
        },
        "settings": {
            "reset": settings.reset,
            "strategy": settings.strategy,
            "refresh": settings.refresh,
            "journal": settings.journals,
            "verify": settings.verify,
            "quarantine": list(settings.quarantine),
            "demo": settings.demo,
            "trials": settings.trials,
            "trials_required": settings.trials_required,
            "agent": {"login": settings.agent.login, "rights": list(settings.agent.rights)},
        },
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "packages": {name: found for name in _PACKAGES if (found := _version(name))},
            "sandboxes": results.facts.get("sandboxes", {}),
        },
        "preflight": results.facts.get("preflight", []),
        "golden": results.facts.get("golden"),
        "features": _features(tests),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _resets(results: Results) -> Content:
    found: Content = {}
    for kind in ("rewind", "restore"):
        seconds = [reset["seconds"] for reset in results.resets if reset["kind"] == kind]
        if seconds:
            found[kind] = {
                "count": len(seconds),
                "median": round(median(seconds), 6),
                "slowest": round(max(seconds), 6),
            }
    return found


def _features(tests: Iterable[Result]) -> list[Content]:
    """By feature, in the order in which they began; the trials of a scenario stand together."""
    features: dict[tuple[str, str], Content] = {}
    scenarios: dict[str, Content] = {}
    room = ROOM
    for test in tests:
        rehearsal = _rehearsal(test)
        room -= _size(rehearsal)
        if room < 0 and rehearsal["changes"] is not None:
            _without_rows(rehearsal["changes"])
        of = str(test.trial["group"]) if test.trial is not None else test.id
        if of not in scenarios:
            where = _where(test)
            feature = features.setdefault(
                (where["file"], where["feature"]),
                {"name": where["feature"], "file": where["file"], "about": where["about"], "scenarios": []},
            )
            kept = ("name", "line", "tags", "example")
            scenarios[of] = {"id": of, **{key: where[key] for key in kept}, "trials": None, "rehearsals": []}
            feature["scenarios"].append(scenarios[of])
        scenarios[of]["rehearsals"].append(rehearsal)
    for scenario in scenarios.values():
        _judge(scenario)
    return list(features.values())


def _where(test: Result) -> Content:
    """Where a test stands; one that is no scenario, or failed before it began to be one, in its file."""
    found = (test.record or {}).get("scenario")
    if found is not None:
        return dict(found)
    file, _, name = test.id.partition("::")
    return {"feature": file, "file": file, "about": "", "name": name, "line": 0, "tags": [], "example": ""}


def _rehearsal(test: Result) -> Content:
    record = test.record or {}
    return {
        "id": test.id,
        "trial": test.trial["number"] if test.trial is not None else None,
        "outcome": test.outcome,
        "begun": datetime.fromtimestamp(test.begun, UTC).isoformat(timespec="milliseconds"),
        "seconds": round(test.seconds, 6),
        "failure": test.failure,
        "sandbox": record.get("sandbox"),
        "resets": record.get("resets", []),
        "steps": record.get("steps", []),
        "asked": record.get("asked", []),
        "changes": record.get("changes"),
        "written": record.get("written"),
    }


def _size(rehearsal: Content) -> int:
    return len(json.dumps(rehearsal["changes"], default=str)) if rehearsal["changes"] is not None else 0


def _without_rows(changes: Content) -> None:
    for table in changes["tables"]:
        table["rows"] = []


def _judge(scenario: Content) -> None:
    """Say of a scenario what came of it, and of its trials all that only their being several shows."""
    rehearsals: Sequence[Content] = scenario["rehearsals"]
    outcomes = [rehearsal["outcome"] for rehearsal in rehearsals]
    order = ("failed", "error", "unfinished", "tolerated", "xpassed", "passed", "xfailed", "skipped")
    scenario["outcome"] = next((outcome for outcome in order if outcome in outcomes), outcomes[0])
    if any(rehearsal["trial"] is not None for rehearsal in rehearsals):
        rehearsals = scenario["rehearsals"] = sorted(rehearsals, key=lambda each: each["trial"] or 0)
        passed = outcomes.count("passed")
        counted = passed + outcomes.count("failed") + outcomes.count("tolerated")
        scenario["trials"] = {
            "passed": passed,
            "counted": counted,
            "pass_hat": [round(chance, 6) for chance in pass_hat(passed, counted)],
            "change_sets": compared(
                {each["trial"]: each["written"] for each in rehearsals if each["written"] is not None}
            ),
        }
    for rehearsal in rehearsals:
        del rehearsal["written"]
