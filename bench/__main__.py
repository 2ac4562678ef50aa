"""``make bench``: a reset against the shell script's way, and what the plugin costs where it is not used."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from pytest_erp_sandbox.demo.generator import LARGE, SMALL, Size

from .imports import import_milliseconds, startups
from .resets import ready

SIZES: dict[str, Size] = {"small": SMALL, "large": LARGE}

DEBIANS_15 = Path("/usr/lib/postgresql/15/bin")

TARGET_RATIO = 1.5
TARGET_MILLISECONDS = 15.0

STARTUP_ROUNDS = 15


@click.command()
@click.option("--size", type=click.Choice([*SIZES, "both"]), default="both", help="of the generated prod")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="resets of each way, in turns", show_default=True)
def main(size: str, rounds: int) -> None:
    """Measure, and print one table."""
    console = Console(width=110)
    # Named by what they are: the programs say which version, and the wheel may bring a newer one any day.
    places = [programs for programs in (DEBIANS_15, None) if programs is None or programs.exists()]
    table = Table(
        "PostgreSQL",
        "prod",
        "shell script",
        "reset",
        "= wipe",
        "+ restore",
        "+ the rest",
        "ratio",
        f"target ≥ {TARGET_RATIO}",
        title=f"Putting a sandbox back: median of {rounds} rounds in turns, stock servers, seconds",
    )
    for name in SIZES if size == "both" else [size]:
        for programs in places:
            table.add_row(*_measure(console, programs, name, rounds))
    console.print(table)
    console.print(_startup_line())


def _measure(console: Console, programs: Path | None, name: str, rounds: int) -> Iterable[str]:
    with ready(programs, SIZES[name]) as bench:
        what = f"PostgreSQL {_version(bench.server.programs)}, {name} prod ({_size(bench.folder)})"
        shell, resets = [], []
        for number in range(1, rounds + 1):
            shell.append(bench.shell_reset())
            resets.append(bench.reset())
            console.print(
                f"{what}, round {number}: shell script {shell[-1]:.2f} s, reset {resets[-1].whole:.2f} s",
                highlight=False,
            )
    whole = median(reset.whole for reset in resets)
    wipe = median(reset.wipe for reset in resets)
    restore = median(reset.restore for reset in resets)
    rest = median(reset.whole - reset.wipe - reset.restore for reset in resets)
    ratio = median(shell) / whole
    seconds = [f"{value:.2f}" for value in (median(shell), whole, wipe, restore, rest)]
    return _version(programs or bench.server.programs), name, *seconds, f"{ratio:.2f}", _met(ratio >= TARGET_RATIO)


def _startup_line() -> str:
    without, beside = zip(*startups(STARTUP_ROUNDS), strict=True)
    cost = 1000 * (median(beside) - median(without))
    importing = median([import_milliseconds() for _ in range(STARTUP_ROUNDS)])
    return (
        f"A project that does not use it: pytest starts in {1000 * median(beside):.0f} ms, without the plugin in"
        f" {1000 * median(without):.0f} ms: {cost:+.0f} ms; importing it takes {importing:.1f} ms"
        f" (target ≤ {TARGET_MILLISECONDS:.0f} ms: {_met(importing <= TARGET_MILLISECONDS)})"
    )


def _version(programs: Path) -> str:
    said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


def _size(folder: Path) -> str:
    return f"dump {(folder / 'dump').stat().st_size / 2**20:.1f} MB"


def _met(met: bool) -> str:
    return "met" if met else "NOT met"


if __name__ == "__main__":
    main()
