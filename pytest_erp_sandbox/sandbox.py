"""A sandbox, as a rehearsal sees it: put back, with an agent and its key, ready."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .baseline import begin_baseline, has_agent, is_baseline_of, read_key
from .dolibarr.agent import agent_id
from .dolibarr.quarantine import check_quarantine
from .dolibarr.rights import require_rights
from .errors import AgentError, GoldenError, LeaseError, PostgresError
from .golden import Golden
from .postgres.adoption import Mark, adopt, read_mark, require_mark, write_mark
from .postgres.clients import Toolset, choose_clients, installed_toolsets
from .postgres.connection import SandboxConnection, as_owner
from .postgres.extensions import create_extensions, present_extensions
from .postgres.inventory import owns_anything
from .postgres.lease import Lease
from .postgres.references import foreign_keys
from .postgres.rewind import Fallback, Rewound, rewind
from .postgres.tidy import analyze_large_tables, end_idle_sessions, vacuum_catalogue
from .postgres.verify import read_differences
from .progress import Progress
from .reach import documents_back, erp_down

if TYPE_CHECKING:
    import httpx
    from pydantic import SecretStr

    from .changes import ChangeSet, Kind
    from .dolibarr.local import LocalDolibarr
    from .postgres.amending import Amendment
    from .postgres.archive import Archive
    from .postgres.pg_restore import PgRestore
    from .settings import SandboxSettings, Settings

__all__ = ["Reset", "Sandbox"]

_RESET_IT = "Reset it once: `erp-sandbox reset`, or --erp-sandbox-reset=session."


@dataclass(frozen=True)
class Reset:
    """How a sandbox was put back.

    Attributes:
        strategy: ``restore`` or ``rewind``.
        seconds: how long it took.
        reason: why it was restored although a rewind was asked for, and a baseline was there; else empty.
    """

    strategy: str
    seconds: float
    reason: str = ""


class Sandbox:
    """One sandbox, leased: nobody else resets it, or rehearses in it, until it is closed.

    Attributes:
        name: what the settings call it.
        lease: the hold on it.
        last_reset: how it was put back last; None before the first reset.
        idle_sessions_left: sessions of other logins, in words, that a restore left with outdated plans and types.
    """

    def __init__(
        self,
        lease: Lease,
        place: SandboxSettings,
        settings: Settings,
        progress: Progress,
        local: LocalDolibarr | None = None,
    ) -> None:
        self.name = place.name
        self.lease = lease
        self.last_reset: Reset | None = None
        self.idle_sessions_left: Sequence[str] = ()
        self._place = place
        self._settings = settings
        self._progress = progress
        self._local = local
        self._key: SecretStr | None = None

    def reset(self, golden: Golden) -> None:
        """Put the sandbox back to the golden dump, with the agent: by a rewind where that is asked for and can be.

        Raises:
            ErpSandboxError: whatever stands in the way; the next reset begins at the beginning.
        """
        begun = time.perf_counter()
        golden.mark_used()
        rewound = self._rewind(golden) if self._settings.strategy == "rewind" else None
        if not isinstance(rewound, Rewound):
            with self.erp_down() if self._place.erp.scale_per_scenario else nullcontext():
                self._restore(golden)
        # The ERP's pods are up again.
        documents_back(self._settings, self._place)
        if self._local is not None:
            self._local.put_documents_back()
        self.last_reset = Reset(
            "rewind" if isinstance(rewound, Rewound) else "restore",
            time.perf_counter() - begun,
            rewound.reason if isinstance(rewound, Fallback) else "",
        )

    def erp_down(self) -> AbstractContextManager[None]:
        """A while in which the ERP in front is scaled to 0, where the settings name its workload in a cluster.

        Raises:
            ClusterError: it may not be scaled, or its pods do not end, or do not become ready again.
        """
        return erp_down(self._settings, self._place, self._progress.say)

    def resume(self) -> None:
        """Take the sandbox as it is, with its agent and the key that was made with its baseline.

        Raises:
            GoldenError: no whole baseline is in it.
            AgentError: the agent or its key is not there any more, or not what the settings ask for.
        """
        mark = require_mark(self.lease.connection)
        if mark.baseline is None:
            raise GoldenError(
                f"{self.name} holds no whole baseline: it was never reset, or a reset was cut off", hint=_RESET_IT
            )
        if not has_agent(mark.baseline, self._settings):
            raise AgentError(
                f"the agent of the baseline in {self.name} is not the one that the settings ask for", hint=_RESET_IT
            )
        self._key = read_key(self.lease.connection, self._place, self._settings)
        if self._key is None:
            raise AgentError(
                f"the key of {self._settings.agent.login} cannot be read in {self.name}: a rehearsal has changed it, or"
                " sandbox.erp.instance-unique-id is another than when it was made",
                hint=_RESET_IT,
            )

    def rebuild(
        self,
        archive: Archive,
        extensions: Mapping[str, bool],
        leave_out: Sequence[str] = (),
        amendment: Amendment | None = None,
        pg_restore: PgRestore | None = None,
    ) -> None:
        """Wipe the sandbox and restore ``archive``, without an agent: what a reset and a refresh have in common.

        Args:
            archive: what to restore.
            extensions: prod's, by name: whether something needs it.
            leave_out: names of objects that are not restored, beside the settings' ``leave-out``.
            amendment: what is done to some tables' rows before anybody can see them.
            pg_restore: one that is nearer than those that are installed here.
        """
        # Here, as a run that only rewinds needs none of it.
        from .postgres.restore import restore
        from .postgres.wipe import wipe

        lease, place = self.lease, self._place
        lease.check()
        programs = self.programs_for(archive)
        self._adopt_if_empty()
        # The wipe takes those that the role made, whoever needs them.
        wanted = {*extensions, *present_extensions(lease.connection)}
        with self._progress.step(f"wiping {self.name}"):
            wipe(lease, lock_timeout=place.lock_timeout)
            if self._settings.strategy == "rewind":
                vacuum_catalogue(lease.connection, place.role)
        with as_owner(lease.connection, place.role):
            create_extensions(lease.connection, wanted)
        with self._progress.step(f"restoring {self.name}", total=len(archive.entries)) as on_progress:
            left_out = [*place.leave_out, *leave_out]
            restore(
                lease,
                archive,
                programs,
                jobs=self._settings.connections,
                leave_out=left_out,
                on_progress=on_progress,
                amendment=amendment,
                pg_restore=pg_restore,
            )
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
    def where(self) -> str:
        """Its database and the server's version, for people."""
        version = self.lease.connection.info.parameter_status("server_version") or "?"
        return f"{self.lease.database}, PostgreSQL {version.partition(' ')[0]}"

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
        from .dolibarr.api import api_client

        return api_client(self.url, self.key)

    def changes(self, table: str | None = None, kind: Kind | None = None, *, each: int | None = None) -> ChangeSet:
        """What was changed since the reset: rows inserted, updated, deleted; secrets are redacted.

        Args:
            table: only of this table; ``*`` matches.
            kind: only ``inserted``, ``updated`` or ``deleted`` ones.
            each: so many of each table at most; all others are counted only.

        Raises:
            PostgresError: nothing is journalled here (setting ``journal``).
        """
        from .changes import read_shown

        connection, role = self.lease.connection, self._place.role
        return read_shown(connection, role, self._settings.changes, table=table, kind=kind, each=each)

    def changes_in_writing(self) -> str:
        """What was changed, in writing: the same rehearsal gives the same text in any sandbox of the same prod.

        Raises:
            PostgresError: nothing is journalled here, or not all that was changed is known.
        """
        from .changes import told
        from .expected import render

        found, connection, agent = self.changes(), self.lease.connection, self._settings.agent
        if found.unseen or found.omitted:
            raise PostgresError(f"not all that was changed is known:\n{told(found)}")
        user = agent_id(connection, login=agent.login, entity=agent.entity)
        named = {} if user is None else {("llx_user", user): "llx_user#agent"}
        # The ERP's time, nearly: it is told from prod's times, which are older than a day.
        return render(found, foreign_keys(connection), datetime.now(), named)

    def connect(self) -> SandboxConnection:
        """A session with the sandbox's database, in autocommit mode, as its owner; the caller closes it."""
        connection = self.lease.database.connect(self.lease.application_name)
        connection.execute("SELECT set_config('role', %s, false)", [self._place.role])
        return connection

    def check_quarantine(self) -> None:
        """Ask the sandbox whether its quarantine holds.

        Raises:
            QuarantineError: something in it knows a way to the outside world that the settings want closed.
        """
        parts, connection = self._settings.quarantine, self.lease.connection
        with as_owner(connection, self._place.role):
            check_quarantine(connection, parts, agent=self._settings.agent.login, name=self.name)

    def check_erp(self) -> None:
        """Prove that the ERP in front serves this very database, by the fresh key, which exists nowhere else.

        Raises:
            AgentError: it does not, or does not answer.
        """
        if self._place.erp.url is not None:
            from .dolibarr.api import check_api

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

    def _restore(self, golden: Golden) -> None:
        """Wipe, restore the golden dump, make the agent and a new key."""
        self._require_fit(golden)
        self.lease.forget_plans()
        self.rebuild(_read_once(golden.dump, self._settings.programs), golden.manifest.extensions)
        self._key = begin_baseline(self.lease.connection, golden, self._place, self._settings)

    def _rewind(self, golden: Golden) -> Rewound | Fallback | None:
        """Undo what was changed since the baseline; None where the sandbox has no baseline of what is asked for."""
        lease, place = self.lease, self._place
        lease.check()
        mark = read_mark(lease.connection)
        if mark is None or mark.baseline is None or not is_baseline_of(mark.baseline, golden, place, self._settings):
            return None
        rewound = rewind(lease.undoer, lambda: lease.reader, place.role, mark.baseline, lock_timeout=place.lock_timeout)
        if isinstance(rewound, Fallback):
            return rewound
        if self._settings.verify:
            self._require_equality(mark)
        self._key = read_key(lease.connection, place, self._settings)
        if self._key is None:
            return Fallback("the agent's key cannot be read")
        if mark.kept is not None:
            with as_owner(lease.connection, place.role):
                write_mark(lease.connection, mark, kept=None)
        return rewound

    def _require_equality(self, mark: Mark) -> None:
        connection, role = self.lease.connection, self._place.role
        differences = read_differences(connection, role)
        if differences:
            with as_owner(connection, role):
                write_mark(connection, mark, baseline=None)  # nobody rewinds to it any more
            raise PostgresError(
                f"{self.name} is not as it was, although it was rewound:\n"
                + "\n".join(f"  {difference}" for difference in differences),
                hint="That is an error of this plugin's: please report it. The next reset restores.",
            )

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
        rights = golden.manifest.rights.get(str(self._settings.agent.entity))
        if rights is not None:
            require_rights(self._settings.agent.rights, rights)


@cache
def _read_once(dump: Path, programs: Path | None) -> Archive:
    from .postgres.archive import read_archive

    return read_archive(dump, installed_toolsets(programs))
