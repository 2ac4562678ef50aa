"""How sandboxes and golden dumps stand, in JSON's types: for people as tables, for programs as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from .changes import read_shown
from .errors import ErpSandboxError, PostgresError
from .plain import plain_changes
from .postgres.adoption import read_mark
from .postgres.lease import holders
from .summary import changes_in_words

if TYPE_CHECKING:
    from .plain import PlainChanges
    from .postgres.connection import SandboxConnection
    from .settings import ChangesSettings, SandboxSettings

__all__ = ["SandboxStatus", "drift_in_words", "sandbox_status"]


class SandboxStatus(TypedDict):
    """How a sandbox stands."""

    name: str
    database: str
    adopted: bool | None
    """None where it cannot be reached; so with all below."""
    golden: str | None
    """The golden dump that its baseline was restored from; None before the first reset, or after one was cut off."""
    in_use_by: list[str]
    drift: PlainChanges | None
    """What is not as in the baseline, in counts; None where that is not journalled."""
    error: str
    """Why it cannot be reached, or what was asked for not be read; else empty."""


def sandbox_status(place: SandboxSettings, changes: ChangesSettings) -> SandboxStatus:
    """Ask a sandbox how it stands; it may be in use meanwhile."""
    database = place.database()
    status: SandboxStatus = {
        "name": place.name,
        "database": str(database),
        "adopted": None,
        "golden": None,
        "in_use_by": [],
        "drift": None,
        "error": "",
    }
    try:
        with database.connect() as connection:
            mark = read_mark(connection)
            status["adopted"] = mark is not None
            # A baseline's name begins with that of what it was made of.
            status["golden"] = mark.baseline.partition("/")[0] if mark is not None and mark.baseline else None
            status["in_use_by"] = list(holders(connection))
            status["drift"] = _drift(connection, place.role, changes) if status["golden"] else None
    except ErpSandboxError as error:
        status["error"] = str(error)
    return status


def drift_in_words(status: SandboxStatus) -> str:
    """How far a sandbox is from its baseline: ``as it was``, ``2 inserted in 1 table``."""
    if status["drift"] is None:
        return "not journalled" if status["golden"] else "-"
    told = changes_in_words(status["drift"])
    return "none" if told == "nothing" else told


def _drift(connection: SandboxConnection, role: str, changes: ChangesSettings) -> PlainChanges | None:
    try:
        return plain_changes(read_shown(connection, role, changes, each=0))
    except PostgresError:
        return None
