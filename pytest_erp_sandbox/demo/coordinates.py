"""Where a running demo is, and its secrets: what its service leaves in a file for its users."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pydantic import SecretStr, TypeAdapter

__all__ = ["GOLDEN", "Demo", "DemoSandbox"]

GOLDEN = "golden"
"""The folder of golden dumps among what is a demo's."""


@dataclass(frozen=True)
class DemoSandbox:
    """A sandbox of the demo's.

    Attributes:
        name: its database's.
        dsn: of a login that is a member of ``role``.
        role: the owner of the database.
        url: of the demo's ERP in front of it.
        unique_id: that ERP's instance unique id.
    """

    name: str
    dsn: SecretStr
    role: str
    url: str
    unique_id: SecretStr


@dataclass(frozen=True)
class Demo:
    """A prod, its sandboxes, and an ERP in front of each.

    Attributes:
        folder: what is the demo's, over its runs; nobody else can read it.
        prod_dsn: of a login that can only read.
        sandboxes: at least one.
    """

    folder: Path
    prod_dsn: SecretStr
    sandboxes: tuple[DemoSandbox, ...]

    @property
    def golden_path(self) -> Path:
        """Where this demo's golden dumps go."""
        return self.folder / GOLDEN

    def save(self, path: Path) -> None:
        """Write this for ``load``, secrets included, in one step and for this user alone."""
        unfinished = path.with_name(f"{path.name}.unfinished")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(asdict(self), default=_plain))
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        return TypeAdapter(cls).validate_json(path.read_bytes())


def _plain(value: SecretStr | Path) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
