"""The sandboxes of a run: one or several, each leased to one scenario at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psycopg
from pydantic import SecretStr

from .errors import AgentError, LeaseError, PostgresError, SettingsError
from .golden import Golden
from .postgres.adoption import read_mark
from .postgres.lease import Lease, retake, take_lease
from .progress import Progress
from .reach import erp_up
from .sandbox import Sandbox
from .settings import SandboxSettings, Settings

if TYPE_CHECKING:
    from .dolibarr.local import LocalDolibarr

__all__ = ["Pool", "unique_id_in_front"]


def unique_id_in_front(place: SandboxSettings) -> SecretStr | None:
    """The unique id of a sandbox's ERP: as the settings have it, or that with which one is served here."""
    if place.erp.instance_unique_id is None and place.erp.htdocs is not None:
        from .dolibarr.local import unique_id_of

        return unique_id_of(place.dsn or SecretStr(place.name))
    return place.erp.instance_unique_id


class Pool:
    """Leases sandboxes.

    Args:
        settings: where they are.
        run: names this test run; its failed scenarios' sandboxes, when kept, are not leased to it again.
        progress: is told of waiting.
    """

    def __init__(self, settings: Settings, run: str, progress: Progress) -> None:
        self._settings = settings
        self._run = run
        self._progress = progress
        self._proven: set[str] = set()
        self._recovered: set[str] = set()
        self._free = {place.database(): place for place in settings.all_sandboxes}
        self._parked: Lease | None = None
        self._local: dict[str, LocalDolibarr] = {}

    def require(self, settings: Settings) -> None:
        """Stop where a test has other settings than those that the sandboxes are made ready by.

        Raises:
            SettingsError: it has; preflight was asked about others, and the agent is another.
        """
        if settings != self._settings:
            raise SettingsError(
                "this test's erp_sandbox_settings are not those of the session's sandboxes",
                hint="A session has one set of settings: override the fixture in the root conftest, or run the folders"
                " that have settings of their own one by one.",
            )

    @property
    def all_kept(self) -> bool:
        """Whether each sandbox is kept for inspection, as far as this process knows."""
        return not self._free

    @contextmanager
    def lease(self) -> Iterator[Sandbox]:
        """A sandbox that nobody else has, as whoever had it before left it.

        Raises:
            LeaseError: none became free in time, or all are kept for inspection.
            PostgresError: the server refused something unexpectedly, or went away.
        """
        with self._leased(self._place) as sandbox:
            yield sandbox

    @contextmanager
    def _leased(self, place_of: Callable[[Lease], SandboxSettings]) -> Iterator[Sandbox]:
        try:
            sandbox = self._take(place_of)
        except psycopg.Error as error:
            raise PostgresError(
                f"a sandbox could not be taken: {str(error).strip()}", hint="Look into its server's log."
            ) from error
        try:
            yield sandbox
        except psycopg.Error as error:
            raise PostgresError(
                f"the work in {sandbox.name} was cut off: {str(error).strip()}",
                hint="Look into the server's log; the next reset begins at the beginning.",
            ) from error
        finally:
            self._give_back(sandbox)

    @contextmanager
    def rehearsal(self, golden: Golden | None) -> Iterator[Sandbox]:
        """A sandbox that nobody else has, ready for a scenario.

        Args:
            golden: what it is put back to; None takes it as it is, with the agent of its baseline.

        Raises:
            ErpSandboxError: whatever stands in the way.
        """
        with self._leased(self._served) as sandbox:
            if golden is None:
                sandbox.resume()
            else:
                sandbox.reset(golden)
            if sandbox.name not in self._proven:
                sandbox.check_quarantine()
                self._check_erp(sandbox)
                self._proven.add(sandbox.name)
            yield sandbox

    def close(self) -> None:
        """End the ERPs that are served here, and the session that was kept for the next scenario."""
        for erp in self._local.values():
            erp.stop()
        self._local.clear()
        if self._parked is not None:
            self._parked.release()
            self._parked = None

    def _take(self, place_of: Callable[[Lease], SandboxSettings]) -> Sandbox:
        while self._free:
            with ExitStack() as stack:
                lease = stack.enter_context(self._lease())
                mark = read_mark(lease.connection)
                if mark is None or mark.kept != self._run:
                    place = place_of(lease)
                    self._recover(place)
                    stack.pop_all()  # it is the sandbox's to release
                    local = self._local.get(place.name)
                    return Sandbox(lease, place, self._settings, self._progress, local)
                del self._free[lease.database]
        raise LeaseError(
            "every sandbox is kept as a failed scenario left it (--erp-sandbox-keep-failed)",
            hint="Look at it; the next run resets it.",
        )

    def _place(self, lease: Lease) -> SandboxSettings:
        return self._free[lease.database]

    def _served(self, lease: Lease) -> SandboxSettings:
        """The leased sandbox's settings, with the ERP that is served here where they say of what."""
        place = self._place(lease)
        unique_id = unique_id_in_front(place)
        if place.erp.htdocs is None or unique_id is None:
            return place
        erp = self._local.get(place.name)
        if erp is None:
            from .dolibarr.local import LocalDolibarr

            erp = LocalDolibarr(place.erp.htdocs, lease.database, unique_id, place.erp.documents)
            self._local[place.name] = erp
        if not erp.is_up:
            erp.start()
        served = place.erp.model_copy(update={"url": erp.url, "instance_unique_id": unique_id})
        return place.model_copy(update={"erp": served})

    def _check_erp(self, sandbox: Sandbox) -> None:
        local = self._local.get(sandbox.name)
        if local is not None:
            local.check_version(sandbox.lease.connection)
        try:
            sandbox.check_erp()
        except AgentError as error:
            if local is not None:
                error.args = (f"{error.args[0]}{local.last_words()}",)
            raise

    def _recover(self, place: SandboxSettings) -> None:
        """Put the ERP back that a killed run has left scaled to 0; nobody else scales it while we have the lease."""
        if place.name not in self._recovered:
            if (replicas := erp_up(self._settings, place, self._progress.say)) is not None:
                self._progress.say(f"the ERP of {place.name} was left scaled to 0 by a killed run: {replicas} again")
            self._recovered.add(place.name)

    def _lease(self) -> Lease:
        parked, self._parked = self._parked, None
        again = retake(parked) if parked is not None else None
        return again or take_lease(list(self._free), self._settings.lease_timeout, self._tell)

    def _give_back(self, sandbox: Sandbox) -> None:
        # The sessions of a rewind are worth keeping: in new ones, each statement has to be planned again.
        if self._settings.strategy == "rewind" and sandbox.lease.park():
            self._parked = sandbox.lease
        else:
            sandbox.close()

    def _tell(self, who_has_them: str) -> None:
        self._progress.say(f"waiting for a sandbox\n{who_has_them}")
