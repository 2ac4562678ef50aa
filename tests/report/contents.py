"""Contents of reports, as runs would give them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from pytest_erp_sandbox.plain import plain_changes
from pytest_erp_sandbox.postgres.changes import Change, ChangeSet, Unseen
from pytest_erp_sandbox.record import Luggage, Record
from pytest_erp_sandbox.report import Content, report_of
from pytest_erp_sandbox.results import Result, Results
from pytest_erp_sandbox.settings import Settings


def change_set(number: int = 13, name: str = "Crêperie du Port") -> ChangeSet:
    """A row of each kind."""
    return ChangeSet(
        (
            Change("llx_societe", {"rowid": number}, None, {"rowid": number, "nom": name, "town": None, "client": 1}),
            Change(
                "llx_societe",
                {"rowid": 2},
                {"rowid": 2, "nom": "L'Atelier d'Élodie", "town": "Rennes", "note": None},
                {"rowid": 2, "nom": "L'Atelier d'Élodie", "town": "Fougères", "note": "x" * 3000},
            ),
            Change("llx_facturedet", {"rowid": 7}, {"rowid": 7, "description": "Cidre", "qty": 6.0}, None),
        )
    )


def result(name: str, outcome: str = "passed", *, feature: str = "Third parties", **record: Any) -> Result:
    """A scenario's result; what is not said of its record is as in most."""
    scenario = {
        "feature": feature,
        "file": f"features/{feature.lower()}.feature",
        "about": "The agent keeps the address book.",
        "name": name,
        "line": 3,
        "tags": [],
        "example": "",
    }
    step = {"keyword": "When ", "seconds": 0.01, "table": [["name", "Chez Gwenaëlle"]], "docstring": None}
    whole: dict[str, Any] = {
        "sandbox": "erp-sandbox",
        "resets": [{"kind": "rewind", "seconds": 0.012, "reason": ""}],
        "scenario": {**scenario, **record.pop("scenario", {})},
        "steps": [
            {**step, "name": 'the agent calls POST "thirdparties" with:', "outcome": "passed"},
            {**step, "keyword": "Then ", "name": "nothing else changed", "outcome": outcome, "table": None},
        ],
        "asked": [],
        "changes": plain_changes(change_set()),
        **record,
    }
    failure = "AssertionError: this scenario fails" if outcome in ("failed", "error") else ""
    return Result(f"test.py::{name}", outcome, 0.2, 1_790_000_000.0, failure, cast(Record, whole))


def content(results: Iterable[Result], **facts: Any) -> Content:
    """A report of these results."""
    known = {
        "sandboxes": {"erp-sandbox": "'erp-sandbox' at 127.0.0.1:5432, PostgreSQL 18.1"},
        "preflight": [
            {
                "invariant": "session is read-only",
                "status": "ok",
                "detail": "as asked for",
                "remedy": "",
                "subject": "prod",
            }
        ],
        **facts,
    }
    found = Results(Luggage(), {each.id: each for each in results}, {}, known)
    settings = Settings(demo=True, strategy="rewind")
    return report_of(found, settings, project="a project", begun=datetime.now(UTC), interrupted=False)


def trials(passed: Iterable[bool]) -> list[Result]:
    """The trials of one scenario; those that fail make another customer, too."""
    results = []
    for number, passes in enumerate(passed, 1):
        outcome = "passed" if passes else "failed"
        written = "inserted llx_societe#1\n    nom: 'Chez Gwenaëlle'\n"
        if not passes:
            written += "inserted llx_societe#2\n    nom: 'Chez Gwenaelle'\n"
        each = result(
            f"asks[trial-{number}]",
            outcome,
            feature="An agent",
            scenario={"name": "It makes the customer"},
            written=written,
            asked=[
                {
                    "prompt": "Chez Gwenaëlle wants to buy.",
                    "answer": "Done.",
                    "errors": "",
                    "ending": "ended with exit code 0, after 1.2 s",
                    "exit_code": 0,
                    "seconds": 1.2,
                }
            ],
        )
        each.trial = {"number": number, "group": "test.py::asks", "outcome": outcome}
        results.append(each)
    return results


def unseen() -> ChangeSet:
    """A change that nobody knows."""
    return ChangeSet((), (Unseen("the catalogue", "something was defined anew"),))
