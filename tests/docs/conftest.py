"""What the pages' commands are run in."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from pytest_erp_sandbox.demo.erp import Erp
from pytest_erp_sandbox.demo.estate import build_estate
from pytest_erp_sandbox.demo.server import Server, server_folder

from ..estates import Project
from ..servers import SETTINGS
from .pages import PROJECT, Page
from .shell import Shell

UNIQUE_ID = "the sandbox ERP's own $dolibarr_main_instance_unique_id"

RIGHTS = ["societe.*", "facture.lire", "facture.creer", "facture.invoice_advance.validate"]

AGENT = """
import json, os, sys, urllib.request

name = sys.stdin.read().strip().removesuffix(" is a new customer")
# TRIAL comes with a conftest.py: an agent that is in two minds once.
for _ in range(2 if os.environ.get("TRIAL") == "3" else 1):
    urllib.request.urlopen(urllib.request.Request(
        os.environ["DOLIBARR_URL"] + "/api/index.php/thirdparties",
        json.dumps({"name": name, "client": "1"}).encode(),
        {"DOLAPIKEY": os.environ["DOLAPIKEY"], "Content-Type": "application/json"},
    ))
print(name)
"""


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page whose story is told; every block of it has to be taken."""
    told = Page(request.param)
    failed_before = request.session.testsfailed
    yield told
    if request.session.testsfailed == failed_before:
        assert not told.left, f"nobody runs {', '.join(map(str, told.left))}"


def write_agent(folder: Path) -> None:
    """An agent that makes a customer of whom it is told."""
    file = folder / "agent"
    file.write_text(f"#!{sys.executable}\n{AGENT}")
    file.chmod(0o755)


def bind(folder: Path, *features: str) -> None:
    """Write features, and what makes tests of them."""
    (folder / "features").mkdir(exist_ok=True)
    (folder / "features" / "test_features.py").write_text("from pytest_bdd import scenarios\nscenarios('.')\n")
    for number, feature in enumerate(features):
        (folder / "features" / f"feature{number}.feature").write_text(feature)


@pytest.fixture
def rehearsing(project: Project) -> Project:
    """A project of the estate's that rewinds, with an agent."""
    settings = project.estate.settings(strategy="rewind")
    settings["agent"] = {"rights": RIGHTS, "command": ["./agent"]}
    project.configure(settings)
    write_agent(project.path)
    return project


@pytest.fixture
def shell(rehearsing: Project) -> Shell:
    return Shell(rehearsing.path)


@dataclass
class OwnPostgres:
    """A prod on a server of its own, on which a page makes roles and a sandbox."""

    server: Server
    shell: Shell
    erp: Erp

    def psql(self, script: str, database: str = "postgres") -> None:
        self.shell.run(f"psql -Xq -v ON_ERROR_STOP=1 -d {database} <<'SQL'\n{script}\nSQL")

    def make_dump_role(self, commands: str) -> None:
        """Run a page's psql commands, but for the one that asks for a password at a terminal."""
        for line in commands.splitlines():
            if r"\password" in line:
                self.psql("ALTER ROLE erp_dumper PASSWORD 'another secret'")
            else:
                self.shell.run(f"cd {PROJECT}\n{line}")

    def located(self, settings: str) -> str:
        """A page's settings, with the places of this server."""
        found = (
            settings.replace("prod.example.org", f"127.0.0.1:{self.server.port}")
            .replace("sandbox.example.org/", f"127.0.0.1:{self.server.port}/")
            .replace("127.0.0.1/erp-sandbox", f"127.0.0.1:{self.server.port}/erp-sandbox")
            .replace("https://erp-sandbox.example.org", self.erp.url)
        )
        assert ".example.org" not in found
        return found


@pytest.fixture
def own(pytester: pytest.Pytester) -> Iterator[OwnPostgres]:
    """A server of its own, since pages make roles; psql there is a superuser's, and all passwords are in a passfile."""
    folder = server_folder(f"erp-sandbox-tests-docs-{os.getpid()}")
    try:
        with Server(folder / "server", settings=SETTINGS) as server:
            build_estate(server, sandboxes=0)
            admin = str(conninfo_to_dict(server.dsn().get_secret_value())["password"])
            passwords = {"postgres": admin, "erp_sandbox_login": "secret", "erp_dumper": "another secret"}
            passfile = pytester.path / ".pgpass"
            passfile.write_text("".join(f"*:*:*:{login}:{password}\n" for login, password in passwords.items()))
            passfile.chmod(0o600)
            shell = Shell(
                pytester.path,
                PATH=f"{server.programs}:{os.environ['PATH']}",
                PGHOST="127.0.0.1",
                PGPORT=str(server.port),
                PGUSER="postgres",
                PGPASSFILE=str(passfile),
                XDG_CACHE_HOME=str(pytester.path / "cache"),
                MODEL_KEY="the model's own key",
            )
            sandbox = server.dsn("erp-sandbox", "erp_sandbox_login", SecretStr("secret"))
            erp = Erp(sandbox, SecretStr(UNIQUE_ID))
            erp.start()
            try:
                yield OwnPostgres(server, shell, erp)
            finally:
                erp.stop()
    finally:
        shutil.rmtree(folder)
