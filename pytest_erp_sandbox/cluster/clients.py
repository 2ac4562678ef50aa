"""PostgreSQL's programs in the toolbox, and their way to prod or to a sandbox."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from ..errors import ClusterError, PostgresError
from ..postgres.connection import IDENTITY, ProdConnection, ProdDatabase, SandboxConnection, SandboxDatabase, identify
from ..postgres.program import Hearing, LineWatcher, reason, took_too_long
from .exec import Exec
from .toolbox import LOGIN, Toolbox

__all__ = ["ProdClients", "SandboxClients", "prod_clients", "sandbox_clients"]

_LOGIN_OF_SECRET = f"{{ PGUSER=$(cat {LOGIN}/PGUSER) && PGPASSWORD=$(cat {LOGIN}/PGPASSWORD); }} 2>&1 || exit 1"
_LOGIN_BY_STDIN = "IFS= read -r PGUSER && IFS= read -r PGPASSWORD || exit 1"

# With stdin's end, that is with the connection's, the program ends, too.
_WITH_LOGIN = """
umask 077
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
"""How long a program has for ending when its time is over, before it is killed."""

_TOLD = "erp_sandbox.told"
"""A setting of ours: what a session is told at its start must arrive."""

_LONGEST_LINE = 10_000
"""Bytes that are kept of a line that has not ended."""


@dataclass(frozen=True)
class _Clients:
    """The programs of the toolbox's image, and the one database that they reach.

    Attributes:
        toolbox: with them.
        version: theirs.
        major: the first part of it.
        conninfo: how they connect from there.
    """

    toolbox: Toolbox
    version: str
    major: int
    conninfo: str

    def _login(self) -> tuple[str, Iterable[SecretStr]]:
        """Shell that sets ``PGUSER`` and ``PGPASSWORD``, and the lines of stdin that it reads."""
        raise NotImplementedError

    def run(
        self,
        command: Sequence[str],
        *,
        doing: str,
        watch: LineWatcher = lambda _: None,
        timeout: timedelta | None = None,
        limit: str = "the limit",
    ) -> None:
        """Run a program to its end; whatever interrupts the wait ends the program too.

        Args:
            command: the program and its arguments; none of them secret, as the API server may log them.
            doing: what it does, for the error.
            watch: is called with each line of what it says.
            timeout: how long it may take.
            limit: what that is called where it is set.

        Raises:
            PostgresError: it failed, or took too long; the message has its first error.
            ClusterError: the connection to the toolbox was lost.
        """
        begun, doing = time.monotonic(), f"{doing} in {self.toolbox.pod}"
        code, heard = self._run(command if timeout is None else [*_limited(timeout), *command], watch)
        # Not by the exit code: each timeout has its own.
        if code and timeout is not None and time.monotonic() - begun >= timeout.total_seconds():
            raise took_too_long(doing, timeout, limit)
        if code == _KILLED:
            raise PostgresError(
                f"{doing} was killed: its memory was not enough, or the node's", hint="Set golden.dump-there = false."
            )
        if code:
            raise PostgresError(f"{doing} failed (exit code {code}): {reason(heard)}")

    def _asked(self, conninfo: str, *questions: str) -> list[str]:
        """What the database there answers, as psql writes it."""
        psql = ["psql", "-X", "-A", "-t", "-q", "-w", "-F", "/"]
        asking = [word for question in questions for word in ("-c", question)]
        code, heard = self._run([*psql, *asking, "-d", conninfo], lambda _: None)
        if code:
            raise ClusterError(reason(heard))
        return list(heard.said)[-len(questions) :]

    def _run(self, command: Sequence[str], watch: LineWatcher) -> tuple[int, Hearing]:
        """Run a program with the login, which no error's frames may hold."""
        toolbox, heard, rest = self.toolbox, Hearing(), b""
        login, lines_of_it = self._login()
        shell = ["sh", "-c", login + _WITH_LOGIN, "sh"]
        try:
            with Exec(toolbox.cluster, toolbox.pod, [*shell, *command], stdin=True) as running:
                for each in lines_of_it:
                    running.write(f"{each.get_secret_value()}\n".encode())
                for piece in running.output():
                    *lines, rest = (rest[:_LONGEST_LINE] + bytes(piece)).split(b"\n")
                    for line in lines:
                        watch(heard.take_in(line))
                return running.wait(), heard
        except ClusterError as error:
            lost = ClusterError(error.args[0], hint=error.hint)
        raise lost


