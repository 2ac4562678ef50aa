"""Dolibarr's configuration: the constants in ``llx_const``."""

from __future__ import annotations

from typing import Any

import psycopg

from ..errors import AgentError

__all__ = ["constant", "is_on"]


def constant(connection: psycopg.Connection[Any], name: str, entity: int) -> str | None:
    """Read a constant as ``entity`` sees it: its own value, else the one for all entities (0).

    Raises:
        AgentError: this is no Dolibarr's database.
    """
    try:
        row = connection.execute(
            "SELECT value FROM public.llx_const WHERE name = %s AND entity IN (0, %s) ORDER BY entity DESC LIMIT 1",
            [name, entity],
        ).fetchone()
    except psycopg.errors.UndefinedTable:
        raise AgentError(
            f"database {connection.info.dbname!r} is not a Dolibarr's: it has no table public.llx_const",
            hint="Check sandbox.dsn, and that prod (or prod.dump) is the ERP's database.",
        ) from None
    return None if row is None else str(row[0])


def is_on(value: str | None) -> bool:
    """Whether Dolibarr takes a constant's value as yes: PHP's idea of truth."""
    return value not in (None, "", "0")
