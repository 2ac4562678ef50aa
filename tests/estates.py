"""A prod, its sandboxes and their ERPs on real servers, and projects that rehearse on them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from pytest_erp_sandbox.demo.erp import Erp
from pytest_erp_sandbox.demo.estate import Estate, build_estate
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.postgres.connection import SandboxDatabase

from .servers import SETTINGS, VERSIONS, connect

SANDBOXES = 4

STEPS = """
from pytest_bdd import given, scenarios, then

scenarios(".")

@given("the agent makes a third party Acme")
def make(erp_api):
    assert erp_api.post("thirdparties", json={"name": "Acme", "client": "1"}).status_code == 200

@then("there is one Acme")
def look(erp_db):
    assert erp_db.execute("SELECT count(*) FROM llx_societe WHERE nom = 'Acme'").fetchone() == (1,)

@then("all is well")
def well():
    pass

@then("something is wrong")
def wrong():
    assert False, "this scenario fails"
"""


def toml(value: object) -> str:
    """A value as TOML has it, tables inline."""
    if isinstance(value, SecretStr):
        return json.dumps(value.get_secret_value())
    if isinstance(value, Path):
        return json.dumps(str(value))
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


@dataclass
class BuiltEstate:
    """An estate, its servers, and an ERP in front of each sandbox."""

    estate: Estate
    prod: Server
    sandbox: Server
    erps: Sequence[Erp]
    golden: Path
    """A cache that tests share, so that they need not wait for a golden dump each."""

    def settings(self, *places: int, **top: object) -> dict[str, Any]:
        """Settings of a project that rehearses in these sandboxes (by number; the first, where none is named)."""
        return {
            **top,
            "prod": {"dsn": self.estate.prod_dsn},
            "golden": {"path": self.golden},
            "agent": {"rights": ["societe.*"]},
            "sandboxes": [self.place(number) for number in places or (0,)],
        }

    def place(self, number: int) -> dict[str, Any]:
        """A sandbox's settings."""
        sandbox, erp = self.estate.sandboxes[number], self.erps[number]
        return {
            "name": sandbox.name,
            "dsn": sandbox.dsn,
            "role": sandbox.role,
            "lock-timeout": "2s",
            "erp": {"url": erp.url, "instance-unique-id": sandbox.unique_id},
        }

    def database(self, number: int) -> SandboxDatabase:
        """A sandbox's database, as its settings have it."""
        sandbox = self.estate.sandboxes[number]
        return SandboxDatabase(sandbox.dsn, "sandbox.dsn", sandbox.role)

    @contextmanager
    def unadopted(self, number: int) -> Iterator[None]:
        """Take a sandbox's mark away, for a while; what is in it stays."""
        name = sql.Identifier(self.estate.sandboxes[number].name)
        with connect(self.admin(number)) as connection:
            row = connection.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
            ).fetchone()
            mark = row[0] if row else None
            connection.execute(sql.SQL("COMMENT ON DATABASE {} IS NULL").format(name))
            try:
                yield
            finally:
                connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(mark)))

    def admin(self, number: int) -> SecretStr:
        """The DSN of a superuser in a sandbox."""
        return self.sandbox.dsn(self.estate.sandboxes[number].name)

    def secrets(self) -> list[str]:
        """Each password and unique id that no output may have."""
        dsns = [self.estate.prod_dsn, self.estate.prod_owner_dsn, *(sandbox.dsn for sandbox in self.estate.sandboxes)]
        passwords = [str(conninfo_to_dict(dsn.get_secret_value())["password"]) for dsn in dsns]
        unique_ids = [sandbox.unique_id.get_secret_value() for sandbox in self.estate.sandboxes]
        return [*passwords, *unique_ids, self.estate.unique_id.get_secret_value()]

    def said_to_prod(self, since: int = 0) -> str:
        """What prod's server logged from a size of its log on: every statement."""
        with self.prod.log.open("rb") as log:
            log.seek(since)
            return log.read().decode()

    @property
    def log_size(self) -> int:
        return self.prod.log.stat().st_size


