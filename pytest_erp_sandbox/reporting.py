"""A run's end: the summary on the terminal, and the reports that were asked for."""

from __future__ import annotations

import time
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from .record import LUGGAGE
from .redaction import REDACTOR
from .results import Results

if TYPE_CHECKING:
    from pathlib import Path

    from .settings import Settings

__all__ = ["Reporting"]


class Reporting(Results):
    """A part of the plugin where reports arrive: in the process that people see.

    Raises:
        pytest.UsageError: a report's file cannot be written.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        super().__init__(config.stash[LUGGAGE])
        self._config = config
        self._settings = settings
        self._begun = time.time()
        self._written: list[str] = []
        if settings.report and not config.getoption("collectonly"):
            from .report.files import require_writable

            try:
                for file in settings.report:
                    require_writable(file)
            except OSError as error:
                raise pytest.UsageError(
                    f"erp-sandbox: the report {file} cannot be written: {error.strerror or error}"
                ) from None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the reports, of an interrupted run, too; one that cannot be written fails the run."""
        self.hand_over()
        if not self._settings.report or self._config.getoption("collectonly"):
            return
        from .report import report_of, write_report

        data = self._config.stash[REDACTOR].data(
            report_of(
                self,
                self._settings,
                project=_name_of(self._config.rootpath),
                begun=datetime.fromtimestamp(self._begun, UTC),
                interrupted=exitstatus == pytest.ExitCode.INTERRUPTED,
            )
        )
        for file in self._settings.report:
            try:
                write_report(file, data)
                self._written.append(f"report: {file}")
            except OSError as error:
                self._written.append(f"the report {file} could not be written: {error.strerror or error}")
                if session.exitstatus == pytest.ExitCode.OK:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What was done, and what deserves a look."""
        from .summary import summary

        texts = [*summary(self, verbosity=self._config.get_verbosity()), *self._written]
        if texts:
            terminalreporter.section("erp-sandbox")
            for text in texts:
                terminalreporter.line(self._config.stash[REDACTOR].text(text))


def _name_of(project: Path) -> str:
    """What the project calls itself, else its folder's name."""
    try:
        name = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = ""
    return name if isinstance(name, str) and name else project.name
