"""What the installed plugin costs a project that does not use it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from .timing import as_users_run_it, pytest_seconds

__all__ = ["import_milliseconds", "startups"]

_NO_TESTS_COLLECTED = 5


def startups(rounds: int) -> Iterator[tuple[float, float]]:
    """The seconds that pytest takes to start and collect nothing: without the plugin, with it; in turns."""
    with TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "pytest.ini").write_text("[pytest]\n")
        for _ in range(rounds):
            yield _startup(project, "-p", "no:erp_sandbox"), _startup(project)


def _startup(project: Path, *arguments: str) -> float:
    return pytest_seconds(project, "--collect-only", *arguments, exit_code=_NO_TESTS_COLLECTED)


def import_milliseconds() -> float:
    """What Python says importing the plugin takes, with all that it imports beyond pytest."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import pytest; import pytest_erp_sandbox.plugin"],
        env=as_users_run_it(),
        capture_output=True,
        text=True,
        check=True,
    )
    # "import time: self [us] | cumulative | package": the package's own line does not have the plugin in it.
    found = re.findall(r"\|\s+(\d+) \| {1,2}(pytest_erp_sandbox|pytest_erp_sandbox\.plugin)\s*$", done.stderr, re.M)
    return sum(int(microseconds) for microseconds, _ in found) / 1000
