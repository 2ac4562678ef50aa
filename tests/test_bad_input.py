"""What is wrong with settings, servers, cache or ERP is said in one clear message, and nothing is half done."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.postgres.lease import take_lease

from .estates import BuiltEstate, Project
from .servers import VERSIONS, connect

Settings = dict[str, Any]


def _at(dsn: SecretStr, *, port: int | None = None, host: str | None = None, password: str | None = None) -> SecretStr:
    """The same DSN with another port, host or password."""
    parts = urlsplit(dsn.get_secret_value())
    netloc = f"{parts.username}:{password or parts.password}@{host or parts.hostname}:{port or parts.port}"
    return SecretStr(urlunsplit(parts._replace(netloc=netloc)))


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Bad:
    """Settings with something wrong, and what must be said of it."""

    spoil: Callable[[Settings, BuiltEstate, Path], object]
    said: tuple[str, ...]
    code: int = 1
    """pytest's exit code: 4 where it is seen before anything runs."""
    command: int = 1
    """The command's."""


def _not_a_folder(settings: Settings, _estate: BuiltEstate, folder: Path) -> None:
    (folder / "cache").write_text("a file")
    settings["golden"]["path"] = "cache/golden"


CASES: Mapping[str, Bad] = {
    "unknown key": Bad(
        lambda s, _e, _f: s["golden"].update({"max-aeg": "1h"}),
        ("golden.max-aeg (erp-sandbox.toml): unknown key", "Did you mean max-age?"),
        code=4,
        command=2,
    ),
    "bad duration": Bad(
        lambda s, _e, _f: s.update({"lease-timeout": "soon"}),
        ("lease-timeout (erp-sandbox.toml)", "a number and a unit: ms, s, min, h or d"),
        code=4,
        command=2,
    ),
    "bad DSN": Bad(
        lambda s, _e, _f: s["prod"].update(dsn="prod, password=hidden-password"),
        ("prod.dsn is not a PostgreSQL DSN", "Write postgresql://user@host:5432/database"),
        code=4,
        command=2,
    ),
    "unreachable server": Bad(
        lambda s, e, _f: s["prod"].update(dsn=_at(e.estate.prod_dsn, port=_closed_port())),
        (
            "prod: is reachable: failure: cannot connect to 'erp' at 127.0.0.1",
            "Connection refused",
            "→ Try it with psql",
        ),
    ),
    "wrong password": Bad(
        lambda s, _e, _f: s["sandboxes"][0].update(dsn=_at(s["sandboxes"][0]["dsn"], password="wrong-password")),
        ("erp-sandbox: is reachable: failure: cannot connect", "password authentication failed", "→ Try it with psql"),
    ),
    "prod is the sandbox by another name": Bad(
        lambda s, _e, _f: s["prod"].update(dsn=_at(s["sandboxes"][0]["dsn"], host="localhost")),
        ("erp-sandbox: is neither prod nor another sandbox: failure", "→"),
    ),
    "one sandbox twice": Bad(
        lambda s, _e, _f: s["sandboxes"].append(
            {**s["sandboxes"][0], "name": "again", "dsn": _at(s["sandboxes"][0]["dsn"], host="localhost")}
        ),
        ("is neither prod nor another sandbox: failure", "→"),
    ),
    "role missing": Bad(
        lambda s, _e, _f: s["sandboxes"][0].update(role="no_such_role"),
        ("erp-sandbox: login is a member of the role: failure", "no_such_role", "→"),
    ),
    "not a member of the role": Bad(
        lambda s, e, _f: s["sandboxes"][0].update(role=e.estate.sandboxes[1].role),
        ("erp-sandbox: login is a member of the role: failure", "erp_sandbox_role_2", "→"),
    ),
    "no programs in their folder": Bad(
        lambda s, _e, f: s.update(programs=str(f)),
        ("no pg_dump, pg_restore and psql in", "Correct or remove the setting programs"),
    ),
    "cache folder cannot be made": Bad(
        _not_a_folder,
        ("the golden dumps' folder", "cache/golden cannot be written", "→ Give golden.path a folder"),
    ),
    "unknown right": Bad(
        lambda s, _e, _f: s["agent"].update(rights=["societe.lrie"]),
        ("societe.lrie", "societe.lire"),
    ),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def bad(request: pytest.FixtureRequest, project: Project) -> Bad:
    case: Bad = request.param
    settings = project.estate.settings()
    case.spoil(settings, project.estate, project.path)
    project.configure(settings)
    project.scenarios("all is well")
    return case


def test_pytest_says_what_is_wrong(project: Project, bad: Bad) -> None:
    run = project.run("--showlocals").expect_error(*bad.said, code=bad.code)
    assert run.outcomes == ({} if bad.code == pytest.ExitCode.USAGE_ERROR else {"error": 1})
    assert "-password" not in run.text


def test_the_command_says_what_is_wrong(project: Project, bad: Bad) -> None:
    done = project.command("reset")
    assert done.returncode == bad.command, done
    for part in bad.said:
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert "-password" not in done.stdout + done.stderr


class TestPreflight:
    @pytest.fixture
    def failing(self, project: Project) -> Project:
        settings = project.estate.settings(0, 1)
        settings["sandboxes"][0]["role"] = "no_such_role"
        project.configure(settings)
        return project

    @pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["plain", "two workers"])
    def test_a_failure_is_reported_once_and_ends_the_run(self, failing: Project, workers: list[str]) -> None:
        failing.scenarios(*["all is well"] * 20)
        run = failing.run(*workers)
        assert run.code not in (0, pytest.ExitCode.INTERNAL_ERROR)
        assert run.outcomes["error"] <= max(len(workers), 1), run.text
        assert set(run.outcomes) == {"error"}
        assert run.text.count("erp-sandbox: login is a member of the role: failure") == 1
        assert "erp-sandbox: preflight failed" in run.text

    def test_all_that_fails_is_reported_together(self, failing: Project) -> None:
        settings = failing.estate.settings(1)
        settings["sandboxes"][0]["role"] = "no_such_role"
        settings["prod"]["dsn"] = _at(failing.estate.estate.prod_dsn, port=_closed_port())
        failing.configure(settings)
        failing.scenarios("all is well")
        failing.run().expect_error("prod: is reachable: failure", "login is a member of the role: failure", error=1)

    def test_an_expected_failure_does_not_hide_it(self, failing: Project) -> None:
        failing.pytester.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_one(erp_sandbox): assert False")
        failing.run().expect(1, error=1)


