"""Dolibarr's rights by name: ``module.perms`` or ``module.perms.subperms``."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import psycopg

from ..errors import AgentError
from ..postgres.connection import SandboxConnection
from .rows import columns

__all__ = ["require_rights", "resolve_rights", "rights_by_company"]

_NEAR_NAMES = 3


def resolve_rights(connection: psycopg.Connection[Any], patterns: Sequence[str], entity: int) -> list[int]:
    """Find the ids of the rights that ``patterns`` name.

    Args:
        connection: a Dolibarr's database.
        patterns: names, in which ``*`` matches anything, dots too: ``societe.*`` includes ``societe.contact.lire``.
        entity: the company (entity) whose rights are meant.

    Returns:
        The ids of ``llx_rights_def``, ascending, each once.

    Raises:
        AgentError: nothing matches a pattern; it names every such pattern, and names that are near.
    """
    rights = _defined_rights(connection, entity)
    return sorted({rights[name] for name in require_rights(patterns, rights)})


def require_rights(patterns: Sequence[str], rights: Collection[str]) -> list[str]:
    """The names among ``rights`` that ``patterns`` match.

    Raises:
        AgentError: nothing matches a pattern; it names every such pattern, and names that are near.
    """
    matches = {pattern: [name for name in rights if fnmatchcase(name, pattern)] for pattern in patterns}
    unknown = [pattern for pattern, names in matches.items() if not names]
    if unknown:
        raise _unknown_rights(unknown, rights)
    return [name for names in matches.values() for name in names]


def rights_by_company(connection: SandboxConnection) -> dict[str, list[str]]:
    """The names of the rights that a Dolibarr has, by the number of the company (entity), in decimal digits.

    Empty where the database is no Dolibarr's.
    """
    if not columns(connection, "llx_rights_def"):
        return {}
    entities = connection.execute("SELECT DISTINCT entity FROM public.llx_rights_def ORDER BY entity").fetchall()
    return {str(entity): list(_defined_rights(connection, entity)) for (entity,) in entities}


def _defined_rights(connection: psycopg.Connection[Any], entity: int) -> Mapping[str, int]:
    # Like Dolibarr, look over rights without perms: old modules left some behind.
    rows = connection.execute(
        "SELECT concat_ws('.', module, perms, nullif(subperms, '')), id FROM public.llx_rights_def"
        " WHERE entity = %s AND module <> '' AND perms <> '' ORDER BY id",
        [entity],
    )
    return dict(rows.fetchall())


def _unknown_rights(patterns: Iterable[str], rights: Iterable[str]) -> AgentError:
    known = [*rights, *sorted({f"{name.partition('.')[0]}.*" for name in rights})]
    near = {
        pattern: difflib.get_close_matches(pattern, known, n=_NEAR_NAMES) or ["no name is near"] for pattern in patterns
    }
    listed = "; ".join(f"{pattern!r} (near: {', '.join(names)})" for pattern, names in near.items())
    return AgentError(
        f"agent.rights names what this Dolibarr does not have: {listed}",
        hint="A right is module.perms or module.perms.subperms, with * for anything;"
        " a module has rights only while it is active in Dolibarr.",
    )
