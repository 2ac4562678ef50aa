"""Runs of the golden dump and of sandboxes without pytest in between: what the fixtures and the command do."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from pytest_erp_sandbox.demo.erp import Erp
from pytest_erp_sandbox.demo.estate import PROD_DATABASE, build_estate
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.golden import Golden
from pytest_erp_sandbox.loading import load_settings
from pytest_erp_sandbox.pool import Pool
from pytest_erp_sandbox.progress import Progress
from pytest_erp_sandbox.refresh import golden_dump
from pytest_erp_sandbox.sandbox import Sandbox
from pytest_erp_sandbox.settings import Settings

from .estates import BuiltEstate, toml
from .postgres.fingerprint import fingerprint
from .servers import SETTINGS, VERSIONS

_numbers = itertools.count()


class Told(Progress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Runs:
    """Runs of one project."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.told = Told()
        self.configure(settings)

    def configure(self, settings: dict[str, Any]) -> None:
        """Write these settings."""
        self._table = {"lease-timeout": "60s", **settings}
        self.folder.mkdir(exist_ok=True)
        lines = [f"{key} = {toml(value)}\n" for key, value in self._table.items() if value is not None]
        (self.folder / "erp-sandbox.toml").write_text("".join(lines))

    def add(self, **settings: object) -> None:
        """Write these settings as well; None takes one away."""
        self.configure({**self._table, **settings})

    def settings(self, **overrides: object) -> Settings:
        settings = load_settings(self.folder, overrides)
        assert settings is not None
        return settings

    def pool(self, run: str = "run", **overrides: object) -> Pool:
        return Pool(self.settings(**overrides), run, self.told)

    def golden(self, run: str | None = None, **overrides: object) -> Golden:
        """The golden dump of a run of its own, or of the one named."""
        run = run or f"run-{next(_numbers)}"
        return golden_dump(self.settings(**overrides), self.pool(run, **overrides).lease, run=run, progress=self.told)

    @contextmanager
    def sandbox(self) -> Iterator[Sandbox]:
        """A leased sandbox, as it is."""
        with self.pool().lease() as sandbox:
            yield sandbox

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``erp-sandbox`` here, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", "from pytest_erp_sandbox.command import main; main()", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@contextmanager
def estate_on(
    prod: str, sandbox: str, *, sandboxes: int = 1, fill: Callable[[psycopg.Connection[Any]], None] | None = None
) -> Iterator[BuiltEstate]:
    """A prod and sandboxes on a server each, of these versions; prod's logs every statement."""
    with ExitStack() as stack:
        folder = server_folder(f"erp-sandbox-tests-{prod}-{sandbox}-{os.getpid()}-{next(_numbers)}")
        stack.callback(shutil.rmtree, folder)
        logging = {**SETTINGS, "log_statement": "all", "log_line_prefix": "%d %p "}
        truth = stack.enter_context(Server(folder / "prod", VERSIONS[prod], settings=logging))
        copies = stack.enter_context(Server(folder / "sandbox", VERSIONS[sandbox], settings=SETTINGS))
        estate = build_estate(truth, copies, sandboxes=sandboxes, fill=fill)
        erps = [Erp(each.dsn, each.unique_id) for each in estate.sandboxes]
        for erp in erps:
            erp.start()
            stack.callback(erp.stop)
        yield BuiltEstate(estate, truth, copies, erps, folder / "golden")


def state_of_prod(estate: BuiltEstate) -> dict[str, str]:
    """Everything in prod's schema public."""
    return fingerprint(estate.prod.dsn(PROD_DATABASE))


def state_of_sandbox(estate: BuiltEstate, number: int = 0, *, but_for_the_agent: bool = False) -> dict[str, str]:
    """Everything in a sandbox's schema public."""
    state = fingerprint(estate.admin(number))
    if but_for_the_agent:
        # Its key is another each time; the number of users is not.
        state["rows of llx_user"] = state["rows of llx_user"].split()[0]
    return state
