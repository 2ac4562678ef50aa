"""Extensions: a dump of one schema leaves them out, and only trusted ones are an ordinary owner's to create."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from psycopg import sql

from ._sql import query
from .connection import ProdConnection, SandboxConnection

__all__ = [
    "Extension",
    "create_extensions",
    "extensions_of_prod",
    "present_extensions",
    "trusted_extensions",
    "uncreatable_extensions",
]


@dataclass(frozen=True)
class Extension:
    """An extension of prod's.

    Attributes:
        name: such as ``pg_trgm``.
        needed: whether something in prod depends on it (an index's operator class, a column's type).
        schema: where it is in prod, quoted as in SQL: what uses it names it there. Empty where that is not known.
    """

    name: str
    needed: bool
    schema: str = ""


def extensions_of_prod(connection: ProdConnection) -> list[Extension]:
    """Prod's extensions, but for the built-in ``plpgsql``."""
    rows = connection.execute(query(__package__, "extensions_of_prod.sql"))
    return [Extension(name, needed, schema) for name, schema, needed in rows]


def trusted_extensions(connection: SandboxConnection) -> set[str]:
    """The extensions that the sandbox's owner may create, as its server has them."""
    rows = connection.execute("SELECT DISTINCT name FROM pg_available_extension_versions WHERE trusted").fetchall()
    return {name for (name,) in rows}


def uncreatable_extensions(connection: SandboxConnection, wanted: Iterable[Extension]) -> list[str]:
    """The needed ones that are neither in the sandbox, where prod has them, nor its owner's to create in ``public``."""
    places: dict[str, str] = {
        **dict.fromkeys(trusted_extensions(connection), "public"),
        **_fixed_schemas(connection),
        **present_extensions(connection),
    }
    return [
        extension.name
        for extension in wanted
        if extension.needed and (extension.name not in places or extension.schema not in ("", places[extension.name]))
    ]


def create_extensions(connection: SandboxConnection, names: Collection[str]) -> None:
    """Create those that are not there (a wipe takes the ones that the role made); as the owner, in a transaction."""
    creatable = trusted_extensions(connection).intersection(names) - present_extensions(connection).keys()
    fixed = _fixed_schemas(connection)
    for name in sorted(creatable):
        place = sql.SQL("") if name in fixed else sql.SQL("SCHEMA public")
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {} {} CASCADE").format(sql.Identifier(name), place))


def present_extensions(connection: SandboxConnection) -> dict[str, str]:
    """The sandbox's extensions, and their schemas."""
    return dict(connection.execute("SELECT extname, extnamespace::regnamespace::text FROM pg_extension").fetchall())


def _fixed_schemas(connection: SandboxConnection) -> dict[str, str]:
    """The trusted extensions that have a schema of their own choice (``plperl``)."""
    rows = connection.execute(
        "SELECT DISTINCT name, quote_ident(schema) FROM pg_available_extension_versions"
        " WHERE trusted AND schema IS NOT NULL"
    ).fetchall()
    return dict(rows)
