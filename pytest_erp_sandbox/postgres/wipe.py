"""The one destructive statement: ``DROP OWNED BY <role> CASCADE`` in an adopted, leased sandbox."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import psycopg
from psycopg import sql

from ..errors import PostgresError
from .adoption import Mark, require_mark, write_mark
from .connection import SandboxConnection, as_owner, quoted_role
from .grants import default_privileges, record_grants
from .lease import Lease
from .locks import USABLE_SHARE, lock_slots, locks_to_wipe

__all__ = ["blockers", "wipe"]

_BATCH = 50
"""Tables dropped in one transaction where the server has too few lock slots for one DROP OWNED."""


def wipe(lease: Lease, *, lock_timeout: timedelta) -> None:
    """Remove everything that the sandbox's role owns from the leased database.

    In the same transaction the mark says that there is no baseline any more, and keeps the grants for ``give_grants``.
    Default privileges, and a schema ``public`` that was the role's own, are there again afterwards.

    Raises:
        NotASandboxError: the database is not adopted.
        LeaseError: the lease was lost.
        PostgresError: others hold locks for longer than ``lock_timeout``; they are named.
    """
    connection, role = lease.connection, lease.database.role
    try:
        if locks_to_wipe(connection, role) > USABLE_SHARE * lock_slots(connection):
            _wipe_in_batches(lease, lock_timeout)
        with as_owner(connection, role):
            mark = _permission(lease, lock_timeout)
            defaults = default_privileges(connection, role)
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
            _make_public_schema(connection)
            for statement in defaults:
                connection.execute(statement)
            write_mark(connection, mark)
    except psycopg.errors.LockNotAvailable:
        raise PostgresError(
            f"the sandbox {lease.database} cannot be wiped: others hold locks in it for longer than {lock_timeout}:\n"
            + "\n".join(f"  {blocker}" for blocker in blockers(connection)),
            hint="Commit or end their transactions, or raise sandbox.lock-timeout.",
        ) from None
    except psycopg.Error as error:
        raise PostgresError(f"the sandbox {lease.database} cannot be wiped: {str(error).strip()}") from None


def _permission(lease: Lease, lock_timeout: timedelta) -> Mark:
    """Check lease and adoption on the connection, and in the transaction, that wipes; the mark to write with it."""
    connection = lease.connection
    lease.check()
    mark = require_mark(connection)
    # client_min_messages: one warning for each column whose privileges others granted.
    connection.execute(
        "SELECT set_config('lock_timeout', %s, true), set_config('client_min_messages', 'error', true),"
        " set_config('synchronous_commit', 'off', true)",
        [f"{int(lock_timeout.total_seconds() * 1000)}ms"],
    )
    # A wipe that was cut off after its record has nothing left to record: the first record is the true one.
    grants = mark.grants or record_grants(connection, lease.database.role)
    return replace(mark, baseline=None, kept=None, grants=grants)


def _wipe_in_batches(lease: Lease, lock_timeout: timedelta) -> None:
    """Drop the role's tables some at a time, each time with the same checks as the whole."""
    connection, role = lease.connection, lease.database.role
    while True:
        with as_owner(connection, role):
            mark = _permission(lease, lock_timeout)
            tables = connection.execute(
                "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
                " WHERE relowner = %s::regrole AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1, 2 LIMIT %s",
                [quoted_role(role), _BATCH],
            ).fetchall()
            if not tables:
                return
            names = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
            connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(names))
            write_mark(connection, mark)


def _make_public_schema(connection: SandboxConnection) -> None:
    # Where the role owned it, it went along, and a dump may not bring it back.
    if connection.execute("SELECT to_regnamespace('public')").fetchone() == (None,):
        connection.execute("CREATE SCHEMA public")
        connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")


def blockers(connection: SandboxConnection) -> list[str]:
    """The other sessions that hold locks on tables of the connected database, in words."""
    rows = connection.execute(
        "SELECT pid, usename, application_name, state, date_trunc('second', now() - xact_start) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid IN ("
        "  SELECT pid FROM pg_locks WHERE granted AND locktype = 'relation'"
        "  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    ).fetchall()
    return [
        f"pid {pid}, login {login}, application {application or 'unnamed'}, {state or 'state hidden'},"
        f" transaction open for {age if age is not None else 'an unknown time'}"
        for pid, login, application, state, age in rows
    ]
