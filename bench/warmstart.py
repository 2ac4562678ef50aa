"""The second run of the day: it finds the baseline of the first, and rewinds to it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from pytest_erp_sandbox.golden import Golden

from .resets import Bench
from .timing import pytest_seconds

__all__ = ["warm_start"]

_SHORT_ROUNDS = 5

_SETTINGS = """
strategy = "rewind"
[prod]
dsn = {prod}
[sandbox]
dsn = {dsn}
role = {role}
[sandbox.erp]
instance-unique-id = {unique_id}
[golden]
path = {golden}
[agent]
rights = ["societe.*"]
"""


def warm_start(bench: Bench, rounds: int) -> float:
    """What a run of one scenario takes beyond pytest's own time, where a run before has left its baseline: ms, median.

    It has a sandbox of its own.
    """
    with TemporaryDirectory(prefix="erp-sandbox-bench-") as folder:
        project = Path(folder)
        (project / "pytest.ini").write_text("[pytest]\n")
        (project / "erp-sandbox.toml").write_text(_settings(bench, bench.golden))
        (project / "test_rehearsal.py").write_text("def test_one(erp_sandbox): assert erp_sandbox.last_reset\n")
        (project / "test_plain.py").write_text("def test_one(): pass\n")
        _seconds(project, "test_rehearsal.py")
        return 1000 * median(
            _seconds(project, "test_rehearsal.py") - _seconds(project, "test_plain.py", "-p", "no:erp_sandbox")
            for _ in range(max(rounds, _SHORT_ROUNDS))
        )


def _settings(bench: Bench, golden: Golden) -> str:
    place = bench.estate.sandboxes[1]
    texts = {
        "prod": bench.estate.prod_dsn.get_secret_value(),
        "dsn": place.dsn.get_secret_value(),
        "role": place.role,
        "unique_id": place.unique_id.get_secret_value(),
        "golden": str(golden.folder.parent),
    }
    return _SETTINGS.format(**{name: json.dumps(text) for name, text in texts.items()})


def _seconds(project: Path, *arguments: str) -> float:
    return pytest_seconds(project, "-p", "no:cacheprovider", *arguments)
