"""The errors of this plugin: each message says what happened, to what, and what to do."""

from __future__ import annotations

__all__ = [
    "AgentError",
    "AgentProcessError",
    "ClusterError",
    "ErpSandboxError",
    "GoldenError",
    "LeaseError",
    "NotASandboxError",
    "PostgresError",
    "PreflightError",
    "QuarantineError",
    "SettingsError",
]


class ErpSandboxError(Exception):
    """Anything that this plugin could not do; shown to people without a traceback.

    The message says what happened and to what; ``hint``, when given, says what to do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  → {self.hint}" if self.hint else message


class SettingsError(ErpSandboxError):
    """A setting is missing, unknown or not usable."""


class PreflightError(ErpSandboxError):
    """An invariant does not hold; nothing was written."""


class NotASandboxError(ErpSandboxError):
    """Something was about to be wiped or changed that is not known to be a sandbox's."""


class PostgresError(ErpSandboxError):
    """A PostgreSQL server, or one of its client programs, refused or failed."""


class GoldenError(ErpSandboxError):
    """The golden dump is missing, damaged or cannot be made."""


class LeaseError(ErpSandboxError):
    """A sandbox is in use by someone else, or our hold on it was lost."""


class AgentError(ErpSandboxError):
    """The agent's user, rights or key could not be made, or the ERP does not accept them."""


class AgentProcessError(ErpSandboxError):
    """The agent's process failed, or did not come to an end in time."""


class QuarantineError(ErpSandboxError):
    """The sandbox knows a way to the outside world that its quarantine should have closed."""


class ClusterError(ErpSandboxError):
    """The Kubernetes cluster, or a program in one of its pods, refused or failed.

    Attributes:
        status: the HTTP status of the API server's refusal; 0 where it refused nothing.
    """

    status = 0
