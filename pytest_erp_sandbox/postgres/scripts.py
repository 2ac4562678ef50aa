"""Running a user's SQL files in a sandbox, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import PostgresError
from .admission import admitted
from .clients import Toolset
from .connection import role_option
from .lease import Lease
from .program import run

__all__ = ["run_scripts"]


def run_scripts(lease: Lease, files: Sequence[Path], toolset: Toolset) -> None:
    """Run SQL files with psql in the leased sandbox, as its role: all of them, or nothing.

    Args:
        lease: of the sandbox.
        files: in their order.
        toolset: with the psql to use.

    Raises:
        LeaseError: the lease was lost, or a session of an earlier one will not end.
        PostgresError: a statement failed; the message has file, line, and what the server said.
    """
    lease.check()
    database = lease.database
    with admitted(lease) as their_pass:
        try:
            run(
                toolset.psql(
                    database.public_conninfo(lease.application_name, f"{their_pass} {role_option(database.role)}"),
                    "--single-transaction",
                    *(f"--file={file}" for file in files),
                ),
                database.secret_environment(),
                doing=f"golden.prepare in the sandbox, {database},",
            )
        except PostgresError as error:
            error.hint = "Mend the file and run again: all of it was rolled back, and no golden dump was made."
            raise
