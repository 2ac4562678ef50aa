"""Where the marks of a chart stand; the page draws them as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor, log1p, log10
from typing import Any

__all__ = ["bars", "changes_chart", "resets_chart"]

WIDTH, HEIGHT = 560.0, 132.0
"""Of the plot, in the SVG's units; labels stand beside it."""

LOGARITHMIC = 50
"""Rows from which on heights are by the logarithm."""

Rehearsals = Iterable[tuple[int, dict[str, Any], dict[str, Any]]]
"""A scenario's number, the scenario, and one rehearsal of it."""


def resets_chart(rehearsals: Rehearsals) -> dict[str, Any] | None:
    """A dot for each reset, in their order; the higher the longer, tenfold from line to line. None without resets."""
    found = [
        (number, scenario["name"], reset) for number, scenario, rehearsal in rehearsals for reset in rehearsal["resets"]
    ]
    if not found:
        return None
    times = [max(reset["seconds"], 1e-3) for _, _, reset in found]
    low, high = floor(log10(min(times))), ceil(log10(max(times)) + 1e-9)
    high = max(high, low + 1)

    def y(seconds: float) -> float:
        return round(HEIGHT * (1 - (log10(max(seconds, 1e-3)) - low) / (high - low)), 1)

    step = WIDTH / len(found)
    return {
        "lines": [{"y": y(10.0**power), "seconds": 10.0**power} for power in range(low, high + 1)],
        "dots": [
            {
                "x": round(step * (place + 0.5), 1),
                "y": y(reset["seconds"]),
                "number": number,
                "name": name,
                "reset": reset,
            }
            for place, (number, name, reset) in enumerate(found)
        ],
        "radius": max(1.2, min(4.0, step / 2.5)),
    }


def changes_chart(rehearsals: Rehearsals) -> dict[str, Any] | None:
    """A column for each rehearsal, of inserted, updated and deleted rows; None where nothing was changed.

    Heights are by the logarithm where some have changed very much more than others.
    """
    found = [
        (number, scenario["name"], rehearsal["changes"])
        for number, scenario, rehearsal in rehearsals
        if rehearsal["changes"] is not None
    ]
    most = max((_total(changes) for _, _, changes in found), default=0)
    if not most:
        return None
    scale: Callable[[float], float] = log1p if most > LOGARITHMIC else float
    step = WIDTH / len(found)
    width = max(0.6, min(22.0, step * 0.72))
    return {
        "most": most,
        "is_logarithmic": most > LOGARITHMIC,
        "columns": [
            {
                "x": round(step * (place + 0.5) - width / 2, 2),
                "width": round(width, 2),
                "number": number,
                "name": name,
                "total": _total(changes),
                "parts": list(_parts(changes, HEIGHT * scale(_total(changes)) / scale(most))),
            }
            for place, (number, name, changes) in enumerate(found)
        ],
    }


def bars(chances: Sequence[float]) -> list[dict[str, float]]:
    """A bar for each pass^k, in a box of 40 in height."""
    return [
        {"x": place * 22.0, "y": round(40 - 40 * chance, 1), "height": round(40 * chance, 1), "chance": chance}
        for place, chance in enumerate(chances)
    ]


def _total(changes: dict[str, Any]) -> int:
    return int(changes["inserted"] + changes["updated"] + changes["deleted"])


def _parts(changes: dict[str, Any], height: float) -> Iterable[dict[str, Any]]:
    """From the bottom up: the kinds, by their shares."""
    y, total = HEIGHT, _total(changes)
    for kind in ("inserted", "updated", "deleted"):
        if changes[kind]:
            part = height * changes[kind] / total
            y -= part
            yield {"kind": kind, "y": round(y, 1), "height": round(part, 1)}
