"""Leasing a sandbox: a session advisory lock, held on a connection to its database.

It works between processes and between machines, and ends with its holder. The holder's child programs may outlive it,
so every session of a lease carries the lease's id in its application_name, and whoever takes the next lease first ends
the sessions of all earlier ones.
"""

from __future__ import annotations

import secrets
import selectors
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.types.json import Jsonb

from ..errors import ErpSandboxError, LeaseError
from ._sql import query
from .connection import APPLICATION_NAME, SandboxConnection, SandboxDatabase, as_owner

__all__ = ["Lease", "holders", "retake", "take_lease"]

_KEY = int.from_bytes(b"erp-sand", "big")
"""The advisory lock's key; advisory locks are a database's own."""

_LEASED = f"{APPLICATION_NAME} lease"
_WAITING = f"{APPLICATION_NAME} waiting"

_LASTING = {
    # What a login or a database may have set would end a session that waits, or that is idle during a scenario.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # Seconds after which the server asks whether we are still there, so that a lost machine's lease ends; and so that
    # nothing in between forgets the idle connection.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "15",
    "tcp_keepalives_count": "4",
}

_PATIENCE = timedelta(seconds=30)
"""How long the sessions of an earlier lease have for ending."""

_SOON = 0.5
"""Seconds of waiting from which on people are told of it."""