def test_not_adopted(project: Project, estate: BuiltEstate) -> None:
    project.scenarios("all is well")
    project.run().expect(0, passed=1)
    with estate.unadopted(0):
        project.run().expect_error("erp-sandbox: is adopted, or empty: failure", "`erp-sandbox adopt", error=1)
        with connect(estate.admin(0)) as somebody:
            assert somebody.execute("SELECT to_regclass('public.llx_societe')").fetchone() != (None,)


@pytest.mark.parametrize(("variable", "said"), [("GOLDEN__PTAH", "golden.ptah"), ("GOLDN", "ERP_SANDBOX_GOLDN")])
def test_unknown_variable(project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, said: str) -> None:
    monkeypatch.setenv(f"ERP_SANDBOX_{variable}", "x")
    project.scenarios("all is well")
    project.run().expect_error(said, f"ERP_SANDBOX_{variable}", "Did you mean", code=4)


class TestClientPrograms:
    @pytest.fixture
    def old(self, project: Project) -> Project:
        """A machine that has PostgreSQL 15's programs alone."""
        programs = VERSIONS["15"]
        if programs is None or not programs.exists():
            pytest.skip("PostgreSQL 15 is not installed")
        project.configure(project.estate.settings(programs=str(programs)))
        project.pytester.makeconftest(
            """
            from pytest_erp_sandbox.postgres import clients

            clients._candidates = lambda: iter(())
            """
        )
        project.scenarios("all is well")
        return project

    def test_too_old_for_the_sandbox(self, old: Project) -> None:
        old.run().expect_error(
            "erp-sandbox: client programs fit: failure: no pg_dump and pg_restore of PostgreSQL 18 or newer found",
            "PostgreSQL 15",
            "→ Install postgresql-client-18",
            error=1,
        )


