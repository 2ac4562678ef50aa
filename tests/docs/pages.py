"""The fenced blocks of README and docs, and which test runs those of which page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]

STORIES: set[str] = set()
"""The pages whose blocks are run in turn, by a test of their own."""

# Sphinx's own ({toctree}) are run by building the site.
_FENCE = re.compile(r"^```(?P<language>[^{\n]*)\n(?P<text>.*?)^```$|^```\{.*?^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the page's path in this repository.
        line: where it begins.
        language: what stands behind the fence.
        text: what is in it.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}-{self.language}"


def blocks_of(file: Path) -> list[Block]:
    page, content = str(file.relative_to(PROJECT)), file.read_text(encoding="utf-8")
    return [
        Block(page, content.count("\n", 0, match.start()) + 1, match["language"], match["text"])
        for match in _FENCE.finditer(content)
        if match["text"] is not None
    ]


ALL = [block for file in PAGES for block in blocks_of(file)]


class Page:
    """A page whose blocks are taken one after the other."""

    def __init__(self, name: str) -> None:
        self.left = [block for block in ALL if block.page == name]
        assert self.left, f"{name} has no block"

    def take(self, language: str) -> str:
        """The next block, which must be of this language."""
        assert self.left, f"there is no {language} any more"
        block = self.left.pop(0)
        assert block.language == language, f"{block} comes before the next {language}"
        return block.text


def story(name: str) -> Callable[[Any], Any]:
    """A test that takes, and runs, every block of a page, by the fixture ``page``."""
    STORIES.add(name)
    return pytest.mark.parametrize("page", [name], indirect=True)
