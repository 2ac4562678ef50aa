"""What came of a scenario's trials, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import ceil, comb
from statistics import median
from typing import Literal

__all__ = ["Tally", "Trial", "pass_hat"]

Outcome = Literal["passed", "failed", "neither"]

_EXACT = 1e-9
"""What 0.9 of 10 may be too much by."""

_MANY = 10
"""Up to so many, pass^k is told for each k."""


@dataclass(frozen=True)
class Trial:
    """One of a scenario's trials.

    Attributes:
        number: which one, from 1 on.
        outcome: whether the agent passed; neither where it was skipped, or something else than the agent failed.
        seconds: how long its steps took.
        changes: what it changed, as a digest; None where that is not known.
        gist: the same in a few words.
        failure: what it failed for, in a line.
    """

    number: int
    outcome: Outcome
    seconds: float
    changes: str | None
    gist: str
    failure: str = ""


@dataclass
class Tally:
    """A scenario's trials.

    Attributes:
        planned: how many are to be run.
        required: the rate at which the scenario passes as a whole.
        trials: those that have ended.
    """

    planned: int
    required: float
    trials: list[Trial] = field(default_factory=list)

    @property
    def may_fail(self) -> int:
        """How many trials may fail."""
        return self.planned - ceil(self.required * self.planned - _EXACT)

    @property
    def passed(self) -> int:
        """How many trials have passed."""
        return sum(trial.outcome == "passed" for trial in self.trials)

    @property
    def failed(self) -> int:
        """How many trials have failed."""
        return sum(trial.outcome == "failed" for trial in self.trials)

    @property
    def reaches(self) -> bool:
        """Whether as many as required have passed, of those that have passed or failed."""
        return self.passed >= self.required * (self.passed + self.failed) - _EXACT

    def told(self) -> Iterator[str]:
        """All of it in words, in lines."""
        counted = self.passed + self.failed
        others = self.planned - counted
        times = f", median {median(trial.seconds for trial in self.trials):.1f} s" if self.trials else ""
        yield f"{self.passed} of {counted} trials passed{f' ({others} without a result)' if others else ''}{times}"
        if counted:
            yield _estimates(pass_hat(self.passed, counted))
        yield from self._changes()
        for trial in self.trials:
            if trial.outcome == "failed":
                yield f"trial {trial.number} failed: {trial.failure}"

    def _changes(self) -> Iterator[str]:
        sets: dict[tuple[str | None, str], list[int]] = {}
        for trial in sorted(self.trials, key=lambda each: each.number):
            sets.setdefault((trial.changes, trial.gist), []).append(trial.number)
        known = sum(changes is not None for changes, _ in sets)
        if known > 1:
            yield f"{known} different change sets:"
        for (_, gist), numbers in sets.items():
            yield f"{'  ' if known > 1 else ''}changed in {_trials(numbers)}: {gist}"


def pass_hat(passed: int, trials: int) -> list[float]:
    """pass^k for k = 1 … trials: the chance that all of k trials succeed, estimated without bias."""
    return [comb(passed, k) / comb(trials, k) for k in range(1, trials + 1)]


def _estimates(chances: Sequence[float]) -> str:
    shown = [k for k in range(1, len(chances) + 1) if k <= _MANY or k == len(chances)]
    return ", ".join(f"pass^{k} {chances[k - 1]:.2f}" for k in shown)


def _trials(numbers: Iterable[int]) -> str:
    """Numbers in words: ``trials 1, 3-5``."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"{'trial' if len(runs) == 1 == len(runs[0]) else 'trials'} {', '.join(parts)}"
