"""The operating system's account that a PostgreSQL server runs as, and folders that it can reach."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ..errors import PostgresError

__all__ = ["Account", "server_folder", "temporary_folders"]


@dataclass(frozen=True)
class Account:
    """Who runs a server: this process's user, or ``nobody`` where that is root, as whom PostgreSQL refuses to run.

    Attributes:
        name: for messages.
        uid: its number.
        gid: its group's.
        differs: it is not this process's own, so that files have to be handed over.
    """

    name: str
    uid: int
    gid: int
    differs: bool

    @classmethod
    def for_server(cls) -> Self:
        """The account for a server that this process starts.

        Raises:
            PostgresError: this process is root's, and there is no ``nobody``.
        """
        if os.geteuid() != 0:
            return cls("this user", os.geteuid(), os.getegid(), differs=False)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise PostgresError(
                "PostgreSQL refuses to run as root, and there is no account 'nobody' to run it as",
                hint="Run as another user.",
            ) from None
        return cls(nobody.pw_name, nobody.pw_uid, nobody.pw_gid, differs=True)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program as this account, without this process's environment and away from its terminal's Ctrl-C.

        Raises:
            PostgresError: it cannot be started.
        """
        become: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.differs else {}
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C"},
                start_new_session=True,
                **become,
            )
        except OSError as error:
            raise PostgresError(f"cannot run {command[0]} as {self.name}: {error.strerror}") from None

    def give(self, path: Path) -> None:
        """Make ``path`` the account's.

        Raises:
            PostgresError: the operating system refuses.
        """
        if not self.differs:
            return
        try:
            os.chown(path, self.uid, self.gid)
        except OSError as error:
            raise PostgresError(
                f"cannot give {path} to {self.name}, as whom PostgreSQL has to run: {error.strerror}",
                hint="Run as a user that is not root.",
            ) from None

    def may(self, access: Literal["-r", "-x"], path: Path) -> bool:
        """Whether the account may read (``-r``), or enter or run (``-x``), what is at ``path``."""
        return self.run("test", access, path).returncode == 0


def temporary_folders() -> list[Path]:
    """Where a server's folder may be, the best first."""
    return [Path(place) for place in (tempfile.gettempdir(), "/tmp", "/var/tmp")]  # noqa: S108 - private from there on


def server_folder(name: str) -> Path:
    """Make the folder ``name`` among the temporary files, for a server; one of ours that is there already is kept.

    The server's account can reach it, nobody else can. As root, pytest's ``tmp_path`` is no such place: pytest keeps
    all others out.

    Raises:
        PostgresError: the name is taken by somebody else, or the server's account can reach no temporary folder.
    """
    account = Account.for_server()
    places = temporary_folders()
    parent = next((place for place in places if account.may("-x", place)), None)
    if parent is None:
        raise PostgresError(
            f"{places[0]} cannot be entered by {account.name}, as whom PostgreSQL has to run",
            hint="Set TMPDIR to a folder that everybody can enter.",
        )
    folder = parent / name
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PostgresError(
                f"{folder} is not a folder of this user's", hint="Remove it, or set TMPDIR to another folder."
            ) from None
    if account.differs:
        os.chown(folder, -1, account.gid)
    folder.chmod(0o710 if account.differs else 0o700)
    return folder
