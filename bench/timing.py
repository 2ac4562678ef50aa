"""How long a pytest takes in a project of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["pytest_seconds"]


def pytest_seconds(project: Path, *arguments: str, exit_code: int = 0) -> float:
    """Run pytest there, in a process of its own that must end with ``exit_code``; the seconds that it took."""
    # Only the project's own settings could make the plugin do anything.
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("ERP_SANDBOX_")}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - begun
    if done.returncode != exit_code:
        raise SystemExit(f"pytest {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return took
