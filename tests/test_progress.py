"""Long work is told of: live on a terminal, in lines elsewhere, not at all when asked to be quiet."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from pytest_erp_sandbox.progress import Lines, Progress, human_size

from .estates import Project

# Work of some length, without waiting for it: a step is worth telling of from the first moment on.
AT_ONCE = "from pytest_erp_sandbox import progress\nprogress._WORTH_A_LINE = 0.0\n"

LIVE = "restoring erp-sandbox …"
LINE = "erp-sandbox: restoring erp-sandbox: "


def on_a_terminal(project: Project, *arguments: str) -> tuple[int, str]:
    """Run pytest with a terminal as its output; its exit code, and all that came there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=project.path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    said = bytearray()
    try:
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux's way to say that nobody has the other end any more
                break
            if not piece:
                break
            said += piece
        return process.wait(timeout=30), said.decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def telling(project: Project) -> Project:
    project.scenarios("there is one Acme", "there is one Acme")
    project.run().expect(0, passed=2)
    project.pytester.makeconftest(AT_ONCE)
    return project


CAPTURES = [[], ["-s"], ["--capture=sys"], ["--capture=fd"], ["--capture=tee-sys"]]


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_live_on_a_terminal(telling: Project, capture: list[str]) -> None:
    code, said = on_a_terminal(telling, *capture)
    assert code == 0, said
    assert LIVE in said
    assert LINE not in said
    assert "2 passed" in said


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_lines_elsewhere_and_what_tests_print_is_captured_as_ever(telling: Project, capture: list[str]) -> None:
    telling.pytester.makepyfile(
        test_print="""
        import sys

        def test_prints(erp_sandbox, capsys):
            print("printed")
            assert capsys.readouterr().out == "printed\\n"
        """
    )
    run = telling.run(*capture).expect(0, passed=3)
    assert LINE in run.text
    assert LIVE not in run.text
    assert "\x1b" not in run.text


def test_nothing_when_quiet(telling: Project) -> None:
    assert "restoring" not in telling.run("-q").text
    assert "restoring" not in on_a_terminal(telling, "-q")[1]


def test_nothing_from_workers(telling: Project) -> None:
    assert "restoring" not in telling.run("-n", "2").expect(0, passed=2).text


def test_short_work_is_not_told_of() -> None:
    lines: list[str] = []
    with Lines(lines.append).step("doing it") as on_progress:
        on_progress(1, 10)
    assert lines == []


def test_silence_takes_everything(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress().step("doing it") as on_progress:
        on_progress(1, 10)
    Progress().say("something")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("size", "shown"), [(999, "999 B"), (1000, "1.0 kB"), (18_200_000, "18.2 MB"), (2e12, "2.0 TB")]
)
def test_sizes_as_people_read_them(size: float, shown: str) -> None:
    assert human_size(size) == shown