class TestCacheFolder:
    @pytest.fixture
    def mounted(self, project: Project) -> Iterator[Callable[[str], None]]:
        """Mounts a small file system as the project's cache."""
        folder = project.path / "cache"
        folder.mkdir()
        mounts = 0

        def mount(options: str) -> None:
            nonlocal mounts
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
            if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
                pytest.skip("a file system can be mounted only by root, and not in every container")
            mounts += 1

        settings = project.estate.settings()
        settings["golden"]["path"] = "cache"
        project.configure(settings)
        project.scenarios("all is well")
        yield mount
        for _ in range(mounts):
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S607

    def test_read_only(self, project: Project, mounted: Callable[[str], None]) -> None:
        mounted("ro")
        project.run().expect_error("cache cannot be written: Read-only file system", "→ Give golden.path", error=1)

    def test_too_small(self, project: Project, mounted: Callable[[str], None]) -> None:
        mounted("size=8k")
        project.run().expect_error("free; a golden dump of prod takes about", "→ Make room", error=1)

    def test_full_before_the_dump_is_whole(self, project: Project, mounted: Callable[[str], None]) -> None:
        mounted("size=2m,nr_inodes=20")
        project.run().expect_error("No space left on device", error=1)
        assert [entry.name for entry in (project.path / "cache").iterdir()] in ([], [".lock"])


class TestDamagedGoldenDump:
    @pytest.fixture
    def damaged(self, project: Project) -> Project:
        settings = project.estate.settings()
        settings["golden"]["path"] = "cache"
        project.configure(settings)
        project.scenarios("all is well")
        project.run().expect(0, passed=1)
        (data,) = project.path.glob("cache/*/dump/toc.dat")
        data.write_bytes(data.read_bytes()[:-1])
        return project

    def test_is_made_again(self, damaged: Project) -> None:
        run = damaged.run().expect(0, passed=1)
        assert "is damaged: it does not have the checksum that it was made with" in run.text
        assert "is damaged" not in damaged.run().expect(0, passed=1).text

    def test_is_not_used_where_none_may_be_made(self, damaged: Project) -> None:
        damaged.run("--erp-sandbox-refresh=never").expect_error(
            "there is no golden dump in", "is damaged", "→ Make one where prod can be reached", error=1
        )


def test_sandbox_in_use(project: Project, estate: BuiltEstate) -> None:
    project.scenarios("all is well")
    with take_lease([estate.database(0)], timedelta(seconds=10)) as lease:
        run = project.run("--erp-sandbox-lease-timeout=1s")
        pid = lease.connection.info.backend_pid
    run.expect_error("LeaseError: no sandbox became free", f"is in use: pid {pid}", "→ Wait for the other run", error=1)
    project.run().expect(0, passed=1)


class TestErp:
    def run_with(self, project: Project, url: str) -> None:
        settings = project.estate.settings()
        settings["sandboxes"][0]["erp"]["url"] = url
        project.configure(settings)
        project.scenarios("all is well")

    def test_not_answering(self, project: Project) -> None:
        self.run_with(project, f"http://127.0.0.1:{_closed_port()}")
        project.run().expect_error("AgentError: the ERP at http://127.0.0.1", "cannot be reached", "→ Check", error=1)

    def test_answering_for_another_database(self, project: Project, estate: BuiltEstate) -> None:
        project.configure(estate.settings(1))
        project.scenarios("all is well")
        project.run().expect(0, passed=1)
        self.run_with(project, estate.erps[1].url)
        project.run().expect_error("AgentError: the ERP at", "401", "→ The ERP serves another database", error=1)


def test_a_server_that_ends_the_session_in_the_middle_of_it(project: Project, estate: BuiltEstate) -> None:
    project.pytester.makeconftest(
        f"""
        import psycopg
        from pytest_erp_sandbox.sandbox import Sandbox

        whole = Sandbox.rebuild

        def rebuild(self, *arguments):
            with psycopg.connect({estate.admin(0).get_secret_value()!r}) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", [self.lease.connection.info.backend_pid])
            whole(self, *arguments)

        Sandbox.rebuild = rebuild
        """
    )
    project.scenarios("all is well", "all is well")
    project.run().expect_error("terminating connection due to administrator command", error=2)
