"""How many locks a wipe takes, and how many the server has room for."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from ._sql import query

__all__ = ["USABLE_SHARE", "lock_slots", "locks_to_wipe"]

USABLE_SHARE = 0.8
"""The share of the server's lock slots that one wipe may fill; other sessions need some too."""

# The few that the transaction itself takes, on itself and on the catalogs that it is reading.
_OWN_LOCKS = 8


def lock_slots(connection: Connection[Any]) -> int:
    """How many locks the server has room for, of all sessions together.

    It may have a little more: what shared memory is left over. Nobody should count on that.
    """
    row = connection.execute(
        "SELECT current_setting('max_locks_per_transaction')::bigint"
        " * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)"
    ).fetchone()
    assert row is not None
    return int(row[0])


def locks_to_wipe(connection: Connection[Any], role: str) -> int:
    """How many locks ``DROP OWNED BY role CASCADE`` would hold in the connected database, a little rounded up.

    It locks every object that it drops, down to row types and columns' defaults, and has all of them at the commit.
    """
    row = connection.execute(
        query(__package__, "taken.sql") + query(__package__, "locks.sql"), {"role": role}
    ).fetchone()
    assert row is not None
    return int(row[0]) + _OWN_LOCKS
