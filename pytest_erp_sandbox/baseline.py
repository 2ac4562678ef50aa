"""The baseline: a sandbox's state right after a restore, agent and all, which a rewind brings back."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from .dolibarr.agent import provision_agent, read_agent_key
from .errors import GoldenError
from .golden import Golden, Manifest
from .postgres.adoption import require_mark, write_mark
from .postgres.connection import SandboxConnection, as_owner
from .postgres.grants import give_grants
from .postgres.inventory import object_counts
from .postgres.journal import install_journal

if TYPE_CHECKING:
    from pydantic import SecretStr

    from .settings import SandboxSettings, Settings

__all__ = ["begin_baseline", "has_agent", "is_baseline_of", "read_key"]

# A baseline's name says what it was made of, and ends with what tells it from all others of the same.


def begin_baseline(
    connection: SandboxConnection, golden: Golden, place: SandboxSettings, settings: Settings
) -> SecretStr:
    """Finish what was restored: grants, agent, journal, and the mark that all of it is there; or nothing.

    Returns:
        The agent's new key.

    Raises:
        GoldenError: what was restored is not what the golden dump's manifest says.
        AgentError: the agent cannot be made as the settings ask for.
    """
    _require_counts(connection, place, golden.manifest)
    with as_owner(connection, place.role):
        mark = require_mark(connection)
        if mark.grants:
            give_grants(connection, mark.grants)
        key = provision_agent(
            connection,
            login=settings.agent.login,
            rights=settings.agent.rights,
            entity=settings.agent.entity,
            unique_id=place.erp.instance_unique_id,
        )
        name = f"{_beginning(golden, place, settings)}{secrets.token_hex(4)}"
        if settings.journals:
            # Last: what is done after it is undone by the first rewind.
            install_journal(connection, place.role, name, lock_timeout=place.lock_timeout, verifiable=settings.verify)
        write_mark(connection, mark, baseline=name, grants=None, kept=None)
    return key


def is_baseline_of(name: str, golden: Golden, place: SandboxSettings, settings: Settings) -> bool:
    """Whether a baseline is what these settings make of ``golden``."""
    return name.startswith(_beginning(golden, place, settings))


def has_agent(name: str, settings: Settings) -> bool:
    """Whether the agent of a baseline is the one that the settings ask for."""
    return _agent(settings) in name.split("/")


def read_key(connection: SandboxConnection, place: SandboxSettings, settings: Settings) -> SecretStr | None:
    """The agent's key that was made with the baseline; None where it is not there, or not to be read."""
    return read_agent_key(
        connection,
        login=settings.agent.login,
        entity=settings.agent.entity,
        unique_id=place.erp.instance_unique_id,
    )


def _beginning(golden: Golden, place: SandboxSettings, settings: Settings) -> str:
    return f"{golden.id}/{_agent(settings)}/{_digest(f'{place.leave_out} {settings.verify}')}/"


def _agent(settings: Settings) -> str:
    return _digest(settings.agent.identity())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_counts(connection: SandboxConnection, place: SandboxSettings, manifest: Manifest) -> None:
    found, expected = object_counts(connection, place.role), manifest.counts
    wrong = ", ".join(
        f"{found.get(kind, 0)} instead of {expected.get(kind, 0)} {kind}"
        for kind in sorted({*found, *expected})
        if found.get(kind, 0) != expected.get(kind, 0)
    )
    if wrong:
        raise GoldenError(
            f"the restored {place.name} is not what the golden dump's manifest says: {wrong}",
            hint="Somebody else changed it meanwhile, or leave-out has changed: `erp-sandbox refresh`.",
        )
