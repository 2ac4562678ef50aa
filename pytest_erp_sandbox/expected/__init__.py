"""What a rehearsal is expected to change: a text beside its feature, and in how far it came true."""

from __future__ import annotations

from .comparing import compare
from .files import file_for
from .rendering import render

__all__ = ["compare", "file_for", "render"]
