"""How long a pytest takes in a project of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["as_users_run_it", "pytest_seconds"]


def as_users_run_it() -> dict[str, str]:
    """The environment, without what only the project's own settings should say, and with bytecode kept between runs."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("ERP_SANDBOX_") and name != "PYTHONDONTWRITEBYTECODE"
    }


def pytest_seconds(project: Path, *arguments: str, exit_code: int = 0) -> float:
    """Run pytest there, in a process of its own that must end with ``exit_code``; the seconds that it took."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=project,
        env=as_users_run_it(),
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - begun
    if done.returncode != exit_code:
        raise SystemExit(f"pytest {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return took
