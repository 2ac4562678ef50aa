"""Which Dolibarr a database belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg

from ..errors import AgentError
from .constants import constant

__all__ = ["DolibarrVersion", "dolibarr_version"]


@dataclass(frozen=True)
class DolibarrVersion:
    """A Dolibarr's version.

    Attributes:
        text: as Dolibarr wrote it, such as ``22.0.4``.
        major: its first number.
    """

    text: str
    major: int

    def __str__(self) -> str:
        return self.text


def dolibarr_version(connection: psycopg.Connection[Any]) -> DolibarrVersion:
    """Read the version that the database was last upgraded to, or else installed with.

    Raises:
        AgentError: this is no Dolibarr's database, or it does not say.
    """
    for name in ("MAIN_VERSION_LAST_UPGRADE", "MAIN_VERSION_LAST_INSTALL"):
        text = constant(connection, name, entity=0)
        if text and (number := re.match(r"\d+", text)):
            return DolibarrVersion(text, int(number[0]))
    raise AgentError(
        f"database {connection.info.dbname!r} does not say which Dolibarr it belongs to:"
        " llx_const has neither MAIN_VERSION_LAST_UPGRADE nor MAIN_VERSION_LAST_INSTALL for entity 0",
        hint="Is it the database of an installed Dolibarr?",
    )
