"""Keeps an agent's process: whatever it started ends with it, and it ends with whoever asked for it.

A program of its own, with nothing but the standard library. Its arguments are the descriptor of a pipe, and the agent's
command. While somebody holds the pipe's other end, the agent may run; a pytest that was killed holds nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

GRACE = 2
"""Seconds between SIGTERM, which is the agent's, and SIGKILL, which is for all."""

_PATIENCE = 3
"""Seconds in which what was killed has to be gone."""

_PR_SET_CHILD_SUBREAPER = 36


def main(life: int, command: Sequence[str]) -> None:
    """Run ``command`` to its end, or the end of ``life``, and end as it did: with its exit code, or by its signal."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # It ends by the pipe alone, so that nothing is left behind. The agent begins without this.
        signal.signal(each, lambda *_: None)
    _adopt_orphans()
    try:
        agent = subprocess.Popen(command, start_new_session=True)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")
    threading.Thread(target=_end_with, args=(life, agent), daemon=True).start()
    code = agent.wait()
    _end_group(agent, signal.SIGKILL)
    _end_children()
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a second core, of this program, helps nobody
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _adopt_orphans() -> None:
    """Become the parent of whatever loses its own, of daemons too; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_with(life: int, agent: subprocess.Popen[bytes]) -> None:
    os.read(life, 1)
    _end_group(agent, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        agent.wait(GRACE)
    _end_group(agent, signal.SIGKILL)


def _end_group(agent: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(agent.pid, how)


def _end_children() -> None:
    """End all that is left: our children, and theirs, which become ours when their parents end."""
    deadline = time.monotonic() + _PATIENCE
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            for child in _children():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.005)


def _children() -> list[int]:
    """Our children, as Linux tells them."""
    us, found = str(os.getpid()), []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # A program's name, in parentheses, may have anything in it.
            if file.read_text(errors="replace").rpartition(")")[2].split()[1] == us:
                found.append(int(file.parent.name))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
