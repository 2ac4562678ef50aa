"""What a wipe takes from a database, and what of it a restore does not give back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

from psycopg import Connection

from ._sql import query
from .journal import SCHEMA as JOURNAL

__all__ = [
    "Owned",
    "OwnedCount",
    "is_named",
    "lost_by_wipe",
    "not_allowed",
    "object_counts",
    "owns_anything",
    "summarize",
    "taken_by_wipe",
]

_DUMPED_SCHEMA = "public"

# PostgreSQL's words for its objects (pg_identify_object), where people use others.
_KINDS = {
    "default acl": "default privileges",
    "default value": "default",
    "domain constraint": "constraint",
    "large object": "large objects",
    "publication namespace": "publication member",
    "publication relation": "publication member",
    "server": "foreign server",
    "table column": "column",
    "table constraint": "constraint",
}

# Named once, with the number of things in them that are lost.
_CONTAINERS = ("schema", "publication")


@dataclass(frozen=True)
class Owned:
    """An object that a wipe takes.

    Attributes:
        kind: "table", "view", "constraint", "publication", …
        schema: the schema that it, or the table that it is a part of, is in; None for what is in no schema.
        name: as PostgreSQL writes it, with its schema.
        owner: the role that owns it, or the table that it is a part of; empty for what has no owner, such as a cast.
        objects: how many objects this stands for: a schema's contents, a publication's tables, all large objects.
    """

    kind: str
    schema: str | None
    name: str
    owner: str
    objects: int = 1

    @property
    def label(self) -> str:
        """What the setting ``sandbox.may-lose`` calls it, such as ``schema audit`` or ``view public.report``."""
        return f"{self.kind} {self.name}".rstrip()

    def __str__(self) -> str:
        details = [f"{self.objects} objects"] if self.objects > 1 else []
        details += [f"of {self.owner}"] if self.owner else []
        return f"{self.label} ({', '.join(details)})" if details else self.label


@dataclass(frozen=True)
class OwnedCount:
    """A row of the table that shows what a wipe would take."""

    schema: str | None
    kind: str
    owner: str
    objects: int


def owns_anything(connection: Connection[Any], role: str) -> bool:
    """Whether ``role`` owns something in the connected database that could be lost.

    Schema public itself and default privileges do not count: platforms prepare empty databases with both.
    """
    return any(
        owned.owner == role and owned.kind != "default privileges" and owned.label != f"schema {_DUMPED_SCHEMA}"
        for owned in taken_by_wipe(connection, role)
    )


def taken_by_wipe(connection: Connection[Any], role: str, *, but_own_in: Sequence[str] = ()) -> list[Owned]:
    """Everything that ``DROP OWNED BY role CASCADE`` would take from the connected database, sorted by schema and kind.

    That is what the role owns there, what other roles have that depends on it, and policies that name the role. What
    comes and goes with its whole is not listed: a view's rule, an index behind a constraint, an extension's members.

    Args:
        connection: to the sandbox.
        role: its owner.
        but_own_in: schemas; what the role owns in them is not listed.
    """
    rows = connection.execute(
        query(__package__, "taken.sql") + query(__package__, "inventory.sql"),
        {"role": role, "but_own_in": list(but_own_in)},
    )
    return [Owned(_KINDS.get(kind, kind), schema, name, owner) for kind, schema, name, owner in rows]


def summarize(taken: Iterable[Owned]) -> list[OwnedCount]:
    """Count ``taken`` by schema, kind and owner."""
    counts: Counter[tuple[str | None, str, str]] = Counter()
    for owned in taken:
        counts[owned.schema, owned.kind, owned.owner] += owned.objects
    ordered = sorted(counts.items(), key=lambda item: (item[0][0] or "", *item[0][1:]))
    return [OwnedCount(*key, objects) for key, objects in ordered]


def lost_by_wipe(connection: Connection[Any], role: str, *, restorable_extensions: Collection[str] = ()) -> list[Owned]:
    """What a wipe would take and the restore of a dump of schema public not give back.

    The role's own objects in schema public are not lost: the dump has prod's in their place. Neither are default
    privileges nor schema public itself, which are recorded and made again; nor the journal, which tells of what is
    gone then.

    Args:
        connection: to the sandbox.
        role: the sandbox's owner.
        restorable_extensions: names of the extensions that can be created again.
    """
    taken = taken_by_wipe(connection, role, but_own_in=(_DUMPED_SCHEMA, JOURNAL))
    lost_schemas = {owned.name for owned in taken if owned.kind == "schema"}
    lost: Counter[Owned] = Counter()
    for owned in taken:
        if _is_given_back(owned, restorable_extensions):
            continue
        lost[_as_lost(owned, role, lost_schemas)] += 0 if owned.kind in _CONTAINERS else 1
    return [replace(owned, objects=max(count, 1)) for owned, count in lost.items()]


def _is_given_back(owned: Owned, restorable_extensions: Collection[str]) -> bool:
    if owned.kind == "extension":
        return owned.name in restorable_extensions
    if owned.kind == "schema":
        # The journal goes with the baseline that it goes back to.
        return owned.name in (_DUMPED_SCHEMA, JOURNAL)
    return owned.kind == "default privileges"


def _as_lost(owned: Owned, role: str, lost_schemas: Collection[str]) -> Owned:
    """What stands for ``owned`` in the list of losses: one line for a schema, a publication, all large objects."""
    schema = owned.schema
    if schema is not None and schema != _DUMPED_SCHEMA and (schema in lost_schemas or owned.owner == role):
        return Owned("schema", None, schema, role)
    if owned.kind == "publication member":
        return replace(owned, kind="publication")
    if owned.kind == "large objects":
        return replace(owned, name="")
    return owned


class _Labelled(Protocol):
    @property
    def label(self) -> str: ...


LabelledT = TypeVar("LabelledT", bound=_Labelled)


def not_allowed(lost: Iterable[LabelledT], may_lose: Sequence[str]) -> list[LabelledT]:
    """Those of ``lost`` whose label is not in ``may_lose``, which takes shell-like patterns (``view reports.*``)."""
    return [each for each in lost if not is_named(each.label, may_lose)]


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of ``patterns`` is ``name``, or matches it as shells do (``*``)."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def object_counts(connection: Connection[Any], role: str, schema: str = _DUMPED_SCHEMA) -> dict[str, int]:
    """How many tables, indexes, sequences, views, constraints, triggers, functions, types ``role`` has in ``schema``.

    Others' objects, such as a provisioner's function, do not count. Counts of the same objects are the same on all
    versions of PostgreSQL.
    """
    rows = connection.execute(query(__package__, "object_counts.sql"), {"role": role, "schema": schema})
    return dict(rows.fetchall())