@contextmanager
def built_estate() -> Iterator[BuiltEstate]:
    """Prod on the oldest server, four sandboxes on the newest."""
    with ExitStack() as stack:
        folder = server_folder(f"erp-sandbox-tests-estate-{os.getpid()}")
        stack.callback(shutil.rmtree, folder)
        oldest = VERSIONS["15"] if VERSIONS["15"] is not None and VERSIONS["15"].exists() else None
        prod = stack.enter_context(
            Server(folder / "prod", oldest, settings={**SETTINGS, "log_statement": "all", "log_connections": "on"})
        )
        sandbox = stack.enter_context(Server(folder / "sandbox", settings={**SETTINGS, "max_connections": "80"}))
        estate = build_estate(prod, sandbox, sandboxes=SANDBOXES)
        erps = [Erp(each.dsn, each.unique_id) for each in estate.sandboxes]
        for erp in erps:
            erp.start()
            stack.callback(erp.stop)
        yield BuiltEstate(estate, prod, sandbox, erps, folder / "golden")


class Project:
    """A project of its own, in pytester's folder, that rehearses on an estate."""

    def __init__(self, pytester: pytest.Pytester, estate: BuiltEstate) -> None:
        self.pytester = pytester
        self.estate = estate
        self.path = pytester.path
        self.configure(estate.settings())

    def configure(self, settings: Mapping[str, object]) -> None:
        """Write these settings."""
        lines = [f"{key} = {toml(value)}\n" for key, value in settings.items()]
        (self.path / "erp-sandbox.toml").write_text("".join(lines))

    def scenarios(self, *thens: str) -> None:
        """Write a scenario for each of these last steps; each makes the same third party before."""
        scenarios = [
            f"  Scenario: number {number}\n    Given the agent makes a third party Acme\n    Then {then}\n"
            for number, then in enumerate(thens, 1)
        ]
        (self.path / "parties.feature").write_text("Feature: parties\n" + "".join(scenarios))
        self.pytester.makepyfile(test_parties=STEPS)

    def run(self, *arguments: str) -> Run:
        """Run pytest here, in a process of its own."""
        return Run(self.pytester.runpytest_subprocess(*arguments))

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start pytest here, to be interrupted."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )

    def command(self, *arguments: str, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``erp-sandbox`` here."""
        return subprocess.run(
            [sys.executable, "-c", "from pytest_erp_sandbox.command import main; main()", *arguments],
            cwd=self.path,
            input=answer,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "80", **environment},
        )


class Run:
    """What came of a run of pytest."""

    def __init__(self, result: pytest.RunResult) -> None:
        self.code = result.ret
        self.text = result.stdout.str() + result.stderr.str()

    def expect(self, code: int, **outcomes: int) -> Run:
        """Check exit code and counts of outcomes; whatever is not named did not come."""
        counts = self.outcomes
        assert (self.code, counts) == (code, outcomes), self.text
        return self

    @property
    def outcomes(self) -> dict[str, int]:
        last = [line for line in self.text.splitlines() if re.search(r" in [\d.]+s", line)][-1:]
        found = re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed|deselected|xpassed)", "".join(last))
        return {name.removesuffix("s") if name == "errors" else name: int(count) for count, name in found}

    def expect_error(self, *parts: str, code: int = 1, **outcomes: int) -> Run:
        """Check that one clear message has all of these parts, and that no traceback is shown."""
        assert self.code == code, self.text
        if outcomes:
            assert self.outcomes == outcomes, self.text
        for part in parts:
            assert part in self.text, f"{part!r} is not in:\n{self.text}"
        assert not re.search(r"Traceback|INTERNALERROR|^E {3,7}\S|\.py:\d+: \w*Error", self.text, re.M), self.text
        return self
