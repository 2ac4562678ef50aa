"""Admission to a wiped sandbox: only the programs of the lease that wiped it last can connect, however late they come.

A program that had not connected yet when its run was killed is in no list of sessions, and could write into the next
run's sandbox. So each program of a restore, and that of golden.prepare, must show a pass: it asks for a
``default_text_search_config`` that is named after its lease, and the server refuses a session whose configuration does
not exist. Of all that a session can ask for at its start, this is what a role without privileges can make; a wipe takes
it, like everything of the role's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from .connection import as_owner
from .lease import Lease

__all__ = ["admitted"]


@contextmanager
def admitted(lease: Lease) -> Iterator[str]:
    """Let programs of ``lease`` into the sandbox that it has wiped, and nobody of an earlier lease.

    Yields:
        The session option that is their pass (``-c name=value``); without it they could come too late one day.

    Raises:
        LeaseError: a session of an earlier lease will not end.
    """
    name = f"erp_sandbox_{lease.id}"
    pass_ = sql.Identifier("public", name)
    with as_owner(lease.connection, lease.database.role):
        copy = sql.SQL("CREATE TEXT SEARCH CONFIGURATION {} (COPY = pg_catalog.{})")
        lease.connection.execute(copy.format(pass_, sql.Identifier(_default(lease))))
    # The wipe took the earlier passes: whoever came in with one is here by now, and nobody follows.
    lease.end_earlier_sessions()
    yield f"-c default_text_search_config=public.{name}"
    # Not after an error: the next wipe takes it.
    with as_owner(lease.connection, lease.database.role):
        lease.connection.execute(sql.SQL("DROP TEXT SEARCH CONFIGURATION {}").format(pass_))


def _default(lease: Lease) -> str:
    """The built-in configuration that sessions have here: a materialized view may be filled by it."""
    row = lease.connection.execute(
        "SELECT cfgname FROM pg_ts_config WHERE cfgnamespace = 'pg_catalog'::regnamespace"
        " AND 'pg_catalog.' || cfgname = current_setting('default_text_search_config')"
    ).fetchone()
    return "simple" if row is None else str(row[0])
