"""What is left to be done: room of rows that are gone, statistics of large tables, sessions whose types are gone."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from .connection import APPLICATION_NAME, SandboxConnection, quoted_role
from .journal import Piece

__all__ = ["analyze_large_tables", "end_idle_sessions", "vacuum", "vacuum_catalogue"]

_WIPED = [
    "pg_catalog.pg_attrdef",
    "pg_catalog.pg_attribute",
    "pg_catalog.pg_class",
    "pg_catalog.pg_constraint",
    "pg_catalog.pg_depend",
    "pg_catalog.pg_description",
    "pg_catalog.pg_index",
    "pg_catalog.pg_proc",
    "pg_catalog.pg_rewrite",
    "pg_catalog.pg_sequence",
    "pg_catalog.pg_statistic",
    "pg_catalog.pg_trigger",
    "pg_catalog.pg_type",
]
"""Where a wipe leaves most of its dead rows."""

_LARGE = 8 * 1024 * 1024
"""Bytes from which on plans suffer more without statistics than ANALYZE takes; autovacuum sees to the rest."""


def vacuum(connection: SandboxConnection, role: str, tables: Sequence[str]) -> None:
    """VACUUM these tables, named as the server names them, as the owner; outside of transactions.

    Whoever has a lock on one needs it more. To shorten its file, VACUUM would wait for that lock, five seconds each.
    """
    rows = connection.execute(
        "SELECT name, EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND pid <> pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND relation IN (SELECT name::regclass UNION SELECT relid FROM pg_partition_tree(name::regclass)))"
        " FROM unnest(%s::text[]) AS name",
        [tables],
    ).fetchall()
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    try:
        for is_in_use in (False, True):
            names = [Piece(name) for name, in_use in rows if in_use is is_in_use]
            if names:
                options = sql.SQL("SKIP_LOCKED, TRUNCATE {}").format(not is_in_use)
                connection.execute(sql.SQL("VACUUM ({}) {}").format(options, sql.SQL(", ").join(names)))
    finally:
        connection.execute("SET ROLE NONE")


def vacuum_catalogue(connection: SandboxConnection, role: str) -> None:
    """Take a wipe's dead rows out of the catalogue; outside of transactions.

    Otherwise what is restored comes behind them, and each rewind, which looks through the catalogue, reads all of it.
    """
    vacuum(connection, role, _WIPED)


def analyze_large_tables(connection: SandboxConnection, role: str) -> None:
    """ANALYZE the role's tables of 8 MB and more: restored ones have no statistics. As the owner, in a transaction."""
    tables = connection.execute(
        "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE relkind IN ('r', 'm') AND relowner = to_regrole(%s) AND pg_relation_size(pg_class.oid) >= %s",
        [quoted_role(role), _LARGE],
    ).fetchall()
    if tables:
        # A tenth of the usual sample: plans become as good, in a tenth of the time; autovacuum refines it later.
        connection.execute("SET LOCAL default_statistics_target = 10")
        connection.execute(sql.SQL("ANALYZE {}").format(sql.SQL(", ").join(sql.Identifier(*table) for table in tables)))


def end_idle_sessions(connection: SandboxConnection) -> list[str]:
    """End the idle sessions of our own login; they would fail with ``cache lookup failed for type``.

    Sessions of this plugin's, other workers' among them, are not looked at.

    Returns:
        The sessions that are left, in words: other logins', which are not ours to end, and those that are at work.
    """
    rows = connection.execute(
        "SELECT pid, usename, application_name, usename = session_user AND state = 'idle' FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL"
        # Of another login's session, the kind is hidden.
        " AND coalesce(backend_type, 'client backend') = 'client backend'"
        " AND application_name <> %s AND NOT starts_with(application_name, %s) ORDER BY pid",
        [APPLICATION_NAME, f"{APPLICATION_NAME} "],
    ).fetchall()
    left = []
    for pid, login, application, is_idle_and_ours in rows:
        if is_idle_and_ours:
            # Waits for its end, at most these milliseconds.
            connection.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
        else:
            left.append(f"pid {pid}, login {login}, application {application or 'unnamed'}")
    return left
