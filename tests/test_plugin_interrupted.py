"""Ctrl-C and SIGTERM, at any time: the run ends soon, nothing of it goes on, and the next one is as any other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from .estates import BuiltEstate, Project
from .servers import connect

SOON = 40
"""Seconds; pytest-xdist alone gives its workers ten."""

STAGES = ("dump", "wipe", "restore", "scenario")

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'erp-sandbox%' AND wait_event_type IN ('Lock', 'Timeout')
"""


def await_(what: Callable[[], object], patience: float = SOON) -> None:
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _is_idle(dsn: object) -> bool:
    return not is_waiting(lambda: dsn)()


def is_waiting(dsn_of: Callable[[], object]) -> Callable[[], bool]:
    """Whether a session of the plugin's waits for a lock, or sleeps, in that database."""

    def ask() -> bool:
        with connect(dsn_of()) as connection:  # type: ignore[arg-type]
            return connection.execute(WAITING).fetchone() != (0,)

    return ask


class Stages:
    """Has a run stop at some stage of its work, until it is interrupted."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.estate = project.estate
        settings = self.estate.settings(refresh="always")
        settings["golden"]["path"] = "cache"
        settings["prod"]["lock-wait-timeout"] = settings["sandboxes"][0]["lock-timeout"] = "5min"
        project.configure(settings)
        project.scenarios("there is one Acme", "there is one Acme")
        self.prod = self.estate.prod.dsn("erp")
        self.sandbox = self.estate.admin(0)

    @contextmanager
    def dump(self) -> Iterator[Callable[[], bool]]:
        with connect(self.prod) as owner, owner.transaction():
            owner.execute("LOCK TABLE llx_societe")
            yield is_waiting(lambda: self.prod)

    @contextmanager
    def wipe(self) -> Iterator[Callable[[], bool]]:
        with connect(self.sandbox) as somebody, somebody.transaction():
            somebody.execute("LOCK TABLE llx_societe IN ACCESS SHARE MODE")
            yield is_waiting(lambda: self.sandbox)

    @contextmanager
    def restore(self) -> Iterator[Callable[[], bool]]:
        with connect(self.prod) as owner:
            owner.execute("SET ROLE erp_role")
            owner.execute(
                """
                CREATE FUNCTION slow(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                    IF current_database() <> 'erp' THEN PERFORM pg_catalog.pg_sleep(300); END IF;
                    RETURN 0;
                END $$;
                CREATE TABLE slow AS SELECT 1 AS x;
                CREATE INDEX ON slow (slow(x));
                """
            )
            try:
                yield is_waiting(lambda: self.sandbox)
            finally:
                owner.execute("DROP TABLE slow; DROP FUNCTION slow")

    @contextmanager
    def scenario(self) -> Iterator[Callable[[], bool]]:
        steps = self.project.path / "test_parties.py"
        quick = steps.read_text()
        steps.write_text(quick.replace("fetchone() == (1,)", "fetchone(); erp_db.execute('SELECT pg_sleep(300)')"))
        yield is_waiting(lambda: self.sandbox)
        steps.write_text(quick)


@pytest.fixture
def stages(project: Project) -> Stages:
    stages = Stages(project)
    project.run().expect(0, passed=2)
    return stages


def members(session: int) -> list[str]:
    """The processes of a session, which are those that a run started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((folder / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def interrupt(process: subprocess.Popen[str], how: str) -> None:
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.Signals[how])


@pytest.mark.parametrize(
    ("stage", "workers", "how"),
    [
        *((stage, [], "SIGTERM") for stage in STAGES),
        *((stage, ["-n", "2"], "Ctrl-C") for stage in STAGES),
        ("restore", [], "Ctrl-C"),
        ("scenario", [], "SIGINT"),
        ("scenario", ["-n", "2"], "SIGTERM"),
    ],
    ids=str,
)
def test_interrupted(stages: Stages, estate: BuiltEstate, stage: str, workers: list[str], how: str) -> None:
    project = stages.project
    with getattr(stages, stage)() as reached:
        process = project.start(*workers)
        try:
            await_(reached)
            interrupt(process, how)
            said = process.communicate(timeout=SOON)[0]
        finally:
            process.kill()
            process.wait()
        assert process.returncode == pytest.ExitCode.INTERRUPTED, said
        assert "INTERNALERROR" not in said, said
        assert members(process.pid) == []
        # With the lock still held: nothing of the run waits for it any more.
        for dsn in (stages.prod, stages.sandbox):
            await_(partial(_is_idle, dsn))
    assert not list(project.path.glob("cache/.making-*"))
    project.run("--erp-sandbox-refresh=auto").expect(0, passed=2)
