"""Which entries of a dump go into a sandbox: not what others own there, nor what the settings leave out."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ._sql import query
from .archive import Archive, Entry
from .connection import SandboxConnection, quoted_role
from .inventory import is_named

__all__ = ["Standing", "entries_to_restore", "standing_objects"]

Standing = Callable[[Entry], bool]
"""Whether an entry's object already stands in the sandbox, and is somebody else's."""

_NEVER_RESTORED = {"ACL", "DEFAULT ACL", "EVENT TRIGGER", "EXTENSION", "SCHEMA", "SECURITY LABEL", "STATISTICS DATA"}
"""Kinds that are not the role's to make, or not wanted: prod's grants."""

_RELATIONS = {"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"}

_SORTS = {
    **dict.fromkeys([*_RELATIONS, "SEQUENCE", "INDEX"], "relation"),
    **dict.fromkeys(["FUNCTION", "PROCEDURE", "AGGREGATE"], "routine"),
    **dict.fromkeys(["TYPE", "DOMAIN", "SHELL TYPE"], "type"),
}
"""Kinds that share their names with others; the others are a sort of their own."""

_NAMED_AFTER_TABLE = {"DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "TRIGGER", "RULE", "POLICY"}

_PARTS_OF_TABLE = {
    "INDEX",
    "MATERIALIZED VIEW DATA",
    "ROW SECURITY",
    "SEQUENCE",
    "STATISTICS",
    "TABLE ATTACH",
    "TABLE DATA",
}
_PARTS_OF_ANYTHING = {"COMMENT", "FK CONSTRAINT", "INDEX ATTACH", "SEQUENCE OWNED BY", "SEQUENCE SET"}
_PARTS = _NAMED_AFTER_TABLE | _PARTS_OF_TABLE | _PARTS_OF_ANYTHING


def standing_objects(connection: SandboxConnection, role: str) -> Standing:
    """Ask what stands in schema ``public`` that is not ``role``'s (a provisioner's function, say)."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        rows = connection.execute(query(__package__, "standing.sql"), {"role": quoted_role(role)}).fetchall()
    standing = set(rows)
    return lambda entry: entry.schema == "public" and (_SORTS.get(entry.kind, entry.kind), entry.name) in standing


def entries_to_restore(archive: Archive, standing: Standing, leave_out: Collection[str]) -> list[Entry]:
    """The entries of ``archive`` that a wiped sandbox lacks and its role can make.

    Left out is what is not in schema ``public``; what stands; and what ``leave_out`` names, as ``schema.name``, where
    ``*`` matches. A table goes with its parts: data, indexes, keys and those that refer to them, …; and what
    ``leave_out`` names takes along the triggers, defaults, … of others that need it.
    """
    stands: dict[int, Entry] = {}
    gone: dict[int, Entry] = {}

    def goes(entry: Entry) -> bool:
        return (
            entry.schema != "public"
            or entry.kind in _NEVER_RESTORED
            or is_named(f"public.{entry.name}", leave_out)
            or any(_is_part(entry, stands[whole]) for whole in entry.depends_on if whole in stands)
            or (
                entry.kind in _PARTS and any(gone[whole].schema == "public" for whole in entry.depends_on & gone.keys())
            )
        )

    # A dump lists things in the order of their making: what an entry depends on was looked at before.
    for entry in archive.entries:
        if standing(entry):
            stands[entry.id] = entry
        elif goes(entry):
            gone[entry.id] = entry
    return [entry for entry in archive.entries if entry.id not in stands and entry.id not in gone]


def _is_part(entry: Entry, whole: Entry) -> bool:
    """Whether an entry is made on ``whole``, on which it depends, and is nobody else's to make."""
    if entry.kind in _NAMED_AFTER_TABLE:
        return whole.kind in _RELATIONS and entry.name.startswith(f"{whole.name} ")
    if entry.kind in _PARTS_OF_TABLE:
        return whole.kind in _RELATIONS
    return entry.kind in _PARTS_OF_ANYTHING
