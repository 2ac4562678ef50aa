"""Numbers of trials: what pass^k estimates, how many may fail, and how it is told."""

from __future__ import annotations

from itertools import combinations
from math import isclose

import pytest

from pytest_erp_sandbox.tally import Outcome, Tally, Trial, pass_hat


def trial(number: int, outcome: Outcome = "passed", changes: str | None = "a", gist: str = "") -> Trial:
    return Trial(number, outcome, float(number), changes, gist or f"what {changes} is")


@pytest.mark.parametrize("passed", range(7))
def test_pass_hat_is_the_share_of_all_choices_of_k_trials_that_passed(passed: int) -> None:
    results = [True] * passed + [False] * (6 - passed)
    for k, chance in enumerate(pass_hat(passed, 6), 1):
        choices = list(combinations(results, k))
        assert isclose(chance, sum(map(all, choices)) / len(choices))


@pytest.mark.parametrize(
    ("planned", "required", "may_fail"),
    [(8, 1.0, 0), (8, 0.9, 0), (10, 0.9, 1), (10, 0.7, 3), (4, 0.75, 1), (3, 0.01, 2), (100, 0.29, 71), (1, 0.5, 0)],
)
def test_as_many_may_fail_as_leave_the_required_rate(planned: int, required: float, may_fail: int) -> None:
    assert Tally(planned, required).may_fail == may_fail
    for failed in range(planned + 1):
        trials = [trial(number, "failed" if number <= failed else "passed") for number in range(1, planned + 1)]
        assert Tally(planned, required, trials).reaches == (failed <= may_fail)


def test_without_any_result_nothing_is_missed() -> None:
    assert Tally(8, 1, [trial(1, "neither")]).reaches
    assert list(Tally(8, 1).told()) == ["0 of 0 trials passed (8 without a result)"]


def test_what_was_changed_is_told_with_its_trials() -> None:
    trials = [trial(n, changes="b" if n in (3, 6) else None if n == 8 else "a") for n in range(8, 0, -1)]
    told = "\n".join(Tally(8, 1, trials).told())
    assert "8 of 8 trials passed, median 4.5 s" in told
    assert "2 different change sets:\n  changed in trials 1, 2, 4, 5, 7: what a is\n  changed in trials 3, 6: " in told
    assert "changed in trial 8: what None is" in told


def test_two_change_sets_may_sound_alike() -> None:
    told = "\n".join(Tally(2, 1, [trial(1, changes="a", gist="one"), trial(2, changes="b", gist="one")]).told())
    assert "changed in trial 1: one\n  changed in trial 2: one" in told


def test_many_trials_are_told_in_few_numbers() -> None:
    told = "\n".join(Tally(100, 1, [trial(number) for number in range(1, 101)]).told())
    assert "changed in trials 1-100:" in told
    assert "pass^10 1.00, pass^100 1.00" in told
