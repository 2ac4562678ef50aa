"""Extensions: a dump of one schema leaves them out, and only trusted ones are an ordinary owner's to create."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from psycopg import sql

from .connection import ProdConnection, SandboxConnection

__all__ = ["Extension", "create_extensions", "extensions_of_prod", "trusted_extensions", "uncreatable_extensions"]


@dataclass(frozen=True)
class Extension:
    """An extension of prod's.

    Attributes:
        name: such as ``pg_trgm``.
        needed: whether something in schema ``public`` depends on it (an index's operator class, a column's type).
    """

    name: str
    needed: bool


def extensions_of_prod(connection: ProdConnection) -> list[Extension]:
    """Prod's extensions, but for the built-in ``plpgsql``."""
    rows = connection.execute(
        """
        SELECT extname, EXISTS (
            SELECT FROM pg_depend AS member
            JOIN pg_depend AS use ON use.refclassid = member.classid AND use.refobjid = member.objid
            WHERE member.refclassid = 'pg_extension'::regclass AND member.refobjid = pg_extension.oid
                AND member.deptype = 'e' AND use.deptype <> 'e'
                AND NOT EXISTS (
                    SELECT FROM pg_depend AS other
                    WHERE other.classid = use.classid AND other.objid = use.objid AND other.deptype = 'e'
                )
        )
        FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname
        """
    ).fetchall()
    return [Extension(name, needed) for name, needed in rows]


def trusted_extensions(connection: SandboxConnection) -> set[str]:
    """The extensions that the sandbox's owner may create, as its server has them."""
    rows = connection.execute("SELECT DISTINCT name FROM pg_available_extension_versions WHERE trusted").fetchall()
    return {name for (name,) in rows}


def _present(connection: SandboxConnection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT extname FROM pg_extension").fetchall()}


def uncreatable_extensions(connection: SandboxConnection, wanted: Iterable[Extension]) -> list[str]:
    """The needed ones that are neither in the sandbox nor its owner's to create."""
    there = _present(connection) | trusted_extensions(connection)
    return [extension.name for extension in wanted if extension.needed and extension.name not in there]


def create_extensions(connection: SandboxConnection, names: Collection[str]) -> None:
    """Create those that are not there (a wipe takes the ones that the role made); as the owner, in a transaction."""
    if names:
        creatable = trusted_extensions(connection) - _present(connection)
        for name in creatable.intersection(names):
            connection.execute(
                sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA public CASCADE").format(sql.Identifier(name))
            )
