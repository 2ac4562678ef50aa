"""Rehearse what an AI agent would do to an ERP, on a sandbox that is put back before every scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import (
    AgentError,
    AgentProcessError,
    ClusterError,
    ErpSandboxError,
    GoldenError,
    LeaseError,
    NotASandboxError,
    PostgresError,
    PreflightError,
    QuarantineError,
    SettingsError,
)

if TYPE_CHECKING:
    from .asking import Asked
    from .changes import Change
    from .sandbox import Sandbox

__all__ = [
    "AgentError",
    "AgentProcessError",
    "Asked",
    "Change",
    "ClusterError",
    "ErpSandboxError",
    "GoldenError",
    "LeaseError",
    "NotASandboxError",
    "PostgresError",
    "PreflightError",
    "QuarantineError",
    "Sandbox",
    "SettingsError",
]


def __getattr__(name: str) -> object:
    # Every pytest run imports this package; what these need is loaded by those who use them.
    if name == "Sandbox":
        from .sandbox import Sandbox

        return Sandbox
    if name == "Asked":
        from .asking import Asked

        return Asked
    if name == "Change":
        from .changes import Change

        return Change
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
