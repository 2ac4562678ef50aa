"""The parts of the quarantine, by the names that settings and manifests have for them."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["PARTS", "Part"]

Part = Literal[
    "mail", "cron", "webhooks", "notifications", "collectors", "payments", "oauth", "connectors", "api-keys", "banner"
]

PARTS: tuple[Part, ...] = get_args(Part)
