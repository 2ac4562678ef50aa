"""Trials: an agent is not deterministic, so what asks one is run several times, each time from the golden state."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

from .run import TRIAL

if TYPE_CHECKING:
    import pytest

__all__ = ["group_of", "pass_hat"]


def group_of(item: pytest.Item) -> str:
    """A scenario's name without its trial: what all its trials share, and its node id where it has none."""
    number = item.stash.get(TRIAL, None)
    if number is None:
        return item.nodeid
    before = item.nodeid.rpartition(f"trial-{number}]")[0]
    return before.removesuffix("[") if before.endswith("[") else f"{before.removesuffix('-')}]"


def pass_hat(passed: int, trials: int) -> list[float]:
    """pass^k for k = 1 … trials: the chance that all of k trials succeed, estimated without bias."""
    return [comb(passed, k) / comb(trials, k) for k in range(1, trials + 1)]
