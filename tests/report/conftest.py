"""A browser, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_erp_sandbox.report import Content, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

Opens = Callable[..., "Page"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(PROGRAMS)}")
    with playwright.sync_playwright() as starter:
        running = starter.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield running
        running.close()


@pytest.fixture
def wrong() -> list[str]:
    """What went wrong on pages: a test that wants it takes it out."""
    return []


@pytest.fixture
def opens(browser: Browser, tmp_path: Path, wrong: list[str]) -> Iterator[Opens]:
    """Opens a report in the browser; nothing on its page may go wrong, or ask for anything elsewhere."""
    contexts = []

    def open_report(content: Content, **options: Any) -> Page:
        file = tmp_path / "report.html"
        write_report(file, content)
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: wrong.extend({request.url} - {file.as_uri()}))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(file.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert wrong == []
