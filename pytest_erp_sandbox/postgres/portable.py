"""What of a dump cannot be restored by an unprivileged role: found before the wipe, and named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import PostgresError
from ._sql import query
from .archive import Archive, Entry
from .clients import Toolset
from .connection import ProdConnection, SandboxConnection, quoted_role
from .pg_restore import listing
from .program import ask
from .selection import standing_objects

__all__ = ["Obstacle", "obstacles_in_archive", "obstacles_in_prod"]

_KINDS = {
    "FOREIGN TABLE": "foreign table",
    "OPERATOR CLASS": "operator class",
    "OPERATOR FAMILY": "operator family",
    "SHELL TYPE": "base type",
    "TEXT SEARCH PARSER": "text search parser",
    "TEXT SEARCH TEMPLATE": "text search template",
}
"""Kinds that only a superuser makes; a foreign table's server is not in the dump of one schema, either."""

_LARGE_OBJECTS = ("BLOB", "BLOBS", "BLOB METADATA")

_HEADER = re.compile(r"^-- Name: (.*); Type: (.*); Schema: (.*); Owner: .*$", re.MULTILINE)

_NAME = r'(?:"(?:[^"]|"")*"|[^\s",;."]+)'
_POLICY = re.compile(
    rf"^CREATE POLICY (?P<name>{_NAME}) ON (?P<table>{_NAME}\.{_NAME})(?: AS RESTRICTIVE)?(?: FOR \w+)?"
    rf" TO (?P<roles>{_NAME}(?:, {_NAME})*)",
    re.MULTILINE,
)
_LANGUAGE = re.compile(rf"^    LANGUAGE (?P<language>{_NAME})(?P<rest>.*)$", re.MULTILINE)
_FORCED = re.compile(rf"^ALTER TABLE ONLY {_NAME}\.{_NAME} FORCE ROW LEVEL SECURITY;$", re.MULTILINE)


@dataclass(frozen=True)
class Obstacle:
    """Something of prod's that cannot come along.

    Attributes:
        label: what ``sandbox.may-lose`` calls it.
        reason: why it cannot.
        object: what is left out of the restore if it may be lost, ``schema.name``; empty where nothing is.
    """

    label: str
    reason: str
    object: str = ""

    def __str__(self) -> str:
        return f"{self.label} ({self.reason})"


def obstacles_in_prod(connection: ProdConnection) -> list[Obstacle]:
    """What cannot come along in a dump of schema ``public``, although it belongs to what people made."""
    return [Obstacle(*row) for row in connection.execute(query(__package__, "left_behind.sql"))]


def obstacles_in_archive(
    archive: Archive, toolset: Toolset, connection: SandboxConnection, role: str
) -> list[Obstacle]:
    """What ``role`` could not make, of all that does not stand in the sandbox already.

    That is foreign tables and other superusers' kinds, policies for roles that are missing there, functions in
    untrusted languages, and tables that their owner could not dump again.
    """
    standing = standing_objects(connection, role)
    entries = [entry for entry in archive.entries if entry.schema == "public" and not standing(entry)]
    found = [
        Obstacle(f"{_KINDS[entry.kind]} public.{entry.name}", "only a superuser makes them", f"public.{entry.name}")
        for entry in entries
        if entry.kind in _KINDS
    ]
    # A whole database's dump has some that are in no schema, and so are not restored.
    if any(entry.kind in _LARGE_OBJECTS for entry in archive.entries):
        found.append(Obstacle("large objects", "they belong to no schema, and only schema public is restored"))
    found += [
        Obstacle(f"event trigger {entry.name}", "only a superuser makes them")
        for entry in archive.entries
        if entry.kind == "EVENT TRIGGER"
    ]
    found += [
        Obstacle(f"cast {entry.name.removeprefix('CAST ')}", "it belongs to no schema, and only public is restored")
        for entry in archive.entries
        if entry.kind == "CAST"
    ]
    suspects = [entry for entry in entries if entry.kind in ("POLICY", "FUNCTION", "PROCEDURE", "TABLE")]
    definitions = list(_definitions(archive, toolset, suspects))
    return [
        *found,
        *_policies_for_missing_roles(definitions, connection),
        *_superusers_functions(definitions, connection, role),
        *_tables_closed_to_their_owner(definitions),
    ]


@dataclass(frozen=True)
class _Definition:
    name: str
    kind: str
    sql: str


def _definitions(archive: Archive, toolset: Toolset, entries: Sequence[Entry]) -> Iterator[_Definition]:
    if not entries:
        return
    with listing(entries) as file:
        done = ask([toolset.program("pg_restore"), f"--use-list={file}", "--file=-", archive.path])
    if done.returncode:
        raise PostgresError(f"{archive.path} cannot be read: {done.stderr.decode(errors='replace').strip()}")
    # Before the first header is the preamble; then come three parts of a header, and what it is of.
    parts = _HEADER.split(done.stdout.decode(errors="surrogateescape"))[1:]
    for name, kind, schema, text in zip(*(iter(parts),) * 4, strict=True):
        if schema == "public":
            yield _Definition(name, kind, text)


def _policies_for_missing_roles(
    definitions: Iterable[_Definition], connection: SandboxConnection
) -> Iterator[Obstacle]:
    for definition in definitions:
        policy = _POLICY.search(definition.sql) if definition.kind == "POLICY" else None
        if policy is None:
            continue
        missing = [
            role
            for role in re.findall(_NAME, policy["roles"])
            # The server reads the name as it stands, quoted or not.
            if connection.execute("SELECT to_regrole(%s)", [role]).fetchone() == (None,)
        ]
        if missing:
            yield Obstacle(
                f"policy {policy['name']} on {policy['table']}",
                f"on the sandbox's server there is no role {', '.join(missing)}",
                f"public.{definition.name}",
            )


def _superusers_functions(
    definitions: Iterable[_Definition], connection: SandboxConnection, role: str
) -> Iterator[Obstacle]:
    rows = connection.execute(
        "SELECT quote_ident(lanname) FROM pg_language"
        " WHERE lanpltrusted AND has_language_privilege(to_regrole(%s), oid, 'USAGE')",
        [quoted_role(role)],
    ).fetchall()
    usable = {name for (name,) in rows}
    for definition in definitions:
        clause = _LANGUAGE.search(definition.sql) if definition.kind in ("FUNCTION", "PROCEDURE") else None
        if clause is None:
            continue
        reason = ""
        if clause["language"] not in usable:
            reason = f"language {clause['language']} is missing there, or not an ordinary owner's to use"
        elif power := re.search(r" (LEAKPROOF|SUPPORT)\b", clause["rest"]):
            reason = f"only a superuser makes one that is {power[1]}"
        if reason:
            name = f"public.{definition.name}"
            yield Obstacle(f"{definition.kind.lower()} {name}", reason, name)


def _tables_closed_to_their_owner(definitions: Iterable[_Definition]) -> Iterator[Obstacle]:
    for definition in definitions:
        if definition.kind == "TABLE" and _FORCED.search(definition.sql):
            name = f"public.{definition.name}"
            yield Obstacle(f"table {name}", "FORCE ROW LEVEL SECURITY: its owner could not dump all of it again", name)
