"""Statements that live in .sql files beside their modules."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import LiteralString

__all__ = ["query"]


@cache
def query(package: str, name: str) -> LiteralString:
    """The text of the package's file ``name``."""
    return files(package).joinpath(name).read_text(encoding="utf-8")
