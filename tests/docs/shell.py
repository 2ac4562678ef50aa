"""A shell in which a page's commands are run as people run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Who is called leaves a line, and does what a test says.
_STUB = '#!/bin/sh\necho "$(basename "$0") $*" >>"{calls}"\n{body}\n'


class Shell:
    """Commands of a project; pytest and erp-sandbox are this checkout's.

    Args:
        folder: the project's.
        environment: variables beside those of this process.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._stubs = folder / ".stubs"
        self._stubs.mkdir()
        path = f"{self._stubs}:{Path(sys.executable).parent}:{environment.get('PATH', os.environ['PATH'])}"
        self.environment = {**os.environ, "COLUMNS": "120", **environment, "PATH": path}

    def stub(self, name: str, body: str = "") -> None:
        """Have a program that cannot be had here: of this name, which does no more than ``body`` says."""
        file = self._stubs / name
        file.write_text(_STUB.format(calls=self._stubs / "calls", body=body))
        file.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """How stubs were called."""
        return (self._stubs / "calls").read_text().splitlines()

    def run(self, script: str, answer: str = "", code: int = 0, variables: Mapping[str, str] | None = None) -> str:
        """Run a script up to its first error, which fails the test; gives all that was said."""
        done = subprocess.run(
            ["/usr/bin/env", "bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**self.environment, **(variables or {})},
        )
        assert done.returncode == code, done.stdout
        return done.stdout
