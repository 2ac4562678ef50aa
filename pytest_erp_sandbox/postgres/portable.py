"""What of a dump cannot be restored by an unprivileged role: found before the wipe, and named."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..errors import PostgresError
from .archive import Archive, Entry
from .clients import Toolset
from .connection import ProdConnection, SandboxConnection

__all__ = ["Obstacle", "not_allowed_obstacles", "obstacles_in_archive", "obstacles_in_prod"]

_SUPERUSERS_KINDS = {"FOREIGN TABLE": "foreign table", "EVENT TRIGGER": "event trigger", "BLOB": "large object"}

_POLICY = re.compile(
    r"^CREATE POLICY (?P<name>.+?) ON (?P<table>\S+).*? TO (?P<roles>.+?)(?: USING \(| WITH CHECK \(|;$)"
)
_LANGUAGE = re.compile(r"^CREATE (?:FUNCTION|PROCEDURE) (?P<name>[^(]+)\(|^    LANGUAGE (?P<language>\"[^\"]+\"|\w+)")


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


def not_allowed_obstacles(obstacles: Iterable[Obstacle], may_lose: Sequence[str]) -> list[Obstacle]:
    """Those of ``obstacles`` whose label is not in ``may_lose``, which takes shell-like patterns."""
    return [
        obstacle
        for obstacle in obstacles
        if not any(obstacle.label == pattern or fnmatchcase(obstacle.label, pattern) for pattern in may_lose)
    ]


def obstacles_in_prod(connection: ProdConnection) -> list[Obstacle]:
    """What a dump of schema ``public`` leaves behind although prod depends on it."""
    triggers = connection.execute(
        "SELECT evtname FROM pg_event_trigger AS trigger WHERE NOT EXISTS ("
        " SELECT FROM pg_depend WHERE classid = 'pg_event_trigger'::regclass AND objid = trigger.oid AND deptype = 'e')"
        " ORDER BY evtname"
    ).fetchall()
    found = [Obstacle(f"event trigger {name}", "only a superuser makes them") for (name,) in triggers]
    if connection.execute("SELECT FROM pg_largeobject_metadata LIMIT 1").fetchone() is not None:
        found.append(Obstacle("prod's large objects", "a dump of one schema has none"))
    return found


def obstacles_in_archive(archive: Archive, toolset: Toolset, connection: SandboxConnection) -> list[Obstacle]:
    """Foreign tables, event triggers, policies for roles that are missing here, functions in untrusted languages."""
    found = [
        Obstacle(
            f"{_SUPERUSERS_KINDS[entry.kind]} {_qualified(entry)}",
            "needs more than an owner's rights",
            _qualified(entry),
        )
        for entry in archive.entries
        if entry.kind in _SUPERUSERS_KINDS and entry.schema in ("public", "-")
    ]
    suspects = [
        entry
        for entry in archive.entries
        if entry.schema == "public" and entry.kind in ("POLICY", "FUNCTION", "PROCEDURE")
    ]
    if suspects:
        statements = _definitions(archive, toolset, suspects)
        found += _policies_for_missing_roles(statements, connection)
        found += _functions_in_untrusted_languages(statements, connection)
    return found


def _qualified(entry: Entry) -> str:
    return entry.name if entry.schema == "-" else f"{entry.schema}.{entry.name}"


def _definitions(archive: Archive, toolset: Toolset, entries: Iterable[Entry]) -> list[str]:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape", suffix=".list") as listing:
        listing.write("".join(f"{entry.line}\n" for entry in entries))
        listing.flush()
        done = subprocess.run(
            [toolset.program("pg_restore"), f"--use-list={listing.name}", "--file=-", str(archive.path)],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    if done.returncode:
        raise PostgresError(f"{archive.path} cannot be read: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="surrogateescape").splitlines()


def _policies_for_missing_roles(statements: Iterable[str], connection: SandboxConnection) -> Iterator[Obstacle]:
    for line in statements:
        policy = _POLICY.match(line)
        if policy is None:
            continue
        for role in policy["roles"].split(", "):
            # The server reads the name as it stands, quoted or not.
            if role != "PUBLIC" and connection.execute("SELECT to_regrole(%s)", [role]).fetchone() == (None,):
                table = policy["table"]
                bare = table.rpartition(".")[2]
                yield Obstacle(
                    f"policy {policy['name']} on {table}",
                    f"there is no role {role} on the sandbox's server",
                    f"public.{bare} {policy['name']}".replace('"', ""),
                )


def _functions_in_untrusted_languages(statements: Iterable[str], connection: SandboxConnection) -> Iterator[Obstacle]:
    usable = {
        name
        for (name,) in connection.execute(
            "SELECT lanname FROM pg_language WHERE lanpltrusted AND has_language_privilege(oid, 'USAGE')"
        ).fetchall()
    }
    function = ""
    for line in statements:
        match = _LANGUAGE.match(line)
        if match is None:
            continue
        if match["name"]:
            function = match["name"]
        elif (language := match["language"].strip('"')) not in usable:
            yield Obstacle(
                f"function {function}", f"language {language} is not an ordinary owner's to use", f"{function}(*)"
            )
