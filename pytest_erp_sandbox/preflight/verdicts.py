"""How a question about a database becomes a finding, whatever comes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import psycopg

from ..errors import ErpSandboxError
from ..postgres.connection import ProdConnection, SandboxConnection
from .findings import Finding, Status
from .sides import NotReachedError, Side

__all__ = ["AnySide", "Verdict", "failure", "invariant", "ok", "warning"]

AnySide = Side[ProdConnection] | Side[SandboxConnection]
SideT = TypeVar("SideT", bound=AnySide)
P = ParamSpec("P")


class Verdict(NamedTuple):
    """What an invariant's function says; ``invariant`` makes a finding of it."""

    status: Status
    detail: str
    remedy: str = ""


def invariant(
    text: str,
) -> Callable[[Callable[Concatenate[SideT, P], Verdict]], Callable[Concatenate[SideT, P], Finding]]:
    """Make a question about a side a finding, which it is too when it cannot be asked, or ends in an error."""

    def decorate(ask: Callable[Concatenate[SideT, P], Verdict]) -> Callable[Concatenate[SideT, P], Finding]:
        @wraps(ask)
        def find(side: SideT, /, *args: P.args, **kwargs: P.kwargs) -> Finding:
            try:
                verdict = ask(side, *args, **kwargs)
            except NotReachedError as reason:
                verdict = Verdict(Status.SKIPPED, str(reason))
            except ErpSandboxError as error:
                verdict = Verdict(Status.FAILURE, error.args[0], error.hint)
            except psycopg.Error as error:
                verdict = Verdict(Status.FAILURE, f"the server refused the question: {str(error).strip()}")
            return Finding(text, *verdict, subject=side.subject)

        return find

    return decorate


def ok(detail: str) -> Verdict:
    """It holds."""
    return Verdict(Status.OK, detail)


def warning(detail: str, remedy: str) -> Verdict:
    """It deserves a look, and stops nothing."""
    return Verdict(Status.WARNING, detail, remedy)


def failure(detail: str, remedy: str) -> Verdict:
    """It does not hold."""
    return Verdict(Status.FAILURE, detail, remedy)
