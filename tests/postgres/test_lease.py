from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.errors import LeaseError, PostgresError
from pytest_erp_sandbox.postgres.connection import SandboxConnection, SandboxDatabase
from pytest_erp_sandbox.postgres.lease import Lease, holders, retake, take_lease

from ..servers import connect, may_be_a_replica
from .pairs import (
    PATIENCE,
    SLOW_SESSIONS,
    SLOW_TO_RESTORE,
    Side,
    dump,
    eventually,
    leased,
    make_prod,
    make_sandbox,
    toolset,
)

BRIEF = timedelta(seconds=0.6)

HOLDER = """
import sys
from datetime import timedelta
from pydantic import SecretStr
from pytest_erp_sandbox.postgres.connection import SandboxDatabase
from pytest_erp_sandbox.postgres.lease import take_lease

dsn, role = (sys.stdin.readline().rstrip("\\n") for _ in range(2))
database = SandboxDatabase(SecretStr(dsn), "sandbox.dsn", role)
with take_lease([database], timedelta(minutes=1)) as lease:
    print("leased", lease.id, flush=True)
    {work}
    sys.stdin.readline()
print("released", flush=True)
"""


@pytest.fixture
def sandbox(server: Server) -> Side:
    return make_sandbox(server)


class Holder:
    """Another process, with a lease."""

    def __init__(self, sandbox: Side, work: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.replace("{work}", work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.say(sandbox.dsn.get_secret_value())
        self.say(sandbox.role)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def holder(sandbox: Side, work: str = "") -> Iterator[Holder]:
    other = Holder(sandbox, work)
    try:
        yield other
    finally:
        other.process.kill()
        other.process.communicate()


def queue(sandbox: Side) -> list[object]:
    return sandbox.values(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'erp-sandbox waiting' AND wait_event = 'advisory'"
    )


def test_two_processes_take_turns(sandbox: Side) -> None:
    with holder(sandbox) as first:
        leased_by_first = first.hear()
        with sandbox.sandbox.connect() as connection:
            (who,) = holders(connection)
        assert f"login {sandbox.login}, erp-sandbox lease {leased_by_first.split()[1]}, since 20" in who

        with holder(sandbox) as second:
            eventually(lambda: queue(sandbox))
            first.say("")
            assert first.hear() == "released"
            assert second.hear().startswith("leased ")


def test_a_killed_holders_sandbox_is_free_at_once(sandbox: Side) -> None:
    with holder(sandbox) as other:
        other.hear()
        other.process.kill()
        begun = time.monotonic()
        with leased(sandbox):
            assert time.monotonic() - begun < 5


def test_the_first_that_is_free_is_taken(server: Server) -> None:
    sandboxes = [make_sandbox(server) for _ in range(3)]
    databases = [each.sandbox for each in sandboxes]

    with (
        take_lease(databases, BRIEF) as one,
        take_lease(databases, BRIEF) as two,
        take_lease(databases, BRIEF) as three,
    ):
        assert {lease.database for lease in (one, two, three)} == set(databases)
        told: list[str] = []
        with pytest.raises(LeaseError) as caught:
            take_lease(databases, BRIEF, told.append)

        for lease in (one, two, three):
            assert f"{lease.database} is in use: pid {lease.connection.info.backend_pid}, " in str(caught.value)
        assert len(told) == 1

        # Whichever is given back is taken by whoever waits.
        taken: list[Lease] = []
        waiter = threading.Thread(target=lambda: taken.append(take_lease(databases, PATIENCE)))
        begun = time.process_time()
        waiter.start()
        eventually(lambda: all(queue(each) for each in sandboxes))
        assert time.process_time() - begun < 1
        two.release()
        waiter.join()
    with taken[0] as lease:
        assert lease.database == two.database
        # Whoever waited elsewhere waits there no longer.
        for each in sandboxes:
            eventually(lambda each=each: not queue(each))  # type: ignore[misc]
            if each.sandbox != lease.database:
                take_lease([each.sandbox], BRIEF).release()


def test_a_free_one_is_had_without_waiting(sandbox: Side) -> None:
    take_lease([sandbox.sandbox], timedelta(0)).release()


def test_one_that_cannot_be_reached_leaves_the_others_free(server: Server) -> None:
    sandbox = make_sandbox(server)
    gone = SandboxDatabase(server.dsn("gone", sandbox.login), "sandboxes.dsn", sandbox.role)

    with pytest.raises(PostgresError, match=r"cannot connect to 'gone'"):
        take_lease([sandbox.sandbox, gone], BRIEF)

    eventually(lambda: not queue(sandbox))
    take_lease([sandbox.sandbox], BRIEF).release()


def test_nobodys_timeouts_end_a_waiting_or_an_idle_lease(sandbox: Side) -> None:
    settings = ("statement_timeout", "lock_timeout", "idle_session_timeout")
    sandbox.administrate(*(f'ALTER ROLE "{sandbox.login}" SET {name} = 200' for name in settings))

    with leased(sandbox) as one, sandbox.sandbox.connect() as without_protection:
        taken: list[Lease] = []
        waiter = threading.Thread(target=lambda: taken.append(take_lease([sandbox.sandbox], PATIENCE)))
        waiter.start()
        eventually(lambda: queue(sandbox))
        pid = without_protection.info.backend_pid
        eventually(lambda: not sandbox.values(f"SELECT pid FROM pg_stat_activity WHERE pid = {pid}"))
        without_protection.close()
        assert queue(sandbox)
        one.check()
    waiter.join()
    taken[0].release()


def test_a_waiter_whose_session_is_ended_says_so(sandbox: Side) -> None:
    caught: list[LeaseError] = []

    def wait() -> None:
        try:
            take_lease([sandbox.sandbox], PATIENCE)
        except LeaseError as error:
            caught.append(error)

    with leased(sandbox):
        waiter = threading.Thread(target=wait)
        waiter.start()
        eventually(lambda: queue(sandbox))
        sandbox.administrate(f"SELECT pg_terminate_backend({queue(sandbox)[0]})")
        waiter.join()

    assert "waiting for" in str(caught[0])
    assert "was cut off" in str(caught[0])


def test_a_lost_lease_is_noticed(sandbox: Side) -> None:
    with leased(sandbox) as lease:
        lease.check()
        sandbox.administrate(f"SELECT pg_terminate_backend({lease.connection.info.backend_pid}, 5000)")
        with pytest.raises(LeaseError, match=r"the hold on '.*' at .* was lost: .*terminating connection"):
            lease.check()


def test_what_an_earlier_lease_left_running_is_ended_first_and_nothing_else(sandbox: Side) -> None:
    database = sandbox.sandbox
    orphan = database.connect("erp-sandbox lease 0123456789ab")
    orphan.pgconn.send_query(b"SELECT pg_sleep(100)")
    running = f"SELECT pid FROM pg_stat_activity WHERE pid = {orphan.info.backend_pid}"
    with (
        database.connect("erp-sandbox") as looker,
        database.connect("erp-sandbox waiting") as waiter,
        database.connect("erp-sandbox leased to somebody") as named_alike,
        database.connect("shop") as application,
        make_sandbox(sandbox.server).sandbox.connect("erp-sandbox lease 0123456789ab") as elsewhere,
    ):
        assert sandbox.values(running)
        with leased(sandbox):
            assert not sandbox.values(running)
        for untouched in (looker, waiter, named_alike, application, elsewhere):
            assert untouched.execute("SELECT 1").fetchone() == (1,)
    orphan.close()


RESTORING = """
    import pathlib
    from pytest_erp_sandbox.postgres.adoption import require_mark
    from pytest_erp_sandbox.postgres.archive import read_archive
    from pytest_erp_sandbox.postgres.clients import installed_toolsets
    from pytest_erp_sandbox.postgres.restore import restore
    from pytest_erp_sandbox.postgres.wipe import wipe
    toolsets = [each for each in installed_toolsets() if each.major == {major}]
    wipe(lease, lock_timeout=timedelta(seconds=9))
    archive = read_archive(pathlib.Path({archive!r}), toolsets)
    restore(lease, archive, toolsets[0], jobs=2, leave_out=[], on_progress=print)
"""


def test_a_killed_runs_pg_restore_is_ended_before_the_next_begins(
    sandbox: Side, tmp_path_factory: pytest.TempPathFactory
) -> None:
    major = sandbox.server.version
    archive = dump(make_prod(sandbox.server, *SLOW_TO_RESTORE), tmp_path_factory.mktemp("dump"), toolset(major))
    work = RESTORING.format(major=major, archive=str(archive.path))
    with holder(sandbox, work) as other:
        eventually(lambda: sandbox.values(SLOW_SESSIONS))
        orphans = sandbox.values(SLOW_SESSIONS)
        os.kill(other.process.pid, signal.SIGKILL)
        other.process.wait()
        assert sandbox.values(SLOW_SESSIONS) == orphans

        with leased(sandbox) as lease:
            assert sandbox.values(SLOW_SESSIONS) == []
            assert lease.end_earlier_sessions() == 0


def of_an_earlier_lease(sandbox: Side) -> psycopg.Connection[tuple[object, ...]]:
    """Another login's session, which the sandbox's may not end."""
    session = connect(sandbox.server.dsn(sandbox.name))
    session.execute("SET application_name = 'erp-sandbox lease 0123456789ab'")
    return session


def test_another_logins_session_is_awaited_and_then_named(sandbox: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with dynamic logins, which are new ones for each run."""
    monkeypatch.setattr("pytest_erp_sandbox.postgres.lease._PATIENCE", timedelta(seconds=1))

    with of_an_earlier_lease(sandbox) as session:
        pid = session.info.backend_pid
        with pytest.raises(
            LeaseError, match=rf"an earlier run still works in .*: pid {pid}, login postgres, erp-sandbox lease"
        ):
            take_lease([sandbox.sandbox], PATIENCE)
        assert session.execute("SELECT 1").fetchone() == (1,)

    monkeypatch.setattr("pytest_erp_sandbox.postgres.lease._PATIENCE", timedelta(seconds=30))
    session = of_an_earlier_lease(sandbox)
    closing = threading.Timer(0.4, session.close)
    closing.start()
    with leased(sandbox):
        assert session.closed
    closing.join()


def test_a_lease_in_the_middle_of_a_transaction_is_not_parked(sandbox: Side) -> None:
    lease = take_lease([sandbox.sandbox], PATIENCE)
    lease.connection.execute("BEGIN")
    assert not lease.park()
    assert lease.connection.closed
    with leased(sandbox):
        pass


def role_of(session: SandboxConnection) -> tuple[object, ...] | None:
    return session.execute("SELECT current_setting('session_replication_role')").fetchone()


def name_of(session: SandboxConnection) -> tuple[object, ...] | None:
    """As others see it."""
    asked = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    return session.execute(asked).fetchone()


class TestTheSessionThatRewinds:
    @pytest.fixture
    def granted(self, sandbox: Side) -> Iterator[Side]:
        with may_be_a_replica(sandbox.server.dsn(), sandbox.login):
            yield sandbox

    def test_is_one_of_its_own_of_the_leases_name(self, sandbox: Side) -> None:
        with leased(sandbox) as lease:
            session = lease.undoer
            assert session is not lease.connection
            assert role_of(session) == ("origin",)
            assert name_of(session) == (lease.application_name,)
            assert lease.undoer is session
        assert session.closed

    def test_is_a_replica_where_that_was_granted(self, granted: Side) -> None:
        with leased(granted) as lease:
            assert role_of(lease.undoer) == ("replica",)
            assert role_of(lease.connection) == ("origin",)

    def test_is_another_one_once_its_plans_are_forgotten(self, sandbox: Side) -> None:
        with leased(sandbox) as lease:
            sessions = [lease.undoer, lease.reader]
            lease.forget_plans()
            assert all(session.closed for session in sessions)
            assert not {lease.undoer, lease.reader} & {*sessions, lease.connection}

    def test_is_kept_while_the_lease_is_parked(self, granted: Side) -> None:
        parked = take_lease([granted.sandbox], PATIENCE)
        session = parked.undoer
        assert parked.park()
        assert name_of(session) == ("erp-sandbox",)
        lease = retake(parked)
        assert lease is not None
        with lease:
            assert lease.undoer is session
            assert name_of(session) == (lease.application_name,)

    def test_is_opened_anew_where_it_was_lost(self, granted: Side) -> None:
        lost: list[int] = []

        def lose(lease: Lease) -> None:
            lost.append(lease.undoer.info.backend_pid)
            granted.administrate(f"SELECT pg_terminate_backend({lost[-1]}, 5000)")

        with leased(granted) as lease:
            lose(lease)
            assert role_of(lease.undoer) == ("replica",)
            lose(lease)
            assert lease.park()
        parked = take_lease([granted.sandbox], PATIENCE)
        lose(parked)
        again = retake(parked) if parked.park() else None
        assert again is not None
        with again:
            assert role_of(again.undoer) == ("replica",)

    def test_in_the_middle_of_a_transaction_is_not_kept(self, granted: Side) -> None:
        parked = take_lease([granted.sandbox], PATIENCE)
        session = parked.undoer
        session.execute("BEGIN")
        assert parked.park()
        lease = retake(parked)
        assert lease is not None
        with lease:
            assert session.closed
            assert role_of(lease.undoer) == ("replica",)

    def test_that_comes_too_late_is_not_used(self, granted: Side, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = take_lease([granted.sandbox], PATIENCE)
        _ = mine.reader
        connect_as_ever, sessions = SandboxDatabase.connect, list[SandboxConnection]()

        def connect_late(database: SandboxDatabase, name: str = "", options: str = "") -> SandboxConnection:
            if not sessions and name == mine.application_name:
                granted.administrate(f"SELECT pg_terminate_backend({mine.connection.info.backend_pid}, 5000)")
                take_lease([granted.sandbox], PATIENCE).release()
            sessions.append(connect_as_ever(database, name, options))
            return sessions[-1]

        monkeypatch.setattr(SandboxDatabase, "connect", connect_late)
        with pytest.raises(LeaseError, match=r"the hold on .* was lost"):
            _ = mine.undoer
        assert all(session.closed for session in sessions)

    @pytest.mark.parametrize("limit", [1, 2])
    def test_is_the_leases_own_where_the_server_has_no_room_for_another(self, sandbox: Side, limit: int) -> None:
        sandbox.administrate(f'ALTER ROLE "{sandbox.login}" CONNECTION LIMIT {limit}')
        with leased(sandbox) as lease:
            assert lease.undoer is lease.connection
            if limit == 2:  # the one that a rewind cannot do without
                assert lease.reader is not lease.connection

    def test_keeps_its_statements_when_it_is_rolled_back(self, sandbox: Side) -> None:
        with leased(sandbox) as lease:
            session = lease.undoer
            session.execute("PREPARE undoing AS SELECT 1")
            for _ in range(10):
                session.execute("SELECT 2")
            session.execute("BEGIN")
            session.execute("ROLLBACK")
            for _ in range(10):
                session.execute("SELECT 2")
            session.execute("EXECUTE undoing")

    def test_is_the_leases_own_where_the_parameter_cannot_be_set_after_all(
        self, granted: Side, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where a dynamic login's next name was not granted it."""

        def refuse(_session: SandboxConnection, settings: dict[str, str]) -> None:
            if "session_replication_role" in settings:
                raise psycopg.errors.InsufficientPrivilege

        with leased(granted) as lease:
            monkeypatch.setattr("pytest_erp_sandbox.postgres.lease._configure", refuse)
            assert lease.undoer is lease.connection

    def test_of_a_killed_holder_is_ended_by_the_next_one(self, granted: Side) -> None:
        work = 'lease.undoer.execute("CREATE TABLE left_behind AS SELECT FROM pg_sleep(600)")'
        at_work = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE TABLE left%'"
        )
        with holder(granted, work) as other:
            other.hear()
            eventually(lambda: granted.values(at_work))
            other.process.kill()
            with leased(granted):
                assert not granted.values(at_work)


def test_a_parked_lease_that_cannot_be_retaken_leaves_the_sandbox_to_others(
    sandbox: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_erp_sandbox.postgres.lease._PATIENCE", timedelta(0))
    parked = take_lease([sandbox.sandbox], PATIENCE)
    assert parked.park()

    with of_an_earlier_lease(sandbox), pytest.raises(LeaseError, match="an earlier run still works in"):
        retake(parked)

    assert parked.connection.closed
    take_lease([sandbox.sandbox], BRIEF).release()
