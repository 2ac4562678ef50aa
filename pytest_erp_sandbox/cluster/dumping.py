"""Prod's dump, made in the toolbox: only what pg_dump has compressed comes here."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from ..errors import ClusterError, PostgresError
from ..postgres.connection import IDENTITY, ProdConnection, ProdDatabase, identify
from ..postgres.dump import DUMP_TIMEOUT
from ..postgres.program import Hearing, LineWatcher, reason, took_too_long
from .exec import Exec
from .fetching import fetch_folder
from .toolbox import CACHE, Toolbox

__all__ = ["PgDumpInToolbox", "pg_dump_in_toolbox"]

# The login comes by stdin: a Secret, which whoever may start pods in the namespace could read, is not needed for it.
# With stdin's end, that is with the connection's, the program ends, too.
_WITH_LOGIN = """
umask 077
IFS= read -r PGUSER && IFS= read -r PGPASSWORD || exit 1
export PGUSER PGPASSWORD LC_ALL=C PG_COLOR=never
"$@" </dev/null 2>&1 &
program=$!
exec 4<&0
{ cat <&4; kill $program; } >/dev/null 2>&1 &
lifeline=$!
wait $program
code=$?
kill $lifeline
exit $code
"""

_KILLED = 137
"""The exit code of a program that SIGKILL ended."""

_ENDING = timedelta(seconds=10)
"""How long pg_dump has for ending when its time is over, before it is killed."""

_LONGEST_LINE = 10_000
"""Bytes that are kept of a line that has not ended."""


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
        command = ["pg_dump", *options, f"--file={making}/{to.name}", f"--dbname={self.conninfo}"]
        try:
            toolbox.run(["mkdir", "-m", "700", making], doing="making room for prod's dump")
            begun = time.monotonic()
            code, heard = self._run([*_limited(timeout), *command], watch)
            # Not by the exit code: each timeout has its own.
            if code and time.monotonic() - begun >= timeout.total_seconds():
                raise took_too_long(doing, timeout, DUMP_TIMEOUT)
            if code == _KILLED:
                raise PostgresError(
                    f"{doing} was killed: its memory was not enough, or the node's",
                    hint="Set golden.dump-there = false.",
                )
            if code:
                raise PostgresError(f"{doing} failed (exit code {code}): {reason(heard)}")
            fetch_folder(toolbox, making, to.name, to.parent, "prod's dump")
        finally:
            with suppress(ClusterError):  # the next who has the claim removes it
                toolbox.run(["rm", "-rf", making], doing="tidying up")

    def require_same(self, connection: ProdConnection) -> None:
        """Stop where that pg_dump would not dump the database that ``connection`` is with, or could write there.

        Raises:
            ClusterError: what it reaches is another one, or ignores that it is to be read only; or it reaches none.
        """
        asking = ["-c", "SHOW default_transaction_read_only", "-c", IDENTITY]
        psql = ["psql", "-X", "-A", "-t", "-q", "-w", "-F", "/", *asking, "-d", self.conninfo]
        code, heard = self._run(psql, lambda _: None)
        if code:
            raise ClusterError(reason(heard))
        *_, is_read_only, identity = heard.said
        if identity != str(identify(connection)):
            raise ClusterError("another database than prod's answers there under prod's name")
        if is_read_only != "on":
            raise ClusterError("a pooler in between drops default_transaction_read_only=on")

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
            lost = ClusterError(error.args[0], hint=error.hint)
        raise lost


def pg_dump_in_toolbox(
    toolbox: Toolbox, prod: ProdDatabase, connection: ProdConnection, *, at_least: int, at_most: int
) -> PgDumpInToolbox:
    """Find the toolbox's pg_dump, where it can dump prod, and its dump be restored.

    Args:
        toolbox: the pod.
        prod: prod.
        connection: with it, from here.
        at_least: the major version of prod's server.
        at_most: the major version of the programs that will restore the dump.

    Raises:
        ClusterError: it cannot be used; the message says why.
    """
    # All that will be needed, as images differ.
    asking = 'pg_dump --version && psql --version && "$@" tar --version'
    said = toolbox.run(["sh", "-c", asking, "sh", *_limited(_ENDING)], doing="asking for PostgreSQL's programs")
    found = re.search(r"\(PostgreSQL\) ((\d+)\S*)", said)
    if found is None or not at_least <= int(found[2]) <= at_most:
        raise ClusterError(
            f"its pg_dump is {found[1] if found else said.strip()}; prod's server is {at_least}, and what restores here"
            f" is {at_most}"
        )
    try:
        conninfo, login = prod.from_elsewhere(connection)
    except PostgresError as error:
        raise ClusterError(error.args[0]) from None
    pg_dump = PgDumpInToolbox(toolbox, found[1], conninfo, login)
    pg_dump.require_same(connection)
    return pg_dump


def _limited(timeout: timedelta) -> list[str]:
    """What runs a program for so long at most; SIGINT lets pg_dump stop what the server does for it."""
    return ["timeout", "-k", str(_ENDING.seconds), "-s", "INT", str(max(1, math.ceil(timeout.total_seconds())))]
