"""What an agent was asked, and what it said and did."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Asked"]


@dataclass(frozen=True)
class Asked:
    """One question to the agent's process, and what came of it; without secrets.

    Attributes:
        prompt: what it was asked, on its standard input.
        answer: what it said on its standard output; of a very long one, beginning and end.
        errors: the same of its standard error.
        exit_code: 0 where all is well, negative for the signal that ended it, None where that was the time limit.
        seconds: how long it took.
    """

    prompt: str
    answer: str
    errors: str
    exit_code: int | None
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether the process ended by itself, and said that all is well."""
        return self.exit_code == 0

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.exit_code is None:
            return f"it was ended at its time limit, after {self.seconds:.1f} s"
        if self.exit_code < 0:
            return f"it was ended by signal {-self.exit_code}, after {self.seconds:.1f} s"
        return f"it ended with exit code {self.exit_code}, after {self.seconds:.1f} s"
