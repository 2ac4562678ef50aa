"""Making a dump's objects in one go, by several sessions at once; or none of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg

from ..errors import PostgresError
from .amending import without_psqls
from .lease import Lease
from .program import LineWatcher, ask

__all__ = ["make_at_once"]


def make_at_once(lease: Lease, scripts: Sequence[Sequence[str | Path]], options: str, watch: LineWatcher) -> bool:
    """Run each script as one statement: pg_restore awaits the server's answer to each of a thousand.

    Args:
        lease: of the sandbox.
        scripts: the pg_restore that writes each, but for where to; none has rows, or needs what another makes.
        options: further settings of the sessions, of which each script has one.
        watch: is called with each line that pg_restore says.

    Returns:
        Whether all of it was done; else nothing was, and pg_restore, which names the entry, will say why.

    Raises:
        PostgresError: a session was lost at its commit, and some of it may be there.
    """
    with ThreadPoolExecutor(len(scripts)) as pool:
        written = list(pool.map(lambda script: ask([*script, "--file=-"]), scripts))
        if any(script.returncode for script in written):
            return False
        is_made = False
        try:
            with ExitStack() as stack:
                sessions = [stack.enter_context(lease.at_work(options)) for _ in scripts]
                making = [
                    pool.submit(session.execute, without_psqls(script.stdout))
                    for session, script in zip(sessions, written, strict=True)
                ]
                for each in making:
                    each.result()
                is_made = True
        except psycopg.Error as error:
            if is_made:
                # A session was lost at its commit: others' may be done.
                raise PostgresError(f"what was restored could not be committed: {str(error).strip()}") from error
            return False
    for script in written:
        for line in script.stderr.decode(errors="replace").splitlines():
            watch(line)
    return True
