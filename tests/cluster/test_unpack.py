"""The receiving end of a stream, as a pod's shell runs it."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from pytest_erp_sandbox.cluster.unpack import _BATCH, script

DASH, BUSYBOX = ["/bin/sh"], ["busybox", "sh"]


@pytest.fixture(params=[DASH, BUSYBOX], ids=["sh", "busybox"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    command: list[str] = request.param
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return command


def announced(batch: bytes) -> bytes:
    return f"{len(batch) >> 16} {hashlib.md5(batch, usedforsecurity=False).hexdigest()}\n".encode() + batch


def archive_of(*sizes: int) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for number, size in enumerate(sizes):
            entry = tarfile.TarInfo(str(number))
            entry.size = size
            tar.addfile(entry, io.BytesIO(os.urandom(size)))
    return written.getvalue()


TWO = archive_of(_BATCH - 512, _BATCH - 512)
"""An archive whose second entry begins with a batch: what comes before is an archive, too."""

FIRST, SECOND = announced(TWO[:_BATCH]), announced(TWO[_BATCH : 2 * _BATCH])

STREAMS = {
    "whole": (FIRST + SECOND + announced(TWO[2 * _BATCH :].ljust(1 << 16, b"\0")) + b"0\n", "whole\n"),
    "no end": (FIRST, "failed: what arrived is not what was sent\n"),
    "cut in an announcement": (FIRST + SECOND[:3], "failed: what arrived is not what was sent\n"),
    "a garbled announcement": (FIRST + b"x" + SECOND[1:] + b"0\n", "failed: what arrived is not what was sent\n"),
    "an end that is none": (FIRST + b"x\n", "failed: what arrived is not what was sent\n"),
    "a garbled batch": (
        FIRST + SECOND[:99] + b"?" + SECOND[100:] + b"0\n",
        "failed: what arrived is not what was sent\n",
    ),
}


@pytest.mark.parametrize("what", STREAMS)
def test_only_what_has_come_whole_is_said_to_be(shell: list[str], what: str, tmp_path: Path) -> None:
    stream, answer = STREAMS[what]
    command = [*shell, "-c", script("receive"), "sh", str(tmp_path / "new")]

    done = subprocess.run(command, input=stream, capture_output=True, check=False, timeout=60)

    assert done.stdout.decode().splitlines(keepends=True)[:1] == [answer]
    assert (done.returncode == 0) == (answer == "whole\n")
    assert len(list((tmp_path / "new/tree").iterdir())) == (2 if answer == "whole\n" else 1)


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("mkdir", "dd", "cat", "tar", "rm"):
        (programs / name).symlink_to(str(shutil.which(name)))
    command = ["/bin/sh", "-c", script("receive"), "sh", str(tmp_path / "new")]

    done = subprocess.run(
        command, input=FIRST + b"0\n", capture_output=True, check=False, timeout=60, env={"PATH": str(programs)}
    )

    assert done.stdout.decode().startswith("failed: md5sum: exit code 127")
