"""Asking an agent: a process of its own, which is told what to do on its standard input, and answers on its output."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import IO

from . import keeper
from .errors import AgentProcessError, SettingsError

__all__ = ["Asked", "ask", "shown"]

_KEPT = 256 * 1024
"""Bytes that are kept of the beginning, and of the end, of what an agent says."""

_QUOTED = 1000
"""Characters that a message quotes."""

_SHOWN = 20_000
"""Characters that are shown below a failing test."""

_PATIENCE = 30
"""Seconds in which what was killed has to be gone, on a busy machine."""


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
    def ending(self) -> str:
        """How it ended, in words."""
        if self.exit_code is None:
            return f"was ended at its time limit, after {self.seconds:.1f} s"
        if self.exit_code < 0:
            return f"was ended by signal {-self.exit_code}, after {self.seconds:.1f} s"
        return f"ended with exit code {self.exit_code}, after {self.seconds:.1f} s"

    def require_success(self) -> None:
        """Go on only if the process ended by itself, and with exit code 0.

        Raises:
            AgentProcessError: it did not.
        """
        if self.exit_code != 0:
            parts = {
                "it was asked": _beginning(self.prompt, _QUOTED),
                "it said, at the end": _end(self.answer, _QUOTED),
                "and on standard error": _end(self.errors, _QUOTED),
            }
            raise AgentProcessError(f"the agent {self.ending}\n{_listed(parts)}".rstrip())


def shown(asked: Asked) -> str:
    """What was asked and what was said, to be shown below a failing test."""
    parts = {
        "asked": _beginning(asked.prompt, _SHOWN),
        "answered": _end(asked.answer, _SHOWN),
        "on standard error": _end(asked.errors, _SHOWN),
    }
    return f"the agent {asked.ending}\n{_listed(parts)}"


def ask(
    command: Sequence[str],
    prompt: str,
    *,
    environment: Mapping[str, str],
    folder: Path,
    seconds: float,
    clean: Callable[[str], str] = str,
) -> Asked:
    """Ask an agent, and wait for the end of its process; whatever that has started ends with it.

    Args:
        command: the program and its arguments.
        prompt: what it reads from its standard input.
        environment: all of its environment variables.
        folder: its working folder.
        seconds: its time limit.
        clean: takes secrets out of what was said.

    Raises:
        SettingsError: there is no such program.
    """
    if shutil.which(command[0], path=environment.get("PATH")) is None:
        raise SettingsError(
            f"agent.command: there is no program {command[0]}",
            hint="Name one on the PATH, or a path relative to the settings' file; {project} stands for its folder.",
        )
    begun = time.perf_counter()
    life, ours = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(life), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
            pass_fds=[life],
            start_new_session=True,  # Ctrl-C is for pytest, which ends it in order
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(life)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    answer, errors = _Heard(process.stdout), _Heard(process.stderr)
    threading.Thread(target=_tell, args=(process.stdin, prompt), daemon=True).start()
    in_time = True
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        in_time = False
    finally:
        os.close(ours)
        process.wait(_PATIENCE)
    return Asked(
        clean(prompt),
        clean(answer.text()),
        clean(errors.text()),
        process.returncode if in_time else None,
        time.perf_counter() - begun,
    )


class _Heard:
    """What comes out of a pipe until it is closed: of very much, beginning and end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._beginning, self._end, self._lost = bytearray(), bytearray(), 0
        self._listening = threading.Thread(target=self._listen, args=(pipe,), daemon=True)
        self._listening.start()

    def _listen(self, pipe: IO[bytes]) -> None:
        with pipe:
            while piece := os.read(pipe.fileno(), 65536):
                room = _KEPT - len(self._beginning)
                self._beginning += piece[:room]
                self._end += piece[room:]
                surplus = max(0, len(self._end) - _KEPT)
                del self._end[:surplus]
                self._lost += surplus

    def text(self) -> str:
        """All of it, once it was said."""
        self._listening.join(_PATIENCE)
        if not self._lost:
            return _text(self._beginning + self._end)
        # With dots on both sides: so parts of a secret that was cut in two are found.
        return f"{_text(self._beginning)}...\n[{self._lost:,} bytes]\n...{_text(self._end)}"


def _text(said: bytearray) -> str:
    return said.decode(errors="replace").replace("\r\n", "\n")


def _tell(pipe: IO[bytes], prompt: str) -> None:
    with suppress(BrokenPipeError), pipe:  # an agent need not listen
        pipe.write(prompt.encode())


def _listed(parts: Mapping[str, str]) -> str:
    return "\n".join(f"{title}:\n{indent(text, '  ')}" for title, text in parts.items() if text)


def _beginning(text: str, length: int) -> str:
    text = text.strip()
    return text if len(text) <= length else f"{text[:length]}…"


def _end(text: str, length: int) -> str:
    text = text.strip()
    return text if len(text) <= length else f"…{text[-length:]}"
