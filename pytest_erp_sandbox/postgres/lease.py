"""Leasing a sandbox: a session advisory lock, held on a connection to its database.

It works between processes and between machines, and ends with its holder. The holder's child programs may outlive it,
so every session of a lease carries the lease's id in its application_name, and whoever takes the next lease first ends
the sessions of all earlier ones.
"""

from __future__ import annotations

import secrets
import selectors
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Self

import psycopg
from psycopg.pq import ExecStatus

from ..errors import LeaseError
from .connection import APPLICATION_NAME, SandboxConnection, SandboxDatabase

__all__ = ["Lease", "holders", "take_lease"]

_KEY = int.from_bytes(b"erp-sand", "big")
"""The advisory lock's key; advisory locks are a database's own."""

_LOCK = f"SELECT pg_advisory_lock({_KEY})".encode()

_HOLDERS = f"""
SELECT format('pid %s, login %s, %s, since %s', pid, usename, application_name, date_trunc('second', backend_start))
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = {_KEY} AND objsubid = 1 AND granted
"""  # noqa: S608 - a constant

_EARLIER = f"""
SELECT pid, usename, application_name FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE '{APPLICATION_NAME} lease %%' AND application_name <> %s
    AND pid <> pg_backend_pid()
"""  # noqa: S608 - a constant

_PATIENCE = timedelta(seconds=30)
"""How long the sessions of an earlier lease have for ending."""


class Lease:
    """The hold on one sandbox; released by ``release``, by leaving it as a context, or by this process's end.

    Attributes:
        database: the sandbox's database.
        connection: the session that holds the lock; destructive statements run on it.
    """

    def __init__(self, database: SandboxDatabase, connection: SandboxConnection) -> None:
        self.database = database
        self.connection = connection
        self.application_name = f"{APPLICATION_NAME} lease {secrets.token_hex(6)}"
        connection.execute("SELECT set_config('application_name', %s, false)", [self.application_name])
        self.end_earlier_sessions()

    def check(self) -> None:
        """Ask the server, on the lease's own connection, that it is still held.

        Raises:
            LeaseError: it is not; somebody else may be at work in the sandbox.
        """
        try:
            holder = self.connection.execute(f"{_HOLDERS} AND pid = pg_backend_pid()").fetchone()
        except psycopg.Error as error:
            raise LeaseError(
                f"the hold on {self.database} was lost: {str(error).strip()}",
                hint="The server ended the session; run again. Look into its log if it happens again.",
            ) from None
        if holder is None:
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
        while sessions := self.connection.execute(_EARLIER, [self.application_name]).fetchall():
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

    def release(self) -> None:
        """Let the next one have the sandbox; harmless when the connection is already gone."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holders(connection: SandboxConnection) -> list[str]:
    """Who holds the lease on the connected database, in words; empty when it is free."""
    return [text for (text,) in connection.execute(_HOLDERS).fetchall()]


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
    """
    waiting = {database: database.connect(f"{APPLICATION_NAME} waiting") for database in databases}
    try:
        won = _first_lock(waiting, timeout, on_wait)
        lease_connection = waiting.pop(won)
    finally:
        for connection in waiting.values():
            _give_up(connection)
    try:
        return Lease(won, lease_connection)
    except BaseException:
        lease_connection.close()
        raise


def _first_lock(
    waiting: dict[SandboxDatabase, SandboxConnection], timeout: timedelta, on_wait: Callable[[str], None]
) -> SandboxDatabase:
    with selectors.DefaultSelector() as selector:
        for database, connection in waiting.items():
            connection.pgconn.send_query(_LOCK)
            selector.register(connection.fileno(), selectors.EVENT_READ, database)
        deadline = time.monotonic() + timeout.total_seconds()
        told = False
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left if told else min(left, 0.5)):
                if _is_locked(waiting[key.data].pgconn):
                    return key.data  # type: ignore[no-any-return]
            if not told:
                on_wait(_in_use(waiting))
                told = True
    raise LeaseError(
        f"no sandbox became free within {timeout}:\n{_in_use(waiting)}",
        hint="Wait for the other run, end it, or raise lease-timeout.",
    )


def _is_locked(pgconn: psycopg.pq.abc.PGconn) -> bool:
    """Whether the server has answered that the lock is ours."""
    pgconn.consume_input()
    if pgconn.is_busy():
        return False
    locked = False
    while (result := pgconn.get_result()) is not None:
        if result.status != ExecStatus.TUPLES_OK:
            raise LeaseError(f"cannot lease the sandbox: {result.error_message.decode(errors='replace').strip()}")
        locked = True
    return locked


def _in_use(waiting: dict[SandboxDatabase, SandboxConnection]) -> str:
    """Who has each sandbox, asked on connections of its own: the others are waiting."""
    lines = []
    for database in waiting:
        connection = database.connect()
        with connection:
            lines += [f"  {database} is in use: {who}" for who in holders(connection)]
    return "\n".join(lines)


def _give_up(connection: psycopg.Connection[Any]) -> None:
    # A session that waits for a lock does not see that its client went away: it must be told.
    connection.cancel_safe(timeout=5)
    connection.close()
