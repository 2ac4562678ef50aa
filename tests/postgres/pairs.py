"""A prod and a sandbox for tests, each of roles of its own, on servers that others use too."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from psycopg import sql
from pydantic import SecretStr

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.adoption import adopt, read_mark
from pytest_erp_sandbox.postgres.amending import Amendment
from pytest_erp_sandbox.postgres.archive import Archive, read_archive
from pytest_erp_sandbox.postgres.clients import Toolset, choose_clients, installed_toolsets
from pytest_erp_sandbox.postgres.connection import ProdDatabase, SandboxDatabase, as_owner
from pytest_erp_sandbox.postgres.dump import OnProgress, PgDumpHere, dump_prod
from pytest_erp_sandbox.postgres.lease import Lease, take_lease
from pytest_erp_sandbox.postgres.restore import restore
from pytest_erp_sandbox.postgres.wipe import wipe

from ..servers import connect

PASSWORD = SecretStr("pa55 w'ord=ü\\%")
PATIENCE = timedelta(seconds=20)
_numbers = itertools.count()


@dataclass(frozen=True)
class Side:
    """A database with its owner and a login.

    Attributes:
        server: where it is.
        name: the database's.
        role: the owner of all that is in it.
        login: in prod one that may only read, in a sandbox a member of the role.
    """

    server: Server
    name: str
    role: str
    login: str

    @property
    def dsn(self) -> SecretStr:
        return self.server.dsn(self.name, self.login, PASSWORD)

    @property
    def prod(self) -> ProdDatabase:
        return ProdDatabase(self.dsn, "prod.dsn")

    @property
    def sandbox(self) -> SandboxDatabase:
        return SandboxDatabase(self.dsn, "sandbox.dsn", self.role)

    def execute(self, *statements: str, role: str | None = None) -> None:
        """Run statements as the owner, or as somebody else; by way of the superuser."""
        with connect(self.server.dsn(self.name)) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role or self.role)))
            for statement in statements:
                connection.execute(statement.encode())

    def administrate(self, *statements: str) -> None:
        """Run statements as the superuser."""
        with connect(self.server.dsn(self.name)) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def values(self, statement: str) -> list[object]:
        """The first column of what a query gives the superuser."""
        with connect(self.server.dsn(self.name)) as connection:
            return [row[0] for row in connection.execute(statement.encode())]


def make_side(
    server: Server, prefix: str, *, is_member: bool, create: str = "CREATE DATABASE {name} OWNER {role}"
) -> Side:
    number = next(_numbers)
    side = Side(server, f"{prefix}-db-{number}", f"{prefix} role {number}", f"{prefix}-login-{number}")
    names = {each: sql.Identifier(getattr(side, each)) for each in ("name", "role", "login")}
    with connect(server.dsn()) as connection:
        for statement in (
            "CREATE ROLE {role}",
            "CREATE ROLE {login} LOGIN PASSWORD {password} "
            + ("IN ROLE {role}" if is_member else "BYPASSRLS IN ROLE pg_read_all_data"),
            create,
        ):
            connection.execute(sql.SQL(statement).format(**names, password=sql.Literal(PASSWORD.get_secret_value())))
    return side


def make_prod(server: Server, *statements: str) -> Side:
    side = make_side(server, "prod", is_member=False)
    side.execute(*statements)
    return side


def make_sandbox(server: Server, *statements: str, adopted: bool = True) -> Side:
    """An adopted sandbox; ``statements`` are run as its role."""
    side = make_side(server, "sandbox", is_member=True)
    side.execute(*statements)
    if adopted:
        with side.sandbox.connect() as connection, as_owner(connection, side.role):
            adopt(connection)
    return side


def toolset(major: int) -> Toolset:
    """The programs of just this version."""
    return next(each for each in installed_toolsets() if each.major == major)


def dump(
    prod: Side,
    folder: Path,
    programs: Toolset | None = None,
    *,
    jobs: int = 2,
    lock_wait_timeout: timedelta = PATIENCE,
    timeout: timedelta = PATIENCE * 3,
    on_progress: OnProgress = lambda _done, _size: None,
) -> Archive:
    """Prod's dump, in a new folder of that folder."""
    major = prod.server.version
    tools = programs or choose_clients(installed_toolsets(), prod=major, sandbox=major).sandbox
    to = folder / f"dump-{next(_numbers)}"
    dump_prod(
        prod.prod,
        to,
        PgDumpHere(tools),
        jobs=jobs,
        lock_wait_timeout=lock_wait_timeout,
        timeout=timeout,
        on_progress=on_progress,
    )
    return read_archive(to, installed_toolsets())


def put(
    lease: Lease,
    archive: Archive,
    programs: Toolset | None = None,
    leave_out: Collection[str] = (),
    amendment: Amendment | None = None,
) -> None:
    """Wipe the leased sandbox and restore a dump there."""
    major = lease.connection.info.server_version // 10000
    tools = (
        programs
        or choose_clients(
            installed_toolsets(), prod=None, sandbox=major, archive=(archive.server_major, archive.dump_major)
        ).sandbox
    )
    wipe(lease, lock_timeout=PATIENCE)
    restore(
        lease,
        archive,
        tools,
        jobs=2,
        leave_out=leave_out,
        on_progress=lambda _done, _size: None,
        amendment=amendment,
    )


@contextmanager
def leased(side: Side) -> Iterator[Lease]:
    with take_lease([side.sandbox], PATIENCE) as lease:
        yield lease


def mark(side: Side) -> object:
    with side.sandbox.connect() as connection:
        return read_mark(connection)


SLOW_TO_RESTORE = [
    "CREATE FUNCTION slow(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
    " IF current_setting('application_name') LIKE 'erp-sandbox lease%' THEN PERFORM pg_sleep(100); END IF;"
    " RETURN 1; END $$",
    "CREATE TABLE slow_one (id integer)",
    "INSERT INTO slow_one VALUES (1)",
    "CREATE INDEX ON slow_one (slow(id))",
]
"""A prod whose restore does not end by itself."""

SLOW_SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX%slow%'"
)


def eventually(holds: Callable[[], object], patience: float = 15) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.05)


@contextmanager
def interrupted_when(holds: Callable[[], object]) -> Iterator[None]:
    """Press Ctrl-C as soon as something holds."""

    def watch() -> None:
        eventually(holds)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()


def children() -> set[str]:
    """The client programs that this process runs."""
    return {
        words[0]
        for status in Path("/proc").glob("[0-9]*/stat")
        if (words := _command_of_child(status.parent)) and words[0].rpartition("/")[2].startswith(("pg_", "psql"))
    }


def _command_of_child(process: Path) -> list[str]:
    try:
        parent = process.joinpath("stat").read_text().rpartition(")")[2].split()[1]
        command = process.joinpath("cmdline").read_text().split("\0")
    except OSError:
        return []  # it has just ended
    return command if int(parent) == os.getpid() else []
