"""What a scenario's trials changed, side by side: what all have in common, and in what they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["compared"]

_LONGEST = 100
"""Changes that are told of each change set."""


def compared(written: Mapping[int, str]) -> list[dict[str, Any]]:
    """The different change sets, the most frequent first.

    Args:
        written: what each trial changed, in writing, by the trial's number.

    Returns:
        Of each: the numbers of its ``trials``; the changes that are its ``own``, which not all the others have; and how
        many it has in ``common`` with all of them.
    """
    by_text: dict[str, list[int]] = {}
    for number, text in written.items():
        by_text.setdefault(text, []).append(number)
    parts = {text: _changes(text) for text in by_text}
    common = set[str].intersection(*map(set, parts.values())) if parts else set[str]()
    return [
        {
            "trials": numbers,
            "own": [part for part in parts[text] if part not in common][:_LONGEST],
            "common": sum(part in common for part in parts[text]),
        }
        for text, numbers in sorted(by_text.items(), key=lambda each: -len(each[1]))
    ]


def _changes(text: str) -> list[str]:
    """Each change begins a line; its values stand indented below."""
    return [part.rstrip() for part in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if part.strip()]
