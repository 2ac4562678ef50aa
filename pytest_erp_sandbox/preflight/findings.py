"""What preflight found: one finding for each invariant, and the report of them all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from ..errors import PreflightError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Finding", "Report", "Status", "report_table"]


class Status(StrEnum):
    """How an invariant stands."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """How one invariant stands, for one database.

    Attributes:
        invariant: what should hold.
        status: whether it does.
        detail: what was found, naming the role, database or table.
        remedy: what to do about it; empty where nothing is to be done.
        subject: "prod", or the setting that the sandbox stands in.
    """

    invariant: str
    status: Status
    detail: str
    remedy: str = ""
    subject: str = ""

    def __str__(self) -> str:
        line = f"{self.subject}: {self.invariant}: {self.status}: {self.detail}"
        return f"{line}\n  → {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Report:
    """All findings of one preflight."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether any invariant does not hold."""
        return any(self._with(Status.FAILURE))

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that deserve a look, although they stop nothing."""
        return tuple(self._with(Status.WARNING))

    def raise_for_failures(self) -> None:
        """Stop here unless every invariant holds.

        Raises:
            PreflightError: listing every failure, each with its remedy.
        """
        failures = list(self._with(Status.FAILURE))
        if failures:
            count = "1 invariant does" if len(failures) == 1 else f"{len(failures)} invariants do"
            raise PreflightError("\n".join([f"{count} not hold; nothing was written", *map(str, failures)]))

    def to_json(self) -> str:
        """The report as text, for ``from_json``: pytest's workers share one preflight."""
        return json.dumps(self.plain())

    def plain(self) -> list[dict[str, str]]:
        """The findings in JSON's types."""
        return [asdict(finding) for finding in self.findings]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The report that ``to_json`` wrote."""
        return cls.from_plain(json.loads(text))

    @classmethod
    def from_plain(cls, findings: Iterable[Mapping[str, str]]) -> Self:
        """The report whose findings in JSON's types these are."""
        return cls(
            tuple(
                Finding(each["invariant"], Status(each["status"]), each["detail"], each["remedy"], each["subject"])
                for each in findings
            )
        )

    def _with(self, status: Status) -> Iterator[Finding]:
        return (finding for finding in self.findings if finding.status is status)


_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILURE: "bold red", Status.SKIPPED: "dim"}


def report_table(report: Report) -> Table:
    """The report as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "invariant", "finding", title="preflight", title_justify="left")
    for finding in report.findings:
        text = Text(finding.detail)
        if finding.remedy:
            text.append(f"\n→ {finding.remedy}", style="italic")
        style = _STYLES[finding.status]
        table.add_row(Text(finding.status, style=style), Text(f"{finding.subject}: {finding.invariant}"), text)
    return table
