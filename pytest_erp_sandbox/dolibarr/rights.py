"""Dolibarr's rights by name: ``module.perms`` or ``module.perms.subperms``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import psycopg

from ..errors import AgentError

__all__ = ["resolve_rights"]

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
    matches = {pattern: [name for name in rights if fnmatchcase(name, pattern)] for pattern in patterns}
    unknown = [pattern for pattern, names in matches.items() if not names]
    if unknown:
        raise _unknown_rights(unknown, rights)
    return sorted({rights[name] for names in matches.values() for name in names})


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
