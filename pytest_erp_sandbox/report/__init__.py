"""Reports of a run: a page to be read, and the same as data."""

from __future__ import annotations

import json
from pathlib import Path

from .content import Content, report_of
from .files import write_whole

__all__ = ["Content", "report_of", "write_report"]


def write_report(file: Path, content: Content) -> None:
    """Write a report: a page where the file's name ends with ``.html``, else data in JSON.

    Raises:
        OSError: it cannot be written.
    """
    if file.suffix.lower() == ".html":
        from .page import page

        write_whole(file, page(content))
    else:
        write_whole(file, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))
