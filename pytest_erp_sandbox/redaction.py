"""Keeping secrets out of what pytest shows and writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = ["REDACTOR", "AgentEnvironment", "Redactor"]

_SHOWN = "**********"
_SHORTEST = 6
"""Shorter secrets are not looked for: they would blot out half of a report."""


class AgentEnvironment(dict[str, str]):
    """Environment variables, some of them secret: a traceback that shows it shows their names."""

    def __repr__(self) -> str:
        return f"<environment of the agent: {', '.join(self)}>"


class Redactor:
    """Knows the secrets of this process, and takes them out of reports."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, secrets: Iterable[SecretStr | None]) -> None:
        """Take further secrets into account."""
        values = (secret.get_secret_value() for secret in secrets if secret is not None)
        self._secrets.update(value for value in values if len(value) >= _SHORTEST)

    def text(self, text: str) -> str:
        """``text`` without secrets; the longest first, as one may hold another."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, _SHOWN)
        return text

    def report(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Take the secrets out of a report, before anybody shows, sends or writes it."""
        if report.longrepr is not None:
            plain = str(report.longrepr)
            redacted = self.text(plain)
            if redacted != plain:
                report.longrepr = redacted
        report.sections = [(title, self.text(content)) for title, content in report.sections]


REDACTOR = pytest.StashKey[Redactor]()
