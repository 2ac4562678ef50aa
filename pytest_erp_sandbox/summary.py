"""What the terminal says at the end of a run: what was done, and what deserves a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from .dolibarr.quarantine import in_words
from .preflight.findings import Report
from .progress import human_size

if TYPE_CHECKING:
    from .plain import PlainChanges
    from .record import ResetRecord
    from .results import Result, Results

__all__ = ["changes_in_words", "human_age", "human_time", "summary"]


def summary(results: Results, *, verbosity: int) -> Iterator[str]:
    """The lines; with ``-q`` only what deserves a look, with ``-v`` also what each scenario changed."""
    if verbosity >= 0:
        yield from filter(None, [_resets(list(results.resets))])
        if golden := results.facts.get("golden"):
            yield golden_in_words(golden)
            yield in_words(golden["quarantine"])
        yield from filter(None, [_preflight(results.facts.get("preflight", ()))])
    for finding in Report.from_plain(results.facts.get("preflight", ())).warnings:
        yield f"preflight: {finding}"
    yield from results.notes.values()
    if verbosity > 0:
        yield from _changes(results.tests.values())


def human_time(seconds: float) -> str:
    """A time as people read it: ``14 ms``, ``2.3 s``, ``4 min 10 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def human_age(made_at: str) -> str:
    """How long ago that was: ``40 min``, ``3.2 h``, ``2 days``."""
    hours = (datetime.now(UTC) - datetime.fromisoformat(made_at)).total_seconds() / 3600
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"


def golden_in_words(golden: dict[str, Any]) -> str:
    """Which golden dump was restored, how old and large it is, and whether it was made for that."""
    how = "made in this run" if golden["made_now"] else f"from the cache, {human_age(golden['made_at'])} old"
    return f"golden dump {golden['id']} of {golden['source']['name']}: {human_size(golden['size'])}, {how}"


def changes_in_words(changes: PlainChanges) -> str:
    """How many rows of how many tables: ``1 inserted, 2 updated in 2 tables``."""
    counts = [(changes[kind], kind) for kind in ("inserted", "updated", "deleted")]
    told = ", ".join(f"{count:,} {kind}" for count, kind in counts if count)
    tables = len(changes["tables"])
    unseen = ", and more that is not known" if changes["unseen"] else ""
    return f"{told} in {tables} {'table' if tables == 1 else 'tables'}{unseen}" if told else f"nothing{unseen}"


def _resets(resets: Sequence[ResetRecord]) -> str:
    """How many resets there were of each kind, and how long they took; empty where there were none."""
    parts = []
    for strategy in ("rewind", "restore"):
        seconds = [reset["seconds"] for reset in resets if reset["kind"] == strategy]
        if seconds:
            times = human_time(median(seconds)) if len(seconds) == 1 else f"median {human_time(median(seconds))}"
            slowest = "" if len(seconds) == 1 else f", slowest {human_time(max(seconds))}"
            parts.append(f"{len(seconds)} by {strategy} ({times}{slowest})")
    return f"resets: {', '.join(parts)}" if parts else ""


def _preflight(findings: Sequence[dict[str, str]]) -> str:
    counts = Counter(finding["status"] for finding in findings)
    words = {"ok": "hold", "warning": "with a warning", "skipped": "not asked", "failure": "do not hold"}
    told = ", ".join(f"{counts[status]} {word}" for status, word in words.items() if counts[status])
    return f"preflight: of {len(findings)} invariants, {told}" if findings else ""


def _changes(tests: Iterable[Result]) -> Iterator[str]:
    changed = [(test.id, changes) for test in tests if (changes := (test.record or {}).get("changes")) is not None]
    if changed:
        yield "changed:"
    for name, changes in changed:
        yield f"  {name}: {changes_in_words(changes)}"
