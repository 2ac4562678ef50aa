"""Two ways to put one sandbox back, on a server with stock settings: the shell script's, and this plugin's."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pytest_erp_sandbox.demo.estate import Estate, build_estate
from pytest_erp_sandbox.demo.generator import Size, fill
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.golden import Golden
from pytest_erp_sandbox.pool import Pool
from pytest_erp_sandbox.postgres.adoption import require_mark
from pytest_erp_sandbox.postgres.inventory import object_counts
from pytest_erp_sandbox.progress import OnProgress, Progress
from pytest_erp_sandbox.refresh import golden_dump
from pytest_erp_sandbox.sandbox import Sandbox
from pytest_erp_sandbox.settings import (
    AgentSettings,
    ErpSettings,
    GoldenSettings,
    ProdSettings,
    SandboxSettings,
    Settings,
)

__all__ = ["Bench", "Reset", "ready"]

_SHELL_RESET = Path(__file__).with_name("shell-reset.sh")


@dataclass(frozen=True)
class Reset:
    """How long a reset of the plugin took, in seconds; what is not one of the parts is made of small things.

    Attributes:
        whole: all that a scenario waits for: checks, wipe, restore, counts, grants, the agent and its key.
        wipe: ``DROP OWNED``.
        restore: ``pg_restore``.
    """

    whole: float
    wipe: float
    restore: float


@dataclass
class Bench:
    """A prod and a leased sandbox on a running server, with a dump of prod for each of the two ways."""

    server: Server
    estate: Estate
    settings: Settings
    sandbox: Sandbox
    golden: Golden
    folder: Path
    steps: _Stopwatch

    def shell_reset(self) -> float:
        """Put the sandbox back as the shell script does; the seconds that it took."""
        self._quieten()
        place = self.estate.sandboxes[0]
        begun = time.perf_counter()
        subprocess.run(
            [_SHELL_RESET, self.server.programs, place.role, self.folder / "list", self.folder / "dump"],
            env=_libpq_environment(place.dsn.get_secret_value()),
            check=True,
        )
        took = time.perf_counter() - begun
        self._expect_whole()
        return took

    def reset(self) -> Reset:
        """Put the sandbox back as the plugin does."""
        self._quieten()
        self.steps.seconds.clear()
        begun = time.perf_counter()
        self.sandbox.reset(self.golden)
        took = time.perf_counter() - begun
        wipe, restore = self.steps.seconds
        return Reset(took, wipe, restore)

    def begin_rewinding(self) -> str:
        """Put the sandbox back as the plugin does where it will be rewound; what the baseline is called."""
        settings = self.settings.model_copy(update={"strategy": "rewind"})
        lease = self.sandbox.lease
        Sandbox(lease, settings.all_sandboxes[0], settings, Progress()).reset(self.golden)
        baseline = require_mark(lease.connection).baseline
        assert baseline is not None
        return baseline

    def _quieten(self) -> None:
        """Write out what the round before left, so that no round pays for another's."""
        with psycopg.connect(self.server.dsn().get_secret_value(), autocommit=True) as admin:
            admin.execute("CHECKPOINT")

    def _expect_whole(self) -> None:
        found = object_counts(self.sandbox.lease.connection, self.estate.sandboxes[0].role)
        if found != self.golden.manifest.counts:
            raise SystemExit(f"the shell script restored {found} instead of {self.golden.manifest.counts}")


@contextmanager
def ready(programs: Path | None, size: Size) -> Iterator[Bench]:
    """Make a server with a prod of this size, and dumps of it for both ways; all of it goes again at the end.

    Args:
        programs: the server's; None is the embedded wheel.
        size: of prod.
    """
    folder = server_folder(f"erp-sandbox-bench-{os.getpid()}")
    try:
        with Server(folder / "server", programs) as server, TemporaryDirectory(prefix="erp-sandbox-bench-") as scratch:
            estate = build_estate(server, fill=partial(fill, **size), sandboxes=2)
            # As a server is that has been up for a while: prod has statistics, and nothing is left to clean up.
            with psycopg.connect(server.dsn("erp").get_secret_value(), autocommit=True) as admin:
                admin.execute("VACUUM (ANALYZE, FREEZE)")
            settings = _settings(estate, Path(scratch) / "golden")
            with _leased(settings) as (sandbox, golden, steps):
                bench = Bench(server, estate, settings, sandbox, golden, Path(scratch), steps)
                _dump_for_shell(bench)
                yield bench
    finally:
        shutil.rmtree(folder)


@contextmanager
def _leased(settings: Settings) -> Iterator[tuple[Sandbox, Golden, _Stopwatch]]:
    steps = _Stopwatch()
    pool = Pool(settings, "bench", steps)
    golden = golden_dump(settings, pool.lease, run="bench", progress=Progress())
    with pool.lease() as sandbox:
        yield sandbox, golden, steps


def _settings(estate: Estate, golden: Path) -> Settings:
    place = estate.sandboxes[0]
    return Settings(
        prod=ProdSettings(dsn=estate.prod_dsn),
        sandbox=SandboxSettings(dsn=place.dsn, role=place.role, erp=ErpSettings(instance_unique_id=place.unique_id)),
        golden=GoldenSettings(path=golden),
        agent=AgentSettings(rights=("societe.*", "facture.*")),
    )


def _dump_for_shell(bench: Bench) -> None:
    """A dump of prod, and its list without what the provisioner's is, which the script's users leave out by hand."""
    dump, programs = bench.folder / "dump", bench.server.programs
    environment = _libpq_environment(bench.estate.prod_dsn.get_secret_value())
    subprocess.run(
        [programs / "pg_dump", "--schema=public", "--format=custom", f"--file={dump}"], env=environment, check=True
    )
    listed = subprocess.run([programs / "pg_restore", "--list", dump], check=True, capture_output=True, text=True)
    lines = [
        line
        for line in listed.stdout.splitlines(keepends=True)
        if not any(what in line for what in (" SCHEMA - public ", " user_lookup(", " ACL ", " DEFAULT ACL "))
    ]
    (bench.folder / "list").write_text("".join(lines))


def _libpq_environment(dsn: str) -> dict[str, str]:
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD"}
    parameters = conninfo_to_dict(dsn)
    return {**os.environ, "LC_ALL": "C", **{name: str(parameters[key]) for key, name in names.items()}}


@dataclass
class _Stopwatch(Progress):
    """Takes the time of each step that a reset tells of."""

    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def step(self, doing: str, unit: str = "objects", total: int | None = None) -> Iterator[OnProgress]:
        begun = time.perf_counter()
        with super().step(doing, unit, total) as on_progress:
            yield on_progress
        self.seconds.append(time.perf_counter() - begun)