class Lease:
    """The hold on one sandbox; released by ``release``, by leaving it as a context, or by this process's end.

    Attributes:
        id: tells it apart from all others, in names and in messages.
        database: the sandbox's database.
        connection: the session that holds the lock; a restore's destructive statements run on it.
        application_name: what every session of this lease is called, those of child programs too.
    """

    def __init__(
        self,
        database: SandboxDatabase,
        connection: SandboxConnection,
        reader: SandboxConnection | None = None,
        undoer: SandboxConnection | None = None,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.database = database
        self.connection = connection
        self._reader = reader
        self._undoer = undoer
        self.application_name = f"{_LEASED} {self.id}"
        connection.execute("SELECT set_config('application_name', %s, false)", [self.application_name])
        self._rename_undoer(self.application_name)
        self.end_earlier_sessions()

    @property
    def reader(self) -> SandboxConnection:
        """Another session, as the sandbox's owner, that only looks, while ``undoer`` works; opened at first use.

        It does not have the lease's name: it writes nothing, however late.

        Raises:
            PostgresError: the server refuses it.
        """
        if self._reader is None or not _answers(self._reader):
            session = self.database.connect()
            _configure(session, {**_LASTING, "role": self.database.role, "default_transaction_read_only": "on"})
            self._reader = session
        return self._reader

    @property
    def undoer(self) -> SandboxConnection:
        """The session that rewinds, opened at first use; the same one until ``forget_plans``.

        Where the login was granted ``SET ON PARAMETER session_replication_role``, it is a replica: for those neither
        triggers nor foreign keys act, which a rewind has no need of, and all else has. Where there is no room for one
        more session, it is ``connection``.

        Raises:
            LeaseError: the hold was lost.
        """
        if self._undoer is None or (self._undoer is not self.connection and not _answers(self._undoer)):
            self._undoer = self._session_to_rewind_in() or self.connection
        return self._undoer

    def _session_to_rewind_in(self) -> SandboxConnection | None:
        """One of its own; None where it cannot be had, or not be a replica after all."""
        settings = dict(_LASTING)
        asked = "SELECT has_parameter_privilege('session_replication_role', 'SET')"
        if self.connection.execute(asked).fetchone() == (True,):
            settings["session_replication_role"] = "replica"
        with ExitStack() as stack:
            try:
                # First, as a rewind cannot do without it.
                _ = self.reader
                session = stack.enter_context(closing(self.database.connect(self.application_name)))
                _configure(session, settings)
            except (ErpSandboxError, psycopg.Error):
                return None
            # With statements of its own, psycopg would at a ROLLBACK deallocate all: those that undo, too.
            session.prepare_threshold = None
            # Whoever takes the lease from here on finds it, and ends it.
            self.check()
            stack.pop_all()
            return session

    def forget_plans(self) -> None:
        """Close the sessions that rewind: until then the server keeps their plans, for a journal that is no more."""
        for session in (self._reader, self._undoer):
            if session is not None and session is not self.connection:
                session.close()
        self._reader = self._undoer = None

    @contextmanager
    def at_work(self, options: str = "") -> Iterator[SandboxConnection]:
        """Another session, as the sandbox's owner, in one transaction; the next lease ends what is left of it.

        Args:
            options: settings of the session, ``-c name=value …``.

        Raises:
            PostgresError: the server refuses it.
        """
        database = self.database
        with database.connect(self.application_name, options) as session:
            _configure(session, _LASTING)
            with as_owner(session, database.role):
                yield session

    def check(self) -> None:
        """Ask the server, on the lease's own connection, that it is still held.

        Raises:
            LeaseError: it is not; somebody else may be at work in the sandbox.
        """
        try:
            pids = {pid for pid, _ in _holders(self.connection)}
        except psycopg.OperationalError as error:
            raise LeaseError(
                f"the hold on {self.database} was lost: {' '.join(str(error).split())}",
                hint="The server ended the session; run again. Look into its log if it happens again.",
            ) from None
        if self.connection.info.backend_pid not in pids:
            raise LeaseError(f"the hold on {self.database} was lost: the session has no lock", hint="Run again.")

    def end_earlier_sessions(self) -> int:
        """End what a killed holder's programs left running here, and await its end.

        Returns:
            How many sessions there were.

        Raises:
            LeaseError: a session would not end, or belongs to another login, which may not be ended from here.
        """
        deadline = time.monotonic() + _PATIENCE.total_seconds()
        ended = set()
        while sessions := self._earlier_sessions():
            for pid, login, name in sessions:
                if time.monotonic() > deadline:
                    raise LeaseError(
                        f"an earlier run still works in {self.database}: pid {pid}, login {login}, {name}",
                        hint=f"End it: SELECT pg_terminate_backend({pid}), as {login} or a superuser.",
                    )
                ended.add(pid)
                try:
                    # Waits, in the server, for the session's end; at most these milliseconds.
                    self.connection.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
                except psycopg.errors.InsufficientPrivilege:
                    # Another login's (a dynamic one): its end can only be awaited.
                    self.connection.execute("SELECT pg_sleep(0.1)")
        return len(ended)

    def _earlier_sessions(self) -> list[tuple[int, str, str]]:
        return self.connection.execute(
            "SELECT pid, usename, application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND starts_with(application_name, %s) AND application_name <> %s"
            " AND pid <> pg_backend_pid()",
            [f"{_LEASED} ", self.application_name],
        ).fetchall()

    def park(self) -> bool:
        """Let the next one have the sandbox, and keep the sessions for ``retake``: a rewind's plans are in them.

        Returns:
            Whether there are sessions to keep.
        """
        try:
            if self.connection.info.transaction_status is pq.TransactionStatus.IDLE:
                self._rename_undoer(APPLICATION_NAME)
                self.connection.execute(
                    "SELECT set_config('application_name', %s, false), pg_advisory_unlock(%s)", [APPLICATION_NAME, _KEY]
                )
                return True
        except psycopg.Error:
            pass
        # It was lost, or is in the middle of a transaction, whose locks nobody should have to wait for.
        self.release()
        return False

    def release(self) -> None:
        """Let the next one have the sandbox; harmless when the connection is already gone."""
        self.forget_plans()
        self.connection.close()

    def _rename_undoer(self, name: str) -> None:
        """It writes, so it is called what the lease is; one that was lost, or has not ended, is let go."""
        session = self._undoer
        if session is None or session is self.connection:
            return
        with suppress(psycopg.Error):
            if session.info.transaction_status is pq.TransactionStatus.IDLE:
                session.execute("SELECT set_config('application_name', %s, false)", [name])
                return
        session.close()
        self._undoer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holders(connection: SandboxConnection) -> list[str]:
    """Who holds the lease on the connected database, in words; empty when it is free."""
    return [text for _, text in _holders(connection)]


def _holders(connection: SandboxConnection) -> list[tuple[int, str]]:
    return connection.execute(query(__package__, "lease_holders.sql"), {"key": _KEY}).fetchall()


def retake(parked: Lease) -> Lease | None:
    """A new lease on a parked one's sessions; None, and they are closed, where others have or want the sandbox.

    Raises:
        LeaseError: a session of an earlier lease would not end; the parked ones are closed.
    """
    with ExitStack() as stack:
        stack.callback(parked.release)
        with suppress(psycopg.Error):
            if parked.connection.execute("SELECT pg_try_advisory_lock(%s)", [_KEY]).fetchone() == (True,):
                lease = Lease(parked.database, parked.connection, parked._reader, parked._undoer)
                stack.pop_all()  # it is the new lease's to release
                return lease
    return None


def take_lease(
    databases: Sequence[SandboxDatabase],
    timeout: timedelta,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Lease:
    """Lease the first of ``databases`` that is free; wait, in the servers' own queues, until one is.

    Args:
        databases: the sandboxes, any of which will do.
        timeout: how long to wait.
        on_wait: is told once who has them, when there is a wait.

    Raises:
        LeaseError: none became free; the message says who holds each.
        PostgresError: one of them cannot be reached.
    """
    with ExitStack() as stack:
        waiting: dict[SandboxDatabase, SandboxConnection] = {}
        for database in databases:
            waiting[database] = connection = database.connect(_WAITING)
            stack.callback(_give_up, connection)
            _configure(connection, _LASTING)
        won = _first_lock(waiting, timeout, on_wait)
        lease = Lease(won, waiting.pop(won))
        # The others are given up, the winner is not.
        stack.pop_all()
        for connection in waiting.values():
            _give_up(connection)
        return lease


def _first_lock(
    waiting: Mapping[SandboxDatabase, SandboxConnection], timeout: timedelta, on_wait: Callable[[str], None]
) -> SandboxDatabase:
    with selectors.DefaultSelector() as selector:
        for database, connection in waiting.items():
            connection.pgconn.send_query(f"SELECT pg_advisory_lock({_KEY})".encode())
            selector.register(connection.fileno(), selectors.EVENT_READ, database)
        # A free one is to be had even without waiting.
        deadline = time.monotonic() + max(timeout.total_seconds(), _SOON)
        is_told = False
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left if is_told else min(left, _SOON)):
                if _is_locked(key.data, waiting[key.data].pgconn):
                    return key.data  # type: ignore[no-any-return]
            if not is_told:
                is_told = True
                on_wait(_in_use(waiting))
    raise LeaseError(
        f"no sandbox became free within {timeout}:\n{_in_use(waiting)}",
        hint="Wait for the other run, end it, or raise lease-timeout.",
    )


def _is_locked(database: SandboxDatabase, pgconn: pq.abc.PGconn) -> bool:
    """Whether the server has answered that the lock is ours."""
    reason = ""
    try:
        pgconn.consume_input()
        if pgconn.is_busy():
            return False
        while (result := pgconn.get_result()) is not None:
            if result.status != pq.ExecStatus.TUPLES_OK:
                reason = result.error_message.decode(errors="replace")
    except psycopg.OperationalError as error:
        reason = str(error)
    if reason:
        raise LeaseError(f"waiting for {database} was cut off: {' '.join(reason.split())}", hint="Run again.")
    return True


def _in_use(waiting: Mapping[SandboxDatabase, SandboxConnection]) -> str:
    """Who has each sandbox, asked on connections of its own: the others are waiting."""
    lines = []
    for database in waiting:
        with database.connect() as connection:
            lines += [f"  {database} is in use: {who}" for who in holders(connection)]
    return "\n".join(lines)


def _answers(connection: SandboxConnection) -> bool:
    """Whether it is still there. Asked only if something has come in, as its end would: that spares a round trip."""
    if connection.info.transaction_status is not pq.TransactionStatus.IDLE:
        return False
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            if selector.select(0):
                connection.execute("")
    except psycopg.Error:
        return False
    return True


def _configure(connection: SandboxConnection, settings: Mapping[str, str]) -> None:
    if connection.info.server_version >= 170000:
        settings = {**settings, "transaction_timeout": "0"}
    connection.execute("SELECT set_config(key, value, false) FROM jsonb_each_text(%s)", [Jsonb(dict(settings))])


def _give_up(connection: psycopg.Connection[Any]) -> None:
    # A session that waits for a lock does not see that its client went away: it must be told.
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=5)
    connection.close()
