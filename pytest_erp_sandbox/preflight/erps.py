"""Invariants of the sandboxes' ERPs: that one can be served here, that what is in one knows no way out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import psycopg

from ..dolibarr.parts import Part
from ..errors import AgentError, QuarantineError
from ..postgres.adoption import read_mark
from ..postgres.connection import as_owner
from ..settings import Settings
from .findings import Finding, Status
from .sides import NotReachedError, SandboxSide
from .verdicts import Verdict, invariant, ok, warning

__all__ = ["QuarantineHolds", "erp_findings", "quarantine_holds"]

QuarantineHolds = Callable[[SandboxSide], Finding]
"""Asks a sandbox whether its quarantine holds."""

_SERVABLE = "ERP can be served here"


def erp_findings(settings: Settings) -> Iterator[Finding]:
    """Look at each Dolibarr's sources, and for PHP; nothing where every ERP has a URL."""
    for place in settings.all_sandboxes:
        if place.erp.htdocs is None:
            continue
        from ..dolibarr.local import servable

        try:
            yield Finding(_SERVABLE, Status.OK, servable(place.erp.htdocs), subject=place.name)
        except AgentError as error:
            yield Finding(_SERVABLE, Status.FAILURE, error.args[0], error.hint, place.name)


def quarantine_holds(parts: Collection[Part], agent: str) -> QuarantineHolds:
    """The question whether nothing that was restored into a sandbox knows a way to the outside world.

    What a rehearsal has opened is closed by the next reset, so here it is a warning. After a run's first reset of each
    sandbox, before any scenario, it is asked again, and then it is an error.

    Args:
        parts: of the quarantine.
        agent: the agent's login, whose API key is the sandbox's own.
    """

    @invariant("is quarantined")
    def ask(sandbox: SandboxSide) -> Verdict:
        if not parts:
            return warning(
                "quarantine = false: what prod knows of the outside world, the sandbox may use",
                "Leave the setting away, or name the parts that are to hold.",
            )
        mark = read_mark(sandbox.connection)
        if mark is None or mark.baseline is None:
            return ok("nothing is restored in it; asked again after the first reset")
        from ..dolibarr.quarantine import check_quarantine

        try:
            with as_owner(sandbox.connection, sandbox.role):
                # Somebody else's reset of it may be under way.
                sandbox.connection.execute("SET LOCAL lock_timeout = '1s'")
                check_quarantine(sandbox.connection, parts, agent=agent, name=sandbox.subject)
        except QuarantineError as error:
            return warning(" ".join(error.args[0].split()), "The next reset puts it back: `erp-sandbox reset`.")
        except psycopg.Error as error:
            raise NotReachedError(f"cannot be asked now: {str(error).strip()}") from None
        return ok(", ".join(parts))

    return ask
