"""The receiving end of a stream, as a pod's shell runs it."""

from __future__ import annotations

import hashlib
import io
import os
import re
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
    return f"{len(batch) >> 16}\n".encode() + batch


def end(*batches: bytes) -> bytes:
    return f"0 {hashlib.md5(b''.join(batches), usedforsecurity=False).hexdigest()}\n".encode()


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

BATCHES = TWO[:_BATCH], TWO[_BATCH : 2 * _BATCH], TWO[2 * _BATCH :].ljust(1 << 16, b"\0")
FIRST, SECOND, THIRD = map(announced, BATCHES)
END = end(*BATCHES)

NOT_AS_SENT = "failed: what arrived is not what was sent\n"
STREAMS = {
    "whole": (FIRST + SECOND + THIRD + END, "whole\n"),
    "no end": (FIRST, NOT_AS_SENT),
    "cut in an announcement": (FIRST + SECOND[:3], NOT_AS_SENT),
    "cut in a batch": (FIRST + SECOND[:99], NOT_AS_SENT),
    "a garbled announcement": (FIRST + b"x" + SECOND[1:] + THIRD + END, NOT_AS_SENT),
    "an end that is none": (FIRST + b"x\n", NOT_AS_SENT),
    "a garbled byte in a file": (FIRST + SECOND[:9999] + b"??" + SECOND[10001:] + THIRD + END, NOT_AS_SENT),
    "a batch that is not there": (FIRST + THIRD + END, NOT_AS_SENT),
    "a batch that came twice": (FIRST + SECOND + THIRD + THIRD + END, NOT_AS_SENT),
    "an end without a checksum": (FIRST + SECOND + THIRD + b"0\n", NOT_AS_SENT),
}


@pytest.mark.parametrize("what", STREAMS)
def test_only_what_has_come_whole_is_said_to_be(shell: list[str], what: str, tmp_path: Path) -> None:
    stream, answer = STREAMS[what]
    command = [*shell, "-c", script("receive"), "sh", str(tmp_path / "new")]

    done = subprocess.run(command, input=stream, capture_output=True, check=False, timeout=60)

    assert done.stdout.decode().splitlines(keepends=True)[:1] == [answer]
    assert (done.returncode == 0) == (answer == "whole\n")
    assert answer != "whole\n" or len(list((tmp_path / "new/tree").iterdir())) == 2


@pytest.mark.parametrize("missing", ["md5sum", "tee", "dd", "tar"])
def test_a_program_that_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in {"mkdir", "dd", "cat", "tar", "tee", "md5sum"} - {missing}:
        (programs / name).symlink_to(str(shutil.which(name)))
    command = ["/bin/sh", "-c", script("receive"), "sh", str(tmp_path / "new")]
    stream = FIRST + end(BATCHES[0])

    done = subprocess.run(
        command, input=stream, capture_output=True, check=False, timeout=60, env={"PATH": str(programs)}
    )

    said = done.stdout.decode()
    assert re.match(rf"failed: .*{missing}.*: exit code 127: .*{missing}", said)
    assert "whole" not in said
    assert done.returncode != 0
