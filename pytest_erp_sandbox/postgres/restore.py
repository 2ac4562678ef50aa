"""Restoring a dump into a wiped sandbox with pg_restore, without what others own there."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from subprocess import PIPE
from typing import IO

from .admission import admitted
from .amending import UNKNOWN_TO_OLDER_SERVERS, Amendment, load_amended
from .archive import Archive, Entry
from .binary import in_binary, load_binary
from .clients import Toolset
from .connection import role_option
from .dump import OnProgress
from .lease import Lease
from .locks import USABLE_SHARE, lock_slots
from .making import make_at_once
from .parting import part, part_early
from .pg_restore import PgRestore, PgRestoreHere
from .program import LineWatcher, finish, start
from .selection import entries_to_restore, standing_objects

__all__ = ["restore"]

_SESSION_OPTIONS = (
    "-c synchronous_commit=off -c maintenance_work_mem=256MB -c client_min_messages=warning"
    # Several connections build indexes already: more workers for each only take turns.
    # Nor is it worth compiling a query that checks a foreign key once.
    " -c max_parallel_maintenance_workers=0 -c jit=off"
)
"""What makes a restore faster; whether a crash loses its end does not matter: the mark says that it was complete."""

_LOCKS = {"TABLE": 4, "MATERIALIZED VIEW": 4, "VIEW": 1, "SEQUENCE": 1, "INDEX": 1, "CONSTRAINT": 1}
"""Locks that are held from an object's making to the commit; a table's TOAST table and its index have theirs."""

# At the end of a script's preamble.
_END_OF_SETTINGS = b"SELECT pg_catalog.set_config('search_path', '', false);\n"


def restore(
    lease: Lease,
    archive: Archive,
    toolset: Toolset,
    *,
    jobs: int,
    leave_out: Collection[str],
    on_progress: OnProgress,
    amendment: Amendment | None = None,
    pg_restore: PgRestore | None = None,
) -> None:
    """Restore ``archive`` into the leased, wiped sandbox, with the sandbox's own credentials, as its role.

    What others own there is left out, and stays as it is.

    Args:
        lease: of the sandbox.
        archive: what to restore.
        toolset: with a pg_restore that can read it.
        jobs: connections to use.
        leave_out: names of objects (``schema.name``, ``*`` matches) that are not restored, beside those that stand.
        on_progress: is told how many of the entries are done.
        amendment: what is done to some tables' rows before anybody can see them.
        pg_restore: another one than ``toolset``'s, nearer to the sandbox, for all that is not made by sessions from
            here; the server's version is that of ``toolset``, too.

    Raises:
        LeaseError: the lease was lost.
        PostgresError: pg_restore failed; the message has its first error.
    """
    lease.check()
    connection = lease.connection
    entries = entries_to_restore(archive, standing_objects(connection, lease.database.role), leave_out)
    at_once = sum(_LOCKS.get(entry.kind, 0) for entry in entries) < USABLE_SHARE * lock_slots(connection)
    watch = _progress(on_progress)
    amended = [entry for entry in entries if amendment is not None and amendment.concerns(entry)]
    others = _without(entries, amended)
    here = PgRestoreHere(toolset, archive)
    with ExitStack() as stack:

        def script(entries: Sequence[Entry]) -> list[str | Path]:
            return stack.enter_context(here.script(entries))

        options = f"{_SESSION_OPTIONS} {stack.enter_context(admitted(lease))}"
        before_data: list[Callable[[], None]] = []
        if amendment is not None:
            binary = in_binary(archive, amended)
            load = partial(load_binary, archive=archive, entries=binary, watch=watch)
            amended = _without(amended, binary)
            before_data.append(partial(load_amended, lease, script(amended), options, amendment, watch, load))
        if toolset.major > connection.info.server_version // 10000:
            if binary := in_binary(archive, others):
                others = _without(others, binary)
                before_data.append(partial(_load_binary, lease, archive, binary, options, watch))
            _restore_fitted(lease, toolset, script(others), options, at_once, watch, before_data)
            return

        def is_made(parts: Sequence[Sequence[Entry]], *sections: str) -> bool:
            scripts = [[*script(entries), *sections] for entries in parts]
            return make_at_once(lease, scripts, options, watch)

        # What needs no rows is made in a transaction a session, all else by pg_restore's own jobs: faster than
        # pg_restore's ways of doing the whole (figures: make bench).
        is_begun = at_once and is_made(part(others, jobs), "--section=pre-data")
        if is_begun:
            empty = [entry for entry in others if entry.id in archive.without_rows]
            early = part_early(others, archive.without_rows, jobs)
            if is_made(early, "--section=data", "--section=post-data"):
                others = _without(others, chain(empty, *early))
        run_pg_restore = partial((pg_restore or here).run, lease, others, options, watch=watch)
        if not is_begun:
            run_pg_restore(["--section=pre-data"])
        for each in before_data:
            each()
        run_pg_restore(["--section=data", "--section=post-data", f"--jobs={jobs}"])


def _load_binary(lease: Lease, archive: Archive, entries: Sequence[Entry], options: str, watch: LineWatcher) -> None:
    with lease.at_work(options) as session:
        load_binary(session, archive, entries, watch)


def _without(entries: Iterable[Entry], some: Iterable[Entry]) -> list[Entry]:
    left_out = {entry.id for entry in some}
    return [entry for entry in entries if entry.id not in left_out]


def _restore_fitted(
    lease: Lease,
    toolset: Toolset,
    script: Sequence[str | Path],
    options: str,
    at_once: bool,
    watch: LineWatcher,
    before_data: Sequence[Callable[[], None]],
) -> None:
    """Restore by way of a script, from which the settings are taken that the older server does not know."""
    if not before_data:
        _play_fitted(lease, toolset, script, options, at_once, watch)
        return
    _play_fitted(lease, toolset, [*script, "--section=pre-data"], options, at_once, watch)
    for load in before_data:
        load()
    _play_fitted(lease, toolset, [*script, "--section=data", "--section=post-data"], options, at_once, watch)


def _play_fitted(
    lease: Lease, toolset: Toolset, script: Sequence[str | Path], options: str, at_once: bool, watch: LineWatcher
) -> None:
    database = lease.database
    options = f"{options} {role_option(database.role)}"
    writer = start([*script, "--file=-"], {}, stdout=PIPE)
    try:
        reader = start(
            toolset.psql(
                database.public_conninfo(lease.application_name, options),
                "--echo-errors",
                *(["--single-transaction"] if at_once else []),
            ),
            database.secret_environment(),
            stdin=PIPE,
        )
    except BaseException:
        writer.kill()
        raise
    assert writer.stdout is not None
    assert reader.stdin is not None
    # In a thread of its own: both programs' messages must be read meanwhile, or they would stop at a full pipe.
    threading.Thread(target=_fit, args=(writer.stdout, reader.stdin), daemon=True).start()
    finish([reader, writer], doing=f"restoring into the sandbox, {database},", watch=watch)


def _fit(script: IO[bytes], fitted: IO[bytes]) -> None:
    """Copy a script without the one statement, looked for where nothing else could look like it."""
    with suppress(BrokenPipeError), fitted, script:
        for line in script:
            if line != UNKNOWN_TO_OLDER_SERVERS:
                fitted.write(line)
            if line == _END_OF_SETTINGS:
                break
        shutil.copyfileobj(script, fitted)


def _progress(on_progress: OnProgress) -> LineWatcher:
    done = 0

    def watch(line: str) -> None:
        nonlocal done
        if re.search(r": (creating|processing data|executing) ", line):
            done += 1
            on_progress(done, 0)

    return watch
