"""Restoring a dump into a wiped sandbox with pg_restore, without what others own there."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from subprocess import PIPE
from typing import IO

from ._sql import query
from .archive import Archive, Entry
from .clients import Toolset
from .connection import SandboxConnection, quoted_role
from .dump import OnProgress
from .lease import Lease
from .program import LineWatcher, finish, run, start

__all__ = ["entries_to_restore", "restore"]

_SESSION_OPTIONS = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c client_min_messages=warning"
"""What makes a restore faster; whether a crash loses its end does not matter: the mark says that it was complete."""

_PARTS_OF_TABLES = {
    "TABLE DATA",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "TRIGGER",
    "RULE",
    "POLICY",
}
"""Kinds of entries whose name begins with their table's."""

_NEVER_RESTORED = {
    "ACL",
    "DATABASE",
    "DATABASE PROPERTIES",
    "DEFAULT ACL",
    "EVENT TRIGGER",
    "EXTENSION",
    "SCHEMA",
    "SECURITY LABEL",
}
"""Kinds that are not the role's to make, or not wanted: prod's grants."""

# A pg_restore of 17 or newer begins with this, which older servers do not know.
_UNKNOWN_TO_OLDER_SERVERS = b"SET transaction_timeout = 0;\n"


def restore(
    lease: Lease, archive: Archive, toolset: Toolset, *, jobs: int, leave_out: Collection[str], on_progress: OnProgress
) -> None:
    """Restore ``archive`` into the leased, wiped sandbox, with the sandbox's own credentials, as its role.

    Args:
        lease: of the sandbox.
        archive: what to restore.
        toolset: with a pg_restore that can read it.
        jobs: connections to use.
        leave_out: names of objects (``schema.name``, ``*`` matches) that are not restored, beside those that stand.
        on_progress: is told how many of the entries are done.

    Raises:
        LeaseError: the lease was lost.
        PostgresError: pg_restore failed; the message has its first error.
    """
    lease.check()
    entries = entries_to_restore(lease.connection, lease.database.role, archive, leave_out)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape", suffix=".list") as listing:
        listing.write("".join(f"{entry.line}\n" for entry in entries))
        listing.flush()
        watch = _progress(on_progress)
        if toolset.major > lease.connection.info.server_version // 10000:
            _restore_fitted(lease, archive, toolset, Path(listing.name), watch)
        else:
            # Tables are made in one transaction; data, indexes and keys then by several connections at once. Both are
            # faster than pg_restore's ways of doing the whole (figures: make bench).
            command = _pg_restore(lease, archive, toolset, Path(listing.name))
            environment = lease.database.secret_environment()
            doing = f"pg_restore into the sandbox, {lease.database},"
            run([*command, "--section=pre-data", "--single-transaction"], environment, doing=doing, watch=watch)
            run(
                [*command, "--section=data", "--section=post-data", f"--jobs={jobs}"],
                environment,
                doing=doing,
                watch=watch,
            )


def entries_to_restore(
    connection: SandboxConnection, role: str, archive: Archive, leave_out: Collection[str]
) -> list[Entry]:
    """The entries of ``archive`` that the wiped sandbox lacks and the role can make.

    Left out is what still stands there and is not the role's (a provisioner's function, say), with all that belongs to
    it, what is not in schema ``public``, and ``leave_out``.
    """
    with connection.transaction():
        # pg_dump names argument types as seen from an empty search path.
        connection.execute("SET LOCAL search_path = ''")
        rows = connection.execute(query(__package__, "standing.sql"), {"role": quoted_role(role)}).fetchall()
    standing = {name for (name,) in rows}
    return [
        entry
        for entry in archive.entries
        if entry.schema == "public"
        and entry.kind not in _NEVER_RESTORED
        and standing.isdisjoint(_names(entry))
        and not any(fnmatchcase(f"public.{name}", pattern) for name in _names(entry) for pattern in leave_out)
    ]


def _names(entry: Entry) -> Iterator[str]:
    """The objects that an entry is, or is a part of."""
    name = entry.name
    if entry.kind == "COMMENT":
        # "FUNCTION f(text)", "COLUMN t.c", "CONSTRAINT c ON t"
        name = name.partition(" ")[2].rpartition(" ON ")[2]
        yield name.rpartition(".")[0]
    elif entry.kind in _PARTS_OF_TABLES:
        yield name.partition(" ")[0]
    yield name


def _script(archive: Archive, toolset: Toolset, listing: Path) -> list[str | Path]:
    return [
        toolset.program("pg_restore"),
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        "--no-publications",
        "--no-subscriptions",
        "--no-security-labels",
        "--no-tablespaces",
        "--verbose",
        f"--use-list={listing}",
        archive.path,
    ]


def _pg_restore(lease: Lease, archive: Archive, toolset: Toolset, listing: Path) -> list[str | Path]:
    return [
        *_script(archive, toolset, listing),
        f"--role={lease.database.role}",
        f"--dbname={lease.database.public_conninfo(lease.application_name, _SESSION_OPTIONS)}",
    ]


def _restore_fitted(lease: Lease, archive: Archive, toolset: Toolset, listing: Path, watch: LineWatcher) -> None:
    """Restore by way of a script, from which the settings are taken that the older server does not know."""
    options = f"{_SESSION_OPTIONS} -c role={lease.database.role}"
    writer = start([*_script(archive, toolset, listing), "--file=-"], {}, stdout=PIPE)
    reader = start(
        [
            toolset.program("psql"),
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            "--output=/dev/null",
            f"--dbname={lease.database.public_conninfo(lease.application_name, options)}",
        ],
        lease.database.secret_environment(),
        stdin=PIPE,
    )
    assert writer.stdout is not None
    assert reader.stdin is not None
    # In a thread of its own: both programs' messages must be read meanwhile, or they would stop at a full pipe.
    threading.Thread(target=_fit, args=(writer.stdout, reader.stdin), daemon=True).start()
    finish([reader, writer], doing=f"restoring into the sandbox, {lease.database},", watch=watch)


def _fit(script: IO[bytes], fitted: IO[bytes]) -> None:
    """Copy a script without the one statement; it stands in the preamble, before anything that could look like it."""
    with script, fitted, suppress(BrokenPipeError):
        for line in script:
            if line == _UNKNOWN_TO_OLDER_SERVERS:
                break
            fitted.write(line)
        shutil.copyfileobj(script, fitted)


def _progress(on_progress: OnProgress) -> LineWatcher:
    done = 0

    def watch(line: str) -> None:
        nonlocal done
        if re.search(r": (creating|processing data|executing|launching item) ", line):
            done += 1
            on_progress(done, 0)

    return watch
