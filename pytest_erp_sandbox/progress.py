"""Telling people how far long work is: live on a terminal, in quiet lines elsewhere, not at all when asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

__all__ = ["Lines", "Live", "Progress", "human_size", "is_terminal"]

OnProgress = Callable[[int, int], None]
"""Is called with the number of objects done and of bytes written so far (0 where either is not known)."""

_WORTH_A_LINE = 1.0
"""Seconds that work must take to be told of."""

_BEAT = 15.0
"""Seconds between the lines about one piece of long work."""


class Progress:
    """Says nothing; the others build on it."""

    @contextmanager
    def step(self, doing: str, unit: str = "objects", total: int | None = None) -> Iterator[OnProgress]:
        """A piece of work.

        Args:
            doing: what is done to what, such as ``restoring sandbox``.
            unit: what is counted.
            total: how many there are, where that is known.
        """
        del doing, unit, total
        yield lambda _done, _size: None

    def say(self, text: str) -> None:
        """Tell something that people should know at once."""


class Lines(Progress):
    """A line when a piece of work is done, and now and then while it is not, for logs.

    Args:
        write: writes one line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    @contextmanager
    def step(self, doing: str, unit: str = "objects", total: int | None = None) -> Iterator[OnProgress]:
        """A piece of work; nothing is said of one that is done within a second."""
        begun = told = time.monotonic()
        state = ""

        def on_progress(done: int, size: int) -> None:
            nonlocal state, told
            state = _state(done, size, unit, total)
            if time.monotonic() - told > _BEAT:
                told = time.monotonic()
                self.say(f"{doing} … {state}")

        yield on_progress
        took = time.monotonic() - begun
        if took > _WORTH_A_LINE:
            self.say(f"{doing}: {state + ', ' if state else ''}{took:.1f} s")

    def say(self, text: str) -> None:
        """A line of its own."""
        self._write(f"erp-sandbox: {text}")


class Live(Progress):
    """A line that moves, on the terminal that standard error is.

    Args:
        uncovered: a context in which it can be written, at a line's beginning (pytest captures it otherwise).
    """

    def __init__(self, uncovered: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._uncovered = uncovered

    @contextmanager
    def step(self, doing: str, unit: str = "objects", total: int | None = None) -> Iterator[OnProgress]:
        """A piece of work; its line comes when that takes long, and goes when it is done."""
        begun = time.monotonic()
        show: Callable[[str], None] | None = None
        with ExitStack() as until_done:

            def on_progress(done: int, size: int) -> None:
                nonlocal show
                if show is None and time.monotonic() - begun > _WORTH_A_LINE:
                    show = until_done.enter_context(self._line(doing))
                if show is not None:
                    show(_state(done, size, unit, total))

            yield on_progress

    @contextmanager
    def _line(self, doing: str) -> Iterator[Callable[[str], None]]:
        from rich.console import Console
        from rich.progress import Progress as Bar
        from rich.progress import SpinnerColumn, TextColumn

        what = TextColumn("{task.description}", markup=False)
        how_far = TextColumn("{task.fields[state]}", markup=False)
        with (
            self._uncovered(),
            Bar(SpinnerColumn(), what, how_far, console=Console(stderr=True), transient=True) as bar,
        ):
            task = bar.add_task(f"{doing} …", total=None, state="")
            yield lambda state: bar.update(task, state=state)

    def say(self, text: str) -> None:
        """A line that stays."""
        from rich.console import Console

        with self._uncovered():
            Console(stderr=True).print(f"erp-sandbox: {text}", markup=False, highlight=False)


def is_terminal() -> bool:
    """Whether standard error, the process's own, is a terminal."""
    return sys.__stderr__ is not None and sys.__stderr__.isatty()


def _state(done: int, size: int, unit: str, total: int | None) -> str:
    counted = f"{done} of {total} {unit}" if total else f"{done} {unit}" if done or not size else ""
    return ", ".join(filter(None, [counted, human_size(size) if size else ""]))


def human_size(size: float) -> str:
    """Bytes as people read them, such as ``18.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
