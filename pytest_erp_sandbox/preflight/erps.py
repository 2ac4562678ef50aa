"""Invariants of the ERPs that are served here: better now than after a dump of prod."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import AgentError
from ..settings import Settings
from .findings import Finding, Status

__all__ = ["erp_findings"]

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
