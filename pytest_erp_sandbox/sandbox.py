"""A sandbox, as a rehearsal sees it: put back, with an agent and its key, ready."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .dolibarr.agent import provision_agent, read_agent_key
from .dolibarr.api import api_client, check_api
from .errors import AgentError, GoldenError, LeaseError, PostgresError
from .golden import Golden, Manifest
from .postgres.adoption import adopt, read_mark, require_mark, write_mark
from .postgres.archive import Archive, read_archive
from .postgres.clients import Toolset, choose_clients, installed_toolsets
from .postgres.connection import SandboxConnection, as_owner
from .postgres.extensions import create_extensions, present_extensions
from .postgres.grants import give_grants
from .postgres.inventory import object_counts, owns_anything
from .postgres.lease import Lease
from .postgres.restore import restore
from .postgres.tidy import analyze_large_tables, end_idle_sessions
from .postgres.wipe import wipe
from .progress import Progress

if TYPE_CHECKING:
    import httpx
    from pydantic import SecretStr

    from .settings import AgentSettings, SandboxSettings, Settings

__all__ = ["Sandbox"]

_RESET_IT = "Reset it once: `erp-sandbox reset`, or --erp-sandbox-reset=session."


class Sandbox:
    """One sandbox, leased: nobody else resets it, or rehearses in it, until it is closed.

    Attributes:
        name: what the settings call it.
        lease: the hold on it.
        idle_sessions_left: sessions of other logins, in words, that a restore left with outdated plans and types.
    """

    def __init__(self, lease: Lease, place: SandboxSettings, settings: Settings, progress: Progress) -> None:
        self.name = place.name
        self.lease = lease
        self.idle_sessions_left: Sequence[str] = ()
        self._place = place
        self._settings = settings
        self._progress = progress
        self._key: SecretStr | None = None

    def reset(self, golden: Golden) -> None:
        """Put the sandbox back: wipe, restore the golden dump, make the agent and a new key.

        Raises:
            ErpSandboxError: whatever stands in the way; the next reset begins at the beginning.
        """
        golden.mark_used()
        self._require_fit(golden)
        self.rebuild(_read_once(golden.dump, self._settings.programs), golden.manifest.extensions)
        self._require_counts(golden.manifest)
        self._key = self._begin_baseline(golden)

    def resume(self) -> None:
        """Take the sandbox as it is, with its agent and the key that was made with its baseline.

        Raises:
            GoldenError: no whole baseline is in it.
            AgentError: the agent or its key is not there any more, or not what the settings ask for.
        """
        mark, agent = require_mark(self.lease.connection), self._settings.agent
        if mark.baseline is None:
            raise GoldenError(
                f"{self.name} holds no whole baseline: it was never reset, or a reset was cut off", hint=_RESET_IT
            )
        if _fingerprint(agent) not in mark.baseline.split("/"):
            raise AgentError(
                f"the agent of the baseline in {self.name} is not the one that the settings ask for", hint=_RESET_IT
            )
        self._key = read_agent_key(
            self.lease.connection,
            login=agent.login,
            entity=agent.entity,
            unique_id=self._place.erp.instance_unique_id,
        )
        if self._key is None:
            raise AgentError(
                f"the key of {agent.login} cannot be read in {self.name}: a rehearsal has changed it, or"
                " sandbox.erp.instance-unique-id is another than when it was made",
                hint=_RESET_IT,
            )

    def rebuild(self, archive: Archive, extensions: Mapping[str, bool], leave_out: Sequence[str] = ()) -> None:
        """Wipe the sandbox and restore ``archive``, without an agent: what a reset and a refresh have in common.

        Args:
            archive: what to restore.
            extensions: prod's, by name: whether something needs it.
            leave_out: names of objects that are not restored, beside the settings' ``leave-out``.
        """
        lease, place = self.lease, self._place
        lease.check()
        programs = self.programs_for(archive)
        self._adopt_if_empty()
        # The wipe takes those that the role made, whoever needs them.
        wanted = {*extensions, *present_extensions(lease.connection)}
        with self._progress.step(f"wiping {self.name}"):
            wipe(lease, lock_timeout=place.lock_timeout)
        with as_owner(lease.connection, place.role):
            create_extensions(lease.connection, wanted)
        with self._progress.step(f"restoring {self.name}", total=len(archive.entries)) as on_progress:
            left_out = [*place.leave_out, *leave_out]
            restore(lease, archive, programs, jobs=self._settings.jobs, leave_out=left_out, on_progress=on_progress)
        if lease.end_earlier_sessions():
            raise LeaseError(
                f"a program of an earlier run was still writing into {self.name} while it was restored, and was ended",
                hint="Run again: nothing of it is left.",
            )
        with as_owner(lease.connection, place.role):
            analyze_large_tables(lease.connection, place.role)
        self.idle_sessions_left = end_idle_sessions(lease.connection)

    def programs_for(self, archive: Archive) -> Toolset:
        """The client programs that restore ``archive`` here, and dump the result.

        Raises:
            PostgresError: no installed ones can, or the sandbox's server is too old for it.
        """
        return choose_clients(
            installed_toolsets(self._settings.programs),
            prod=None,
            sandbox=self.server_major,
            archive=(archive.server_major, archive.dump_major),
        ).sandbox

    @property
    def server_major(self) -> int:
        """The major version of the sandbox's server."""
        return self.lease.connection.info.server_version // 10000

    @property
    def url(self) -> str:
        """The base URL of the ERP in front of the sandbox.

        Raises:
            AgentError: the settings have none.
        """
        if self._place.erp.url is None:
            raise AgentError(f"no ERP is set for {self.name}", hint="Set sandbox.erp.url.")
        return self._place.erp.url

    @property
    def key(self) -> SecretStr:
        """The agent's API key; it opens this sandbox alone.

        Raises:
            AgentError: the sandbox was not reset yet.
        """
        if self._key is None:
            raise AgentError(f"{self.name} has no agent's key yet", hint="Reset it first.")
        return self._key

    def api(self) -> httpx.Client:
        """A client of the ERP's API, authenticated as the agent; the caller closes it."""
        return api_client(self.url, self.key)

    def connect(self) -> SandboxConnection:
        """A session with the sandbox's database, in autocommit mode, as its owner; the caller closes it."""
        connection = self.lease.database.connect(self.lease.application_name)
        connection.execute("SELECT set_config('role', %s, false)", [self._place.role])
        return connection

    def check_erp(self) -> None:
        """Prove that the ERP in front serves this very database, by the fresh key, which exists nowhere else.

        Raises:
            AgentError: it does not, or does not answer.
        """
        if self._place.erp.url is not None:
            check_api(self._place.erp.url, self.key, self._settings.agent.login)

    def keep(self, run: str) -> str:
        """Mark the state as kept for inspection: nothing else of ``run`` resets it. Returns how to look at it."""
        connection, place = self.lease.connection, self._place
        with as_owner(connection, place.role):
            write_mark(connection, require_mark(connection), kept=run)
        shown = self.lease.database.public_conninfo("psql")
        return f'{self.name} is left as the failed scenario left it, until the next run:\n  psql "{shown}"'

    def close(self) -> None:
        """Let the next one have it."""
        self.lease.release()

    def _adopt_if_empty(self) -> None:
        connection, place = self.lease.connection, self._place
        if read_mark(connection) is None and not owns_anything(connection, place.role):
            with as_owner(connection, place.role):
                adopt(connection)

    def _require_fit(self, golden: Golden) -> None:
        prepared_on = golden.manifest.server_major
        if prepared_on > self.server_major:
            raise PostgresError(
                f"golden dump {golden.id} was prepared on PostgreSQL {prepared_on}, which the server of {self.name}"
                f" (PostgreSQL {self.server_major}) is too old for; nothing was wiped",
                hint="Let all sandboxes have servers of one version, then `erp-sandbox refresh`.",
            )
        if not golden.dump.exists():
            raise GoldenError(
                f"golden dump {golden.id} was removed while this run used it; nothing was wiped", hint="Run again."
            )

    def _require_counts(self, manifest: Manifest) -> None:
        found, expected = object_counts(self.lease.connection, self._place.role), manifest.counts
        wrong = ", ".join(
            f"{found.get(kind, 0)} instead of {expected.get(kind, 0)} {kind}"
            for kind in sorted({*found, *expected})
            if found.get(kind, 0) != expected.get(kind, 0)
        )
        if wrong:
            raise GoldenError(
                f"the restored {self.name} is not what the golden dump's manifest says: {wrong}",
                hint="Somebody else changed it meanwhile, or leave-out has changed: `erp-sandbox refresh`.",
            )

    def _begin_baseline(self, golden: Golden) -> SecretStr:
        """Make the agent, give the grants again, and say that the baseline is whole: all of it, or nothing."""
        connection, agent = self.lease.connection, self._settings.agent
        with as_owner(connection, self._place.role):
            mark = require_mark(connection)
            if mark.grants is not None:
                give_grants(connection, mark.grants)
            key = provision_agent(
                connection,
                login=agent.login,
                rights=agent.rights,
                entity=agent.entity,
                unique_id=self._place.erp.instance_unique_id,
            )
            baseline = f"{golden.id}/{_fingerprint(agent)}/{secrets.token_hex(4)}"
            write_mark(connection, mark, baseline=baseline, grants=None, kept=None)
        return key


def _fingerprint(agent: AgentSettings) -> str:
    """Tells whether a baseline's agent is the one that the settings ask for."""
    return hashlib.sha256(agent.model_dump_json().encode()).hexdigest()[:16]


@cache
def _read_once(dump: Path, programs: Path | None) -> Archive:
    return read_archive(dump, installed_toolsets(programs))
