"""``make bench``: a reset against the shell script's way, and what the plugin costs where it is not used."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from pytest_erp_sandbox.demo.generator import LARGE, SMALL, Size

from .imports import import_milliseconds, startups
from .resets import ready
from .rewind import Figures, measure
from .warmstart import warm_start

SIZES: dict[str, Size] = {"small": SMALL, "large": LARGE}

DEBIANS_15 = Path("/usr/lib/postgresql/15/bin")

TARGET_RATIO = 1.5
TARGET_MILLISECONDS = 15.0

STARTUP_ROUNDS = 15

_SOME_MILLISECONDS = 20


@click.command()
@click.option("--size", type=click.Choice([*SIZES, "both"]), default="both", help="of the generated prod")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="resets of each way, in turns", show_default=True)
@click.option("--rewinds", type=click.IntRange(min=200), default=1000, help="in a row", show_default=True)
def main(size: str, rounds: int, rewinds: int) -> None:
    """Measure, and print two tables."""
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
        title=f"Putting a sandbox back: medians of {rounds} rounds in turns, stock servers, seconds; ratios by round",
    )
    figures: dict[tuple[str, str], tuple[float, float, Figures]] = {}
    for name in SIZES if size == "both" else [size]:
        for programs in places:
            row, shell, warm, rewinding = _measure(console, programs, name, rounds, rewinds)
            table.add_row(*row)
            figures[row[0], name] = shell, warm, rewinding
    console.print(table)
    console.print(_rewind_table(figures, rewinds))
    console.print(_startup_line())


def _measure(
    console: Console, programs: Path | None, name: str, rounds: int, rewinds: int
) -> tuple[list[str], float, float, Figures]:
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
        console.print(f"{what}: {rewinds} rewinds", highlight=False)
        rewinding = measure(bench, rounds=rounds, many=rewinds)
        warm = warm_start(bench, rounds)
    whole = median(reset.whole for reset in resets)
    wipe = median(reset.wipe for reset in resets)
    restore = median(reset.restore for reset in resets)
    rest = median(reset.whole - reset.wipe - reset.restore for reset in resets)
    # Of neighbours: a machine that others use, too, is slow for a while.
    ratio = median(theirs / ours.whole for theirs, ours in zip(shell, resets, strict=True))
    seconds = [f"{value:.2f}" for value in (median(shell), whole, wipe, restore, rest)]
    version = _version(programs or bench.server.programs)
    row = [version, name, *seconds, f"{ratio:.2f}", _met(ratio >= TARGET_RATIO)]
    return row, 1000 * median(shell), warm, rewinding


def _rewind_table(figures: dict[tuple[str, str], tuple[float, float, Figures]], rewinds: int) -> Table:
    columns = [f"{version}, {name}" for version, name in figures]
    table = Table("rewind, medians", *columns, "goal", title="Rewinding instead")
    small = {version: each.scenario for (version, name), (_, _, each) in figures.items() if name == "small"}

    def row(what: str, goal: str, told: Callable[[str, float, Figures], str]) -> None:
        table.add_row(what, *(told(version, shell, each) for (version, _), (shell, _, each) in figures.items()), goal)

    row("what a rehearsal changed", "≤ 15 ms", lambda _, __, f: f"{f.scenario:.1f} ms ({f.rows} rows)")
    row(
        "… session_replication_role granted",
        "≤ 10 ms",
        lambda _, shell, f: _compared(f.replica, shell, f),
    )
    row("… against the shell script's way", "≥ 150, 1,500 x", lambda _, shell, f: f"{shell / f.scenario:.0f} x")
    row(
        "… against CREATE DATABASE … TEMPLATE",
        "≥ 20, 250 x",
        lambda _, __, f: f"{f.template / f.scenario:.0f} x",
    )
    row(
        "… by hand, by who knows what it was",
        "",
        lambda _, shell, f: _compared(f.by_hand, shell, f),
    )
    row(
        "… large ÷ small",
        "≤ 1.3",
        lambda version, _, f: f"{f.scenario / small[version]:.2f}" if version in small else "",
    )
    row("nothing", "≤ 5 ms", lambda _, __, f: f"{f.nothing:.1f} ms")

    def bulk(told: Callable[[Figures], str]) -> Callable[[str, float, Figures], str]:
        """A small prod has too few rows for it."""
        return lambda _, __, f: told(f) if f.bulk >= _SOME_MILLISECONDS else ""

    row("an update of 20,000 rows", "", bulk(lambda f: f"{f.bulk:.0f} ms"))
    row("… with the journal", "≤ 2 x", bulk(lambda f: f"{f.bulk_cost:.2f} x"))
    row("… its rewind", "≤ 2 x", bulk(lambda f: f"{f.bulk_rewind_cost:.2f} x"))
    row("a row's update with the journal, 0.5 ms away", "≤ +10 %", lambda _, __, f: f"{f.single_cost:+.1%}")
    row("installing the journal", "≤ 300 ms", lambda _, __, f: f"{f.install:.0f} ms")
    table.add_row("the second run of a day", *(f"+{warm:.0f} ms" for _, warm, _ in figures.values()), "≤ 500 ms")
    row(
        f"of {rewinds} in a row, last ÷ first hundred",
        "1",
        lambda _, __, f: f"{f.last / f.first:.2f}",
    )
    row("… growth on disk in the second half", "0", lambda _, __, f: f"{f.growth / 2**20:.1f} MB")
    return table


def _compared(took: float, shell: float, figures: Figures) -> str:
    """Milliseconds, and how many times as long the shell script and a template take."""
    return f"{took:.1f} ms ({shell / took:.0f} x, {figures.template / took:.0f} x)"


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
