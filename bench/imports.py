"""What the installed plugin costs a project that does not use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

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
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    # Only the plugin's own settings could make it do anything.
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("ERP_SANDBOX_")}
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begun
    if done.returncode != _NO_TESTS_COLLECTED:
        raise SystemExit(f"pytest in an empty project: {done.stdout}{done.stderr}")
    return took


def import_milliseconds() -> float:
    """What Python says importing the plugin takes, with all that it imports beyond pytest."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import pytest; import pytest_erp_sandbox.plugin"],
        capture_output=True,
        text=True,
        check=True,
    )
    # "import time: self [us] | cumulative | package": the package's own line does not have the plugin in it.
    found = re.findall(r"\|\s+(\d+) \| {1,2}(pytest_erp_sandbox|pytest_erp_sandbox\.plugin)\s*$", done.stderr, re.M)
    return sum(int(microseconds) for microseconds, _ in found) / 1000
