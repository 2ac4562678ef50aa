"""The one destructive statement: ``DROP OWNED BY <role> CASCADE`` in an adopted, leased sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import LiteralString

import psycopg
from psycopg import sql

from ..errors import PostgresError
from ._sql import query
from .adoption import Mark, require_mark, write_mark
from .blockers import blockers
from .connection import SandboxConnection, as_owner, milliseconds, quoted_role
from .grants import default_privileges, execute_all, record_grants
from .lease import Lease
from .locks import USABLE_SHARE, lock_slots, locks_to_wipe

__all__ = ["wipe"]

_SHARE_OF_A_BATCH = 0.5
"""How much of the usable lock slots a batch may fill on average: some objects have more parts than others."""

_KINDS: tuple[LiteralString, ...] = (
    "TABLE",
    "FOREIGN TABLE",
    "VIEW",
    "MATERIALIZED VIEW",
    "SEQUENCE",
    "ROUTINE",
    "TYPE",
)
"""What is dropped in batches, in this order: what depends on others mostly goes along with them."""

_SHOWN = 10


def wipe(lease: Lease, *, lock_timeout: timedelta) -> None:
    """Remove everything that the sandbox's role owns from the leased database.

    In the same transaction the mark says that there is no baseline any more, and keeps the grants for ``give_grants``.
    Default privileges, and a schema ``public`` that was the role's own, are there again afterwards.

    Raises:
        NotASandboxError: the database is not adopted.
        LeaseError: the lease was lost.
        PostgresError: others hold locks for longer than ``lock_timeout``; they are named. Or a login of the role's has
            objects of its own there, which no wipe would take.
    """
    connection, role = lease.connection, lease.database.role
    lease.check()
    require_mark(connection)
    # One may have come since the lease was taken, and its locks would be in the way.
    lease.end_earlier_sessions()
    _refuse_objects_of_logins(lease)
    try:
        _wipe_in_batches(lease, lock_timeout)
        with as_owner(connection, role):
            mark = _permission(lease, lock_timeout)
            defaults = default_privileges(connection, role)
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
            _make_public_schema(connection)
            execute_all(connection, defaults)
            write_mark(connection, mark)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        found = "\n".join(f"  {blocker}" for blocker in blockers(connection)) or "  (they are gone by now)"
        raise PostgresError(
            f"the sandbox {lease.database} cannot be wiped: others hold locks in it for longer than {lock_timeout}:\n"
            f"{found}",
            hint="Commit or end their transactions, or raise sandbox.lock-timeout.",
        ) from None
    except psycopg.errors.OutOfMemory as error:
        raise PostgresError(
            f"the sandbox {lease.database} cannot be wiped: {error.diag.message_primary}, although it goes in batches",
            hint="Something in it has more parts than the server has room for locks: raise max_locks_per_transaction"
            " (it takes effect with a restart).",
        ) from None
    except psycopg.Error as error:
        lease.check()
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
        [f"{milliseconds(lock_timeout)}ms"],
    )
    # A wipe that was cut off after its record has nothing left to record: the first record is the true one.
    grants = mark.grants if mark.grants is not None else record_grants(connection, lease.database.role)
    return replace(mark, baseline=None, kept=None, grants=grants)


def _make_public_schema(connection: SandboxConnection) -> None:
    # Where the role owned it, it went along, and a dump may not bring it back.
    if connection.execute("SELECT to_regnamespace('public')").fetchone() == (None,):
        connection.execute("CREATE SCHEMA public")


def _refuse_objects_of_logins(lease: Lease) -> None:
    """Stop where an application made things without acting as the role: they would outlive each wipe."""
    connection, role = lease.connection, quoted_role(lease.database.role)
    rows = connection.execute(query(__package__, "belonging_to_logins.sql"), {"role": role}).fetchall()
    if rows:
        logins = [quoted_role(login) for login, _ in rows]
        remedies = [f"ALTER ROLE {login} SET role = {_literal(lease.database.role)};" for login in logins]
        raise PostgresError(
            f"the sandbox {lease.database} was not wiped: not everything in it is {lease.database.role}'s\n"
            + "\n".join(f"  {login} owns {_few(objects)}" for login, objects in rows),
            hint=f"Let these logins act as the role, {' '.join(remedies)} and give it what they made, as a superuser:"
            f" REASSIGN OWNED BY {', '.join(logins)} TO {role};",
        )


def _literal(text: str) -> str:
    return sql.Literal(text).as_string()


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _wipe_in_batches(lease: Lease, lock_timeout: timedelta) -> None:
    """Drop what the role owns some at a time, each time with the same checks as the whole, until the rest has room."""
    connection, role = lease.connection, lease.database.role
    for kind in _KINDS:
        share = _share_of_slots(connection, role)
        if share <= 1:
            return
        objects = _droppable(connection, role, kind)
        # As large a part of each kind as would be a batch of all of them.
        batch = max(1, int(len(objects) * _SHARE_OF_A_BATCH / share))
        while objects:
            names = sql.SQL(", ").join(objects[:batch])
            try:
                with as_owner(connection, role):
                    mark = _permission(lease, lock_timeout)
                    # Some went along with others.
                    drop = sql.SQL("DROP {} IF EXISTS {} CASCADE")
                    connection.execute(drop.format(sql.SQL(kind), names))
                    write_mark(connection, mark)
            except psycopg.errors.OutOfMemory:
                # Others need lock slots, too; or these have many parts.
                if batch == 1:
                    raise
                batch //= 2
            else:
                del objects[:batch]


def _share_of_slots(connection: SandboxConnection, role: str) -> float:
    """How much of the usable lock slots a wipe at once would fill."""
    return locks_to_wipe(connection, role) / (USABLE_SHARE * lock_slots(connection))


def _droppable(connection: SandboxConnection, role: str, kind: str) -> list[sql.Composable]:
    """What of the role's is of that kind, as DROP names it."""
    rows = connection.execute(query(__package__, "droppable.sql"), {"role": quoted_role(role)}).fetchall()
    return [_name(schema, name, arguments) for of, schema, name, arguments in rows if of == kind]


def _name(schema: str, name: str, arguments: list[str] | None) -> sql.Composable:
    if arguments is None:
        return sql.Identifier(schema, name)
    types = [sql.Identifier(*type_) for type_ in zip(arguments[::2], arguments[1::2], strict=True)]
    return sql.SQL("{}({})").format(sql.Identifier(schema, name), sql.SQL(", ").join(types))
