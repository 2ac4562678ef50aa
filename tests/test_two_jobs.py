"""What an agent's process can read: prod's credentials, unless they are another job's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .estates import BuiltEstate, Project

# As somebody who looks for them would: in its environment, its parents', the project, the cache, the home folder.
THIEF = """
import os, pathlib, pwd, sys

def environment_and_arguments(pid):
    while pid > 1:
        process = pathlib.Path(f"/proc/{pid}")
        yield from (process / "environ", process / "cmdline")
        pid = int((process / "stat").read_text().rpartition(")")[2].split()[1])

places = [pathlib.Path(place) for place in sys.argv[1:]]
loot = b""
for file in [*environment_and_arguments(os.getpid()), *(file for place in places for file in place.rglob("*"))]:
    if file.is_file():
        loot += file.read_bytes()
pathlib.Path(os.environ["HOME"], "loot").write_bytes(loot)
"""

Job = Callable[..., bytes]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of whoever runs it."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def job(project: Project, tmp_path: Path, home: Path) -> Job:
    """Rehearses with these settings, and gives all that the agent could read."""

    def rehearse(settings: dict[str, Any], *arguments: str) -> bytes:
        thief = tmp_path / "thief.py"
        thief.write_text(THIEF)
        places = ["{project}", str(settings["golden"]["path"]), str(home)]
        settings["agent"]["command"] = [sys.executable, str(thief), *places]
        project.configure(settings)
        project.pytester.makepyfile(test_one="def test_one(erp_agent): erp_agent('Have a look around.')\n")
        base = tmp_path / "base"
        project.run(f"--basetemp={base}", *arguments).expect(0, passed=1)
        (loot,) = base.rglob("loot")
        return loot.read_bytes()

    return rehearse


@pytest.fixture
def password(estate: BuiltEstate) -> bytes:
    """Of prod's login."""
    return str(conninfo_to_dict(estate.estate.prod_dsn.get_secret_value())["password"]).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
class TestWhatAnAgentCanRead:
    def test_are_prods_credentials_in_settings(self, job: Job, estate: BuiltEstate, password: bytes) -> None:
        assert password in job(estate.settings())

    def test_are_prods_credentials_in_the_runs_environment(
        self, job: Job, estate: BuiltEstate, password: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ERP_SANDBOX_PROD__DSN", estate.estate.prod_dsn.get_secret_value())
        assert password in job({**estate.settings(), "prod": {}})

    def test_are_prods_credentials_in_the_home_folder(
        self, job: Job, estate: BuiltEstate, password: bytes, home: Path
    ) -> None:
        dsn = conninfo_to_dict(estate.estate.prod_dsn.get_secret_value())
        passfile = home / ".pgpass"
        passfile.write_text(f"*:*:*:{dsn['user']}:{dsn.pop('password')}\n")
        passfile.chmod(0o600)
        assert password in job({**estate.settings(), "prod": {"dsn": make_conninfo(**dsn)}})  # type: ignore[arg-type]

    def test_is_nothing_of_prods_where_another_job_refreshes(
        self, job: Job, project: Project, estate: BuiltEstate, tmp_path: Path
    ) -> None:
        golden = {"path": tmp_path / "cache"}
        # The first job has prod's credentials, and no agent.
        project.configure({**estate.settings(), "golden": golden})
        refreshed = project.command("refresh-from-prod")
        assert refreshed.returncode == 0, refreshed.stderr

        settings = {**estate.settings(refresh="never"), "golden": golden}
        del settings["prod"]
        loot = job(settings)
        assert b"ERP_SANDBOX" not in loot.replace(b"ERP_SANDBOX_TEST", b"")
        of_prod = [estate.estate.prod_dsn, estate.estate.prod_owner_dsn]
        passwords = [str(conninfo_to_dict(dsn.get_secret_value())["password"]) for dsn in of_prod]
        for secret in [*passwords, estate.estate.unique_id.get_secret_value()]:
            assert secret.encode() not in loot
        # What it may know is there: the sandbox's.
        assert estate.estate.sandboxes[0].unique_id.get_secret_value().encode() in loot
