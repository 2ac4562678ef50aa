"""What roles can reach through memberships, and what they may change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from ._sql import query

__all__ = ["ReachedRole", "definer_functions", "reachable_roles", "server_grants", "writable"]

_WRITING_ROLES = frozenset(
    {
        # PostgreSQL's own: they write everywhere, run programs, or take locks on everybody's tables.
        "pg_execute_server_program",
        "pg_maintain",
        "pg_write_all_data",
        "pg_write_server_files",
        # What hosting companies give their customers' administrators in place of SUPERUSER.
        "alloydbsuperuser",
        "azure_pg_admin",
        "cloudsqlsuperuser",
        "neon_superuser",
        "rds_superuser",
    }
)
_SPYING_ROLES = frozenset({"pg_read_server_files"})
"""Reads every database's files, and the server's passwords, past all privileges."""

_HARMLESS_ROLES = frozenset(
    {"pg_database_owner", "pg_monitor", "pg_read_all_settings", "pg_read_all_stats", "pg_stat_scan_tables"}
)

_TABLE_PRIVILEGES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
"""What changes rows, or what happens to those who change them: a trigger runs with the rights of whoever fires it."""


@dataclass(frozen=True)
class ReachedRole:
    """A role that a login is, or can become, or whose rights it can use.

    Attributes:
        oid: within its server.
        name: unquoted.
        way: the memberships that lead to it, from the role that was asked about; that one alone if it is it.
        attributes: those of SUPERUSER, CREATEDB, CREATEROLE, REPLICATION, BYPASSRLS that it has.
    """

    oid: int
    name: str
    way: tuple[str, ...]
    attributes: tuple[str, ...]

    def __str__(self) -> str:
        return self.name if len(self.way) == 1 else f"{self.name} (by {' → '.join(self.way)})"

    @property
    def writes_anywhere(self) -> bool:
        """Whether this is a role that may write, or lock, whatever there is on the server."""
        return self.name in _WRITING_ROLES

    @property
    def is_dangerous(self) -> bool:
        """Whether this is a role that no sandbox should have."""
        return self.writes_anywhere or self.name in _SPYING_ROLES

    @property
    def is_questionable(self) -> bool:
        """Whether this is a predefined role that reaches beyond its own database, such as ``pg_signal_backend``."""
        return self.name.startswith("pg_") and not self.is_dangerous and self.name not in _HARMLESS_ROLES


def reachable_roles(connection: Connection[Any], *names: str) -> list[ReachedRole]:
    """The roles ``names`` and all that they are members of, directly or not, nearest first.

    A membership counts whatever its options (INHERIT, SET, ADMIN): each is a way to use the role.
    """
    rows = connection.execute(query(__package__, "reachable_roles.sql"), {"names": list(names)}).fetchall()
    nearest: dict[int, ReachedRole] = {}
    for oid, name, way, attributes in rows:
        nearest.setdefault(oid, ReachedRole(oid, name, tuple(way), tuple(attributes)))
    return list(nearest.values())


def writable(connection: Connection[Any], roles: Sequence[ReachedRole]) -> list[str]:
    """What of the connected database any of ``roles`` owns or may change, now or by default privileges, in words.

    The roles may be those of a login to another database of the same server.
    """
    privileges = [*_TABLE_PRIVILEGES, *(["MAINTAIN"] if connection.info.server_version >= 170000 else [])]
    rows = connection.execute(
        query(__package__, "writable.sql"),
        {"roles": [role.oid for role in roles], "table_privileges": privileges},
    )
    found: dict[str, dict[str, list[str]]] = {}
    for name, holder, privilege in rows:
        found.setdefault(name, {}).setdefault(holder, []).append(privilege)
    ways = {role.name: str(role) for role in roles}
    return sorted(f"{name}: {_in_words(holders, ways)}" for name, holders in found.items())


def _in_words(holders: Mapping[str, Sequence[str]], ways: Mapping[str, str]) -> str:
    owner = next((holder for holder, privileges in holders.items() if "ownership" in privileges), None)
    if owner is not None:
        return f"owned by {ways[owner]}"
    holder, privileges = next(iter(holders.items()))
    return f"{', '.join(privileges)} of {ways.get(holder, holder)}"


def definer_functions(connection: Connection[Any], roles: Iterable[ReachedRole]) -> list[str]:
    """The functions of others in the connected database that any of ``roles`` may run with their owners' rights.

    Only those that may write: a function that is not VOLATILE cannot.
    """
    rows = connection.execute(query(__package__, "definer_functions.sql"), {"roles": [role.oid for role in roles]})
    return [f"{function} (of {owner})" for function, owner in rows]


def server_grants(connection: Connection[Any], roles: Iterable[ReachedRole]) -> tuple[list[str], list[str]]:
    """What any of ``roles`` was granted over the whole server: parameters to ALTER SYSTEM, and system functions."""
    rows = connection.execute(query(__package__, "server_grants.sql"), {"roles": [role.oid for role in roles]})
    granted: dict[str, list[str]] = {"ALTER SYSTEM": [], "EXECUTE": []}
    for privilege, words in rows:
        granted[privilege].append(words)
    return granted["ALTER SYSTEM"], granted["EXECUTE"]
