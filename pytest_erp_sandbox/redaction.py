"""Keeping secrets out of what pytest shows and writes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = ["REDACTOR", "AgentEnvironment", "Redactor"]

_SHOWN = "**********"
_SHORTEST = 6
"""Shorter secrets, and shorter parts of one, are not looked for: they would blot out half of a report."""

_CUT = "..."
"""What pytest puts where it shortens a value; a secret may have lost an end, or its middle, there."""


class AgentEnvironment(dict[str, str]):
    """Environment variables, some of them secret: a traceback that shows it shows their names."""

    def __repr__(self) -> str:
        return f"<environment of the agent: {', '.join(self)}>"


class Redactor:
    """Knows the secrets of this process, and takes them out of reports."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, secrets: Iterable[SecretStr | None]) -> None:
        """Take further secrets into account, in each spelling in which a report may have them."""
        for secret in secrets:
            value = "" if secret is None else secret.get_secret_value()
            if len(value) >= _SHORTEST:
                self._secrets.update(_spellings(value))

    def text(self, text: str) -> str:
        """``text`` without secrets; the longest first, as one may hold another."""
        secrets = sorted(self._secrets, key=len, reverse=True)
        for secret in secrets:
            text = text.replace(secret, _SHOWN)
        if _CUT not in text:
            return text
        pieces = text.split(_CUT)
        for i in range(len(pieces) - 1):
            for secret in secrets:
                pieces[i] = _without_beginning(pieces[i], secret)
                pieces[i + 1] = _without_end(pieces[i + 1], secret)
        return _CUT.join(pieces)

    def report(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Take the secrets out of a report, before anybody shows, sends or writes it."""
        if isinstance(report.longrepr, tuple):  # of a skip: path, line, reason
            path, line, reason = report.longrepr
            report.longrepr = path, line, self.text(reason)
        elif report.longrepr is not None:
            plain = str(report.longrepr)
            redacted = self.text(plain)
            # A text has none of the colours, so what has no secrets is left as it is.
            if redacted != plain:
                report.longrepr = redacted
        report.sections = [(title, self.text(content)) for title, content in report.sections]
        if isinstance(report, pytest.TestReport):
            if hasattr(report, "wasxfail"):
                report.wasxfail = self.text(report.wasxfail)
            report.user_properties = [
                (name, self.text(value) if isinstance(value, str) else value) for name, value in report.user_properties
            ]

    def handler(self, handler: logging.Handler) -> None:
        """Take the secrets out of what a handler writes from now on."""
        if handler.formatter is not None:
            handler.setFormatter(_RedactingFormatter(handler.formatter, self))

    def data(self, value: Any) -> Any:
        """Data in JSON's types, without secrets; keys are kept."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.data(each) for key, each in value.items()}
        return [self.data(each) for each in value] if isinstance(value, list) else value


class _RedactingFormatter(logging.Formatter):
    """Another's lines, without secrets; the record is left as it is, for those who assert on it."""

    def __init__(self, other: logging.Formatter, redactor: Redactor) -> None:
        super().__init__()
        self._other, self._redactor = other, redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(self._other.format(record))


def _spellings(secret: str) -> Iterator[str]:
    """The secret itself, and as Python, JSON and a URL write it."""
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")


def _without_beginning(text: str, secret: str) -> str:
    """``text`` without the beginning of ``secret`` that it ends with."""
    for length in range(min(len(secret), len(text)), _SHORTEST - 1, -1):
        if text.endswith(secret[:length]):
            return text[:-length] + _SHOWN
    return text


def _without_end(text: str, secret: str) -> str:
    """``text`` without the end of ``secret`` that it begins with."""
    for length in range(min(len(secret), len(text)), _SHORTEST - 1, -1):
        if text.startswith(secret[-length:]):
            return _SHOWN + text[length:]
    return text


REDACTOR = pytest.StashKey[Redactor]()