@dataclass(frozen=True)
class ProdClients(_Clients):
    """Programs that reach prod, with the login that the toolbox has in its Secret.

    That way it is in no exec's stream, which those who record sessions keep.
    """

    def _login(self) -> tuple[str, Iterable[SecretStr]]:
        return _LOGIN_OF_SECRET, ()

    def require_prod(self, connection: ProdConnection) -> None:
        """Stop where they would not read the database that ``connection`` is with, or could write there.

        Raises:
            ClusterError: what they reach is another one, or ignores that it is to be read only; or they reach none.
        """
        is_read_only, identity = self._asked(self.conninfo, "SHOW default_transaction_read_only", IDENTITY)
        if identity != str(identify(connection)):
            raise ClusterError("another database than prod's answers there under prod's name")
        if is_read_only != "on":
            raise ClusterError("a pooler in between drops default_transaction_read_only=on")


@dataclass(frozen=True)
class SandboxClients(_Clients):
    """Programs that reach a sandbox.

    Attributes:
        login: gives that of the moment, as environment variables.
    """

    login: Callable[[], Mapping[str, SecretStr]] = field(repr=False)

    def _login(self) -> tuple[str, Iterable[SecretStr]]:
        login = self.login()
        return _LOGIN_BY_STDIN, (login["PGUSER"], login["PGPASSWORD"])

    def require_sandbox(self, connection: SandboxConnection) -> None:
        """Stop where they would not write into the database that ``connection`` is with, or not with their settings.

        Raises:
            ClusterError: what they reach is another one, or drops what a session is told; or they reach none.
        """
        told = secrets.token_hex(4)
        heard, identity = self._asked(self.with_options(f"-c {_TOLD}={told}"), f"SHOW {_TOLD}", IDENTITY)
        if identity != str(identify(connection)):
            raise ClusterError("another database than the sandbox answers there under its name")
        if heard != told:
            raise ClusterError("a pooler in between drops what sessions are told at their start")

    def with_options(self, options: str, **parameters: str) -> str:
        """The conninfo with further settings of the session (``-c name=value …``), and other parameters."""
        given = conninfo_to_dict(self.conninfo).get("options", "")
        return make_conninfo(self.conninfo, options=f"{given} {options}".strip(), **parameters)


def prod_clients(toolbox: Toolbox, prod: ProdDatabase, connection: ProdConnection) -> ProdClients:
    """The toolbox's programs, and their way to prod, with the login of ``connection``.

    Raises:
        ClusterError: one is not there, there is no way for them, or the toolbox has not that login.
    """
    version, major = _version(toolbox, "pg_dump")
    conninfo, login = _way(lambda: prod.from_elsewhere(connection))
    if login != toolbox.login:
        raise ClusterError("prod's login has changed since the toolbox was started")
    return ProdClients(toolbox, version, major, conninfo)


def sandbox_clients(toolbox: Toolbox, sandbox: SandboxDatabase, connection: SandboxConnection) -> SandboxClients:
    """The toolbox's programs, and their way to a sandbox, with the login of ``connection`` or a later one.

    Raises:
        ClusterError: one is not there, or there is no way for them.
    """
    version, major = _version(toolbox, "pg_restore")
    conninfo, login = _way(lambda: sandbox.from_elsewhere(connection))
    return SandboxClients(toolbox, version, major, conninfo, lambda: {**login, **sandbox.secret_environment()})


def _version(toolbox: Toolbox, program: str) -> tuple[str, int]:
    # All that will be needed, as images differ.
    asking = f'{program} --version && psql --version && "$@" tar --version'
    said = toolbox.run(["sh", "-c", asking, "sh", *_limited(_ENDING)], doing="asking for PostgreSQL's programs")
    found = re.search(r"\(PostgreSQL\) ((\d+)\S*)", said)
    if found is None:
        raise ClusterError(f"its {program} is {said.strip()}")
    return found[1], int(found[2])


def _way(from_elsewhere: Callable[[], tuple[str, Mapping[str, SecretStr]]]) -> tuple[str, Mapping[str, SecretStr]]:
    try:
        return from_elsewhere()
    except PostgresError as error:
        raise ClusterError(error.args[0]) from None


def _limited(timeout: timedelta) -> list[str]:
    """What runs a program for so long at most; SIGINT lets pg_dump stop what the server does for it."""
    return ["timeout", "-k", str(_ENDING.seconds), "-s", "INT", str(max(1, math.ceil(timeout.total_seconds())))]
