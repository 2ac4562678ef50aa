"""What the README tells people to do works when it is done, and what it says of settings and commands is so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, SecretStr

from pytest_erp_sandbox.command import cli
from pytest_erp_sandbox.demo.erp import Erp
from pytest_erp_sandbox.demo.estate import PROD_DATABASE, build_estate
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.plugin import OVERRIDES
from pytest_erp_sandbox.settings import SandboxSettings, Settings, load_settings

from .servers import SETTINGS

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def table_rows(heading: str) -> list[list[str]]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    assert rows
    return rows


def setting_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name.replace('_', '-')}"
        default = field.get_default(call_default_factory=True, validated_data={})
        if name == "sandbox":
            yield from setting_keys(SandboxSettings, "sandbox.")
        elif isinstance(default, BaseModel):
            yield from setting_keys(type(default), f"{key}.")
        elif name != "sandboxes":
            yield key


class TestOnPostgresOfOnesOwn:
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        """A server of its own, since the README makes roles."""
        folder = server_folder(f"erp-sandbox-tests-readme-{os.getpid()}")
        try:
            with Server(folder / "server", settings=SETTINGS) as running:
                yield running
        finally:
            shutil.rmtree(folder)

    @pytest.fixture
    def environment(self, server: Server, tmp_path: Path) -> dict[str, str]:
        """A shell's, in which psql is a superuser's; all passwords are in a passfile."""
        dsn = conninfo_to_dict(server.dsn().get_secret_value())
        passwords = {"postgres": dsn["password"], "erp_sandbox_login": "secret", "erp_dumper": "another secret"}
        passfile = tmp_path / "pgpass"
        passfile.write_text("".join(f"*:*:*:{login}:{password}\n" for login, password in passwords.items()))
        passfile.chmod(0o600)
        path = f"{server.programs}:{os.environ['PATH']}"
        return {
            **os.environ,
            "PATH": path,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": "postgres",
            "PGPASSFILE": str(passfile),
        }

    def psql(self, environment: dict[str, str], script: str) -> None:
        subprocess.run(
            ["/usr/bin/env", "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", "postgres"],
            input=script,
            text=True,
            check=True,
            env=environment,
        )

    def test_what_it_says_makes_a_sandbox_that_rehearses(
        self, server: Server, environment: dict[str, str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build_estate(server, sandboxes=0)
        self.psql(environment, blocks("sql")[0])
        dump_role = next(block for block in blocks("sh") if "dump-role.sql" in block)
        for line in dump_role.splitlines():
            if r"\password" in line:  # asks at a terminal
                self.psql(environment, "ALTER ROLE erp_dumper PASSWORD 'another secret'")
            else:
                subprocess.run(line, shell=True, check=True, cwd=PROJECT, env=environment)  # noqa: S602 - as people do

        unique_id = "a unique id of the sandbox's own"
        sandbox = server.dsn("erp-sandbox", "erp_sandbox_login", SecretStr("secret"))
        erp = Erp(sandbox, SecretStr(unique_id))
        erp.start()
        try:
            settings = (
                blocks("toml")[1]
                .replace("[tool.erp-sandbox.agent]\n", blocks("toml")[0])
                .replace("prod.example.org", f"127.0.0.1:{server.port}")
                .replace("sandbox.example.org/", f"127.0.0.1:{server.port}/")
                .replace("https://erp-sandbox.example.org", erp.url)
                .replace("the sandbox ERP's own $dolibarr_main_instance_unique_id", unique_id)
            )
            assert ".example.org" not in settings
            (pytester.path / "pyproject.toml").write_text(settings)
            (pytester.path / "customer.feature").write_text(blocks("gherkin")[0])
            pytester.makepyfile(test_features="from pytest_bdd import scenarios\nscenarios('.')\n")
            pytester.makepyfile(test_agent=blocks("python")[0])
            agent = pytester.path / "agent"
            agent.write_text(
                "#!/bin/sh\nset -eu\nread -r prompt || true\nname=${prompt% is a new customer}\necho $name\n"
                'exec curl -sSf -H "DOLAPIKEY: $DOLAPIKEY" -H "Content-Type: application/json"'
                ' -d "{\\"name\\": \\"$name\\", \\"client\\": \\"1\\"}" "$DOLIBARR_URL/api/index.php/thirdparties"\n'
            )
            agent.chmod(0o755)
            monkeypatch.setenv("PGPASSFILE", environment["PGPASSFILE"])
            monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))

            preflight = pytester.run(
                sys.executable, "-c", "from pytest_erp_sandbox.command import main; main()", "preflight"
            )
            assert preflight.ret == 0, preflight.outlines
            result = pytester.runpytest_subprocess("--erp-sandbox-reset=scenario")
            result.assert_outcomes(passed=2)
            for number, feature in enumerate(blocks("gherkin")[1:]):
                (pytester.path / f"changes{number}.feature").write_text(feature)
            result = pytester.runpytest_subprocess("--erp-sandbox-strategy=rewind")
            result.assert_outcomes(passed=4)
        finally:
            erp.stop()


class TestSettings:
    def test_each_one_has_its_row(self) -> None:
        assert [row[0].strip("`") for row in table_rows("Settings")] == list(setting_keys(Settings))

    def test_the_defaults_are_as_it_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        needed = {"prod.dsn": '"postgresql:///erp"', "sandbox.dsn": '"postgresql:///erp-sandbox"'}
        said = {row[0].strip("`"): row[1].strip("`") for row in table_rows("Settings") if row[1]}

        def loaded(keys: dict[str, str]) -> object:
            (tmp_path / "erp-sandbox.toml").write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
            settings = load_settings(tmp_path)
            assert settings is not None
            return settings.model_dump()

        assert loaded({**said, **needed}) == loaded(needed)

    def test_each_key_without_a_dot_has_an_option(self) -> None:
        keys = [row[0].strip("`") for row in table_rows("Settings")]
        assert sorted(OVERRIDES) == sorted(key.replace("-", "_") for key in keys if "." not in key)


def test_each_command_has_its_row() -> None:
    assert sorted(row[0].strip("`") for row in table_rows("Commands")) == sorted(cli.commands)


def test_prods_database_is_called_as_in_the_readme() -> None:
    assert f"psql -d {PROD_DATABASE} -v owner=erp_role" in README
