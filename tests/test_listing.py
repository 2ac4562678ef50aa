"""What differs in folders of files, and the steps back; with the very scripts that run in pods."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_erp_sandbox.cluster.unpack import script
from pytest_erp_sandbox.listing import Listing, Verb, differences, read_listing, steps_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the scripts are for pods: GNU's or busybox's programs")

OWNER = "Deployment erp-sandbox/dolibarr"

BUILD = r"""
mkdir -p top/logos/thumbs top/empty "top/with space" top/closed top/deep/deeper
echo one >top/one; : >top/none; echo logo >top/logos/logo.png
printf 'a\0b\377\n' >"top/with space/na$(printf '\303\257')ve
second line"
ln -s logos/logo.png top/link; ln -s nowhere top/dangling; ln -s logos top/to-folder; ln -s "a
b" top/odd
chmod 640 top/one; chmod 700 top/closed; echo x >top/closed/x; echo y >top/deep/deeper/y
n=0; while [ $n -lt 520 ]; do echo $n >top/logos/thumbs/$n; n=$((n + 1)); done
"""

CHANGES = {
    "a file of the same size, with the time that it had": "echo two >top/one && touch -d '2020-01-01' top/one",
    "a file in place": "echo more >>top/logos/logo.png",
    "a file's mode": "chmod 600 top/one",
    "a file removed": "rm top/none",
    "a file added": "echo new >top/new",
    "a file with an odd name": "rm top/with*/*; echo x >'top/with space/r*d\n- x'",
    "a folder added, with files": "mkdir -p top/added/more && echo x >top/added/more/x && echo y >top/added/y",
    "a folder removed": "rm -r top/logos",
    "an empty folder removed": "rmdir top/empty",
    "a folder closed": "chmod 000 top/closed",
    "a folder that became a file": "rm -r top/deep && echo x >top/deep",
    "a file that became a folder": "rm top/one && mkdir top/one && echo x >top/one/x",
    "a folder that became a link out": "rm -r top/logos && ln -s ../outside top/logos",
    "a link that leads elsewhere": "ln -sfn ../outside/precious top/link",
    "a link that became a file": "rm top/dangling && echo x >top/dangling",
    "a file that became a link": "rm top/one && ln -s ../outside/precious top/one",
    "files that look like neighbours": "echo x >top/deep-er; mkdir top/deep.d; echo y >top/deep.d/y; rm -r top/deep",
    "all of it": "rm -r top",
    "all of it, for a file": "rm -r top && echo x >top",
    "a file moved into a new folder": "mkdir top/n; mv top/logos/thumbs/8 top/n/8; chmod 711 top",
}

SHELLS = [["/bin/sh"], *([[busybox, "sh"]] if (busybox := shutil.which("busybox")) else [])]


class Folders:
    """Folders of files, and a golden copy of them."""

    def __init__(self, path: Path, shell: list[str]) -> None:
        self.path, self._shell = path, shell
        self._environment = dict(os.environ)
        if "busybox" in shell[0]:
            programs = path.parent / "busybox"
            programs.mkdir()
            subprocess.run([shell[0], "--install", "-s", str(programs)], check=True)
            self._environment["PATH"] = str(programs)

    def start(self, text: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [*self._shell, "-c", text, "sh", *arguments]
        folder, pipe = self.path if self.path.exists() else self.path.parent, subprocess.PIPE
        return subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, env=self._environment)

    def sh(self, text: str, *arguments: str, stdin: bytes = b"") -> bytes:
        with self.start(text, *arguments) as running:
            said, complaint = running.communicate(stdin)
        assert running.returncode == 0, complaint
        return said

    def keep(self) -> None:
        (self.path / ".erp-sandbox").write_text(f"{OWNER}\n")
        self.sh(script("keep"), str(self.path), script("list"), "top")

    def now(self) -> Listing:
        return read_listing(self.sh(script("list"), str(self.path), "top"))

    def golden(self) -> Listing:
        return read_listing((self.path / ".erp-sandbox-golden" / "listing").read_bytes())

    def put_back(self) -> Listing:
        steps = b"".join(verb.encode() + path + b"\0" for verb, path in steps_back(self.golden(), self.now()))
        arguments = (str(self.path), OWNER, script("list"), "top")
        return read_listing(self.sh(script("put_back"), *arguments, stdin=f"{len(steps)}\n".encode() + steps))


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[0]).name)
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> Folders:
    path = tmp_path / "documents"
    path.mkdir()
    made = Folders(path, request.param)
    made.sh(BUILD)
    made.sh("mkdir outside && echo precious >outside/precious")
    made.keep()
    return made


def contents(path: Path) -> dict[str, object]:
    """What the files are, found by other code."""
    found: dict[str, object] = {}
    for each in sorted([path, *path.rglob("*")] if path.exists() else []):
        status = each.lstat()
        content: object = None
        if each.is_symlink():
            content = os.readlink(each)
        elif each.is_file():
            content = (each.read_bytes(), int(status.st_mtime))
        found[str(each.relative_to(path.parent))] = (status.st_mode, content)
    return found


def test_what_was_not_touched_takes_no_step(folders: Folders) -> None:
    assert len(folders.golden()) > 520
    assert steps_back(folders.golden(), folders.now()) == []


def test_reading_a_file_is_no_change(folders: Folders) -> None:
    folders.sh("cat top/one top/logos/thumbs/* >/dev/null; ls -lR top >/dev/null")
    assert steps_back(folders.golden(), folders.now()) == []


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_was_changed_is_put_back(folders: Folders, change: str) -> None:
    before = contents(folders.path / "top")
    folders.sh(change)
    assert contents(folders.path / "top") != before
    found = folders.put_back()
    assert differences(folders.golden(), found) == []
    assert contents(folders.path / "top") == before
    assert (folders.path / "outside" / "precious").read_text() == "precious\n"


def test_only_what_was_changed_is_copied(folders: Folders) -> None:
    folders.sh("echo x >top/logos/thumbs/7; echo new >top/new; rm top/none; touch -d 2020-01-01 top top/logos/thumbs")
    assert steps_back(folders.golden(), folders.now()) == [
        (Verb.SETTLE, b"top"),
        (Verb.SETTLE, b"top/logos/thumbs"),
        (Verb.REMOVE, b"top/new"),
        (Verb.COPY, b"top/logos/thumbs/7"),
        (Verb.COPY, b"top/none"),
        (Verb.SETTLE, b"top/logos/thumbs"),
        (Verb.SETTLE, b"top"),
    ]


def test_without_the_marker_nothing_is_put_back(folders: Folders) -> None:
    folders.sh("echo new >top/new; rm .erp-sandbox")
    with pytest.raises(AssertionError, match="the marker is gone"):
        folders.put_back()
    assert (folders.path / "top" / "new").exists()


@pytest.mark.parametrize(
    "fault",
    ["rm -r .erp-sandbox-golden", "ln -s /dev/full .erp-sandbox-golden/steps", 'rm -r "$PWD"'],
    ids=["no golden copy", "no room", "no documents"],
)
def test_all_of_the_steps_are_read_even_where_they_cannot_be_taken(folders: Folders, fault: str) -> None:
    """An older kubelet never tells of the end of a program that leaves some unread; and stdin stays open."""
    folders.sh(fault)
    steps = b"rtop/new\0" * 20_000  # more than a pipe holds
    with folders.start(script("put_back"), str(folders.path), OWNER, script("list"), "top") as running:
        assert running.stdin is not None
        running.stdin.write(f"{len(steps)}\n".encode() + steps)
        running.stdin.flush()
        assert running.wait(30) == 1


def test_steps_that_are_cut_off_are_not_taken(folders: Folders) -> None:
    folders.sh("mkdir top/new && echo x >top/new/x && echo y >top/new/y")
    steps = b"rtop/new/x\0"
    with pytest.raises(AssertionError, match="the steps are cut off"):
        folders.sh(script("put_back"), str(folders.path), OWNER, script("list"), "top", stdin=b"11\n" + steps[:8])
    assert (folders.path / "top" / "new" / "y").exists()


def test_a_listing_that_is_cut_off_is_refused(folders: Folders) -> None:
    listed = folders.sh(script("list"), str(folders.path), "top")
    for length in (len(listed) - 1, len(listed) // 2, 700):
        with pytest.raises(ValueError, match=r".*"):
            read_listing(listed[:length])


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_what_cannot_be_listed_whole_is_no_listing(shell: list[str]) -> None:
    # Not pytest's folder, which nobody else may pass through.
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder, "top", "closed")
        closed.mkdir(parents=True)
        Path(folder).chmod(0o755)
        closed.chmod(0)
        done = subprocess.run(
            [*shell, "-c", script("list"), "sh", folder, "top"],
            user=65534 if os.geteuid() == 0 else None,
            capture_output=True,
            check=False,
        )
        closed.chmod(0o700)
    assert done.returncode != 0
    assert b"closed" in done.stderr
