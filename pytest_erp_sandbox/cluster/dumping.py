"""Prod's dump, made in the toolbox: what crosses the way to here is compressed, and no longer than pg_dump's locks."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from ..errors import ClusterError, PostgresError
from ..postgres.connection import ProdConnection, ProdDatabase, identify
from ..postgres.dump import DUMP_TIMEOUT
from ..postgres.program import Hearing, LineWatcher
from .exec import Exec
from .fetching import fetch_folder
from .toolbox import CACHE, Toolbox

__all__ = ["PgDumpInToolbox", "pg_dump_in_toolbox"]

# The login comes by stdin: a Secret, which whoever may start pods in the namespace could read, is not needed for it.
_WITH_LOGIN = """
umask 077
IFS= read -r PGUSER && IFS= read -r PGPASSWORD || exit 1
export PGUSER PGPASSWORD LC_ALL=C PG_COLOR=never
exec "$@" </dev/null 2>&1
"""

_WHICH = (
    "SELECT current_setting('default_transaction_read_only'),"
    " (SELECT system_identifier FROM pg_control_system()) || '/' || oid"
    " FROM pg_database WHERE datname = current_database()"
)

_LONGEST_LINE = 10_000
"""Bytes that are kept of a line that has not ended."""

_TIMED_OUT = 124
"""The exit code of ``timeout``, when it has ended its program."""


@dataclass(frozen=True)
class PgDumpInToolbox:
    """The pg_dump of the toolbox's image.

    Attributes:
        toolbox: with it, and with room for prod's dump on its volume.
        version: of the program.
        conninfo: how it connects to prod from there.
        login: what its environment gets for that.
    """

    toolbox: Toolbox
    version: str
    conninfo: str
    login: Mapping[str, SecretStr] = field(repr=False)

    def dump(
        self, prod: ProdDatabase, to: Path, options: Sequence[str], *, timeout: timedelta, watch: LineWatcher
    ) -> None:
        """Dump prod onto the volume, bring the dump, and remove it there.

        Raises:
            PostgresError: pg_dump failed, or took too long.
            ClusterError: the connection to the toolbox was lost, or the dump cannot be brought.
        """
        toolbox, making = self.toolbox, f"{CACHE}/.making-{secrets.token_hex(4)}"
        doing = f"pg_dump of prod, {prod}, in {toolbox.pod}"
        seconds = str(max(1, int(timeout.total_seconds())))
        try:
            toolbox.run(["mkdir", "-m", "700", making], doing="making room for prod's dump")
            pg_dump = ["pg_dump", *options, f"--file={making}/{to.name}", f"--dbname={self.conninfo}"]
            code, heard = self._run(["timeout", "-s", "INT", seconds, *pg_dump], watch)
            if code == _TIMED_OUT:
                raise PostgresError(
                    f"{doing} took longer than {timeout}, and was ended",
                    hint=f"Find what it waits for, or raise {DUMP_TIMEOUT}.",
                )
            if code:
                raise PostgresError(f"{doing} failed (exit code {code}): {heard.error or _all(heard)}")
            fetch_folder(toolbox, making, to.name, to.parent, "prod's dump")
        finally:
            with suppress(ClusterError):  # the next who has the claim removes it
                toolbox.run(["rm", "-rf", making], doing="tidying up")

    def require_same(self, connection: ProdConnection) -> None:
        """Stop where that pg_dump would not dump the database that ``connection`` is with, or could write there.

        Raises:
            PostgresError: what it reaches there is another one, or ignores that it is to be read only.
            ClusterError: it does not reach any.
        """
        psql = ["psql", "-X", "-A", "-t", "-q", "-w", "-F", " ", "-c", _WHICH, "-d", self.conninfo]
        code, heard = self._run(psql, lambda _: None)
        if code:
            raise ClusterError(heard.error or _all(heard))
        is_read_only, _, identity = heard.said[-1].partition(" ")
        if identity != str(identify(connection)):
            raise PostgresError(
                f"another database than prod's answers {self.toolbox.pod} under prod's name; nothing was dumped",
                hint="Write prod's host as all of the cluster understands it, with its namespace: postgres.erp.svc",
            )
        if is_read_only != "on":
            raise PostgresError(
                f"prod ignored default_transaction_read_only=on of {self.toolbox.pod}; nothing was dumped",
                hint="A pooler between there and the server drops session settings: name the server's own host.",
            )

    def _run(self, command: Sequence[str], watch: LineWatcher) -> tuple[int, Hearing]:
        """Run a program with the login, which no error's frames may hold."""
        toolbox, heard, rest = self.toolbox, Hearing(), b""
        try:
            with Exec(toolbox.cluster, toolbox.pod, ["sh", "-c", _WITH_LOGIN, "sh", *command], stdin=True) as running:
                for variable in ("PGUSER", "PGPASSWORD"):
                    running.write(f"{self.login[variable].get_secret_value()}\n".encode())
                for piece in running.output():
                    *lines, rest = (rest[:_LONGEST_LINE] + bytes(piece)).split(b"\n")
                    for line in lines:
                        watch(heard.take_in(line))
                return running.wait(), heard
        except ClusterError as error:
            lost = ClusterError(str(error), hint=error.hint)
        raise lost


def pg_dump_in_toolbox(
    toolbox: Toolbox, prod: ProdDatabase, connection: ProdConnection, *, at_least: int, at_most: int, room: int
) -> PgDumpInToolbox:
    """Find the toolbox's pg_dump, where it can dump prod, and its dump be restored.

    Args:
        toolbox: the pod.
        prod: prod.
        connection: with it, from here.
        at_least: the major version of prod's server.
        at_most: the major version of the programs that will restore the dump.
        room: bytes that it takes on the volume.

    Raises:
        ClusterError: it cannot be used; the message says why.
        PostgresError: what it reaches as prod is not prod, or not to be read only.
    """
    said = toolbox.run(["sh", "-c", "pg_dump --version && psql --version"], doing="asking for PostgreSQL's programs")
    found = re.search(r"\(PostgreSQL\) ((\d+)\S*)", said)
    if found is None or not at_least <= int(found[2]) <= at_most:
        raise ClusterError(
            f"its pg_dump is {found[1] if found else said.strip()}; prod's server is {at_least}, and what restores here"
            f" is {at_most}"
        )
    try:
        conninfo, login = prod.from_elsewhere(connection)
    except PostgresError as error:
        raise ClusterError(str(error)) from None
    pg_dump = PgDumpInToolbox(toolbox, found[1], conninfo, login)
    pg_dump.require_same(connection)
    toolbox.require_room(room)
    return pg_dump


def _all(heard: Hearing) -> str:
    return "\n".join(heard.said) or "it gave no reason"
