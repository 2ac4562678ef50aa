"""The mark on a database without which nothing is wiped.

It is the last line of the database's comment, which psql shows and ``DROP OWNED`` leaves. ``ALTER DATABASE … SET`` of
a parameter of our own would be a superuser's (measured on 15 and 18: permission denied to set parameter).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from psycopg import sql

from ..errors import NotASandboxError
from .connection import DatabaseIdentity, SandboxConnection, identify

__all__ = ["Mark", "adopt", "is_adopted", "read_mark", "require_mark", "write_mark"]

_LINE = re.compile(r"erp-sandbox: adopted=(?P<identity>\d+/\d+)(?P<rest>(?: [a-z]+=\S*)*)")
"""A mark; what people wrote that only begins like one is theirs."""


@dataclass(frozen=True)
class Mark:
    """What an adopted database's comment says.

    Attributes:
        identity: the database that was adopted; a mark that was copied elsewhere is void.
        baseline: which baseline was last restored here whole; None from a wipe until the restore after it is complete.
        kept: the test run that left a failed scenario's state here for inspection.
        grants: the grants on the sandbox's objects, from a wipe until they are given again (``grants.pack``).
    """

    identity: DatabaseIdentity
    baseline: str | None = None
    kept: str | None = None
    grants: str | None = None

    def __str__(self) -> str:
        parts = {"baseline": self.baseline, "kept": self.kept, "grants": self.grants}
        # Quoted: no value may begin another, or a line of its own.
        words = [f" {name}={quote(value, safe='+/=:')}" for name, value in parts.items() if value is not None]
        return f"erp-sandbox: adopted={self.identity}{''.join(words)}"


def read_mark(connection: SandboxConnection) -> Mark | None:
    """The connected database's mark; None where it has none, or one that was made for another database."""
    line = _LINE.fullmatch(_comment(connection)[1])
    identity = identify(connection)
    if line is None or line["identity"] != str(identity):
        return None
    values = dict(word.split("=", 1) for word in line["rest"].split())
    return Mark(identity, **{name: unquote(values[name]) for name in ("baseline", "kept", "grants") if name in values})


def is_adopted(connection: SandboxConnection) -> bool:
    """Whether the connected database is marked as a sandbox."""
    return read_mark(connection) is not None


def require_mark(connection: SandboxConnection) -> Mark:
    """The connected database's mark.

    Raises:
        NotASandboxError: it has none.
    """
    mark = read_mark(connection)
    if mark is None:
        raise NotASandboxError(
            f"the database {connection.info.dbname!r} at {connection.info.host} is not marked as a sandbox,"
            " and nothing in it was touched",
            hint="If it really is one, run `erp-sandbox adopt`: it shows what is there, and asks.",
        )
    return mark


def adopt(connection: SandboxConnection) -> Mark:
    """Mark the connected database as a sandbox; to be called as its owner (``as_owner``)."""
    mark = Mark(identify(connection))
    write_mark(connection, mark)
    return mark


def write_mark(connection: SandboxConnection, mark: Mark, **changes: str | None) -> None:
    """Write ``mark``, with ``changes``, below what people wrote into the comment; as the owner."""
    theirs = _comment(connection)[0]
    text = "\n".join([*theirs, str(replace(mark, **changes))])  # type: ignore[arg-type]
    # The name is the server's to give: it may have changed since the connection was made.
    name = connection.execute("SELECT current_database()").fetchone()
    assert name is not None
    connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(*name), sql.Literal(text)))


def _comment(connection: SandboxConnection) -> tuple[list[str], str]:
    """The lines of the database's comment that people wrote, and ours."""
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    if not row or not row[0]:
        return [], ""
    lines = row[0].split("\n")
    for place in reversed(range(len(lines))):
        if _LINE.fullmatch(lines[place]):
            return [*lines[:place], *lines[place + 1 :]], lines[place]
    return lines, ""
