"""The golden dump: when it is made, when it is taken from the cache, and that it is what prod was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from psycopg.conninfo import conninfo_to_dict

from pytest_erp_sandbox.demo.estate import PROD_DATABASE, PROD_ROLE
from pytest_erp_sandbox.demo.generator import SMALL, fill
from pytest_erp_sandbox.errors import GoldenError, NotASandboxError, PostgresError
from pytest_erp_sandbox.golden import Golden

from .estates import BuiltEstate
from .postgres.pairs import eventually, toolset
from .runs import Runs, Told, estate_on, state_of_prod, state_of_sandbox
from .servers import connect, run

PAIRS = [("15", "15"), ("18", "18"), ("15", "18")]


@pytest.fixture
def runs(estate: BuiltEstate, tmp_path: Path) -> Runs:
    """A project with a cache of its own."""
    return Runs(tmp_path / "project", with_cache(estate.settings(), tmp_path / "cache"))


def with_cache(settings: dict[str, Any], path: Path, **more: object) -> dict[str, Any]:
    return {**settings, "golden": {"path": path, **more}}


def as_if_made(golden: Golden, when: datetime) -> None:
    """Rewrite an entry as if prod had been dumped at another time."""
    from dataclasses import asdict, replace

    from pytest_erp_sandbox.golden import _measured

    manifest = _measured(golden.dump, replace(golden.manifest, made_at=when.isoformat()))
    (golden.folder / "manifest.json").write_text(json.dumps({"format": 3, **asdict(manifest)}))


def remove_agent(estate: BuiltEstate) -> None:
    agent = "(SELECT rowid FROM llx_user WHERE login = 'ai_agent_sandbox')"
    run(
        estate.admin(0),
        f"DELETE FROM llx_user_rights WHERE fk_user = {agent}",
        f"DELETE FROM llx_user WHERE rowid = {agent}",
    )


class TestWhatIsRestored:
    @pytest.mark.parametrize(("prod", "sandbox"), PAIRS)
    def test_is_what_prod_was(self, prod: str, sandbox: str, tmp_path: Path) -> None:
        with estate_on(prod, sandbox, fill=partial(fill, **SMALL)) as estate:
            run(estate.prod.dsn(PROD_DATABASE), "SELECT setval('llx_societe_rowid_seq', 7, false)")
            lookup = "SELECT pg_get_functiondef('user_lookup'::regproc)"
            with connect(estate.admin(0)) as connection:
                provisioned = connection.execute(lookup).fetchone()
            runs = Runs(tmp_path, estate.settings(quarantine=False))
            expected = state_of_prod(estate)
            assert len(expected) > 2000
            # What is restored here is what a first restore gave, dumped again.
            golden = runs.golden()
            with runs.sandbox() as leased:
                leased.reset(golden)
            # The agent is the sandbox's own; its numbers stay taken.
            remove_agent(estate)
            taken = {"state of llx_user_rowid_seq", "state of llx_user_rights_rowid_seq"}
            found = state_of_sandbox(estate)
            assert {name for name in found | expected if found.get(name) != expected.get(name)} <= taken
            with connect(estate.admin(0)) as connection:
                assert connection.execute(lookup).fetchone() == provisioned

    def test_has_a_manifest_that_says_where_it_came_from(self, runs: Runs, estate: BuiltEstate) -> None:
        golden = runs.golden()
        said = json.loads((golden.folder / "manifest.json").read_text())
        place = conninfo_to_dict(estate.estate.prod_dsn.get_secret_value())
        assert said["source"]["name"] == f"'erp' at {place['host']}:{place['port']}"
        assert said["source"]["server_version"].startswith(f"{estate.prod.version}.")
        assert said["server_major"] == estate.sandbox.version
        assert said["tools"]["prod"].startswith(f"{estate.prod.version}.")
        assert said["tools"]["sandbox"].startswith(f"{estate.sandbox.version}.")
        assert said["counts"]["tables"] > 15
        assert datetime.now(UTC) - datetime.fromisoformat(said["made_at"]) < timedelta(minutes=2)
        assert said["size"] == sum(file.stat().st_size for file in golden.dump.iterdir())
        for secret in estate.secrets():
            assert secret not in json.dumps(said)

    def test_is_private(self, runs: Runs) -> None:
        golden = runs.golden()
        for path in [golden.folder, *golden.folder.rglob("*")]:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path

    def test_leaves_nothing_of_prods_own_dump(self, runs: Runs) -> None:
        golden = runs.golden()
        assert sorted(path.name for path in golden.folder.parent.iterdir()) == [".lock", golden.id]
        assert sorted(path.name for path in golden.folder.iterdir()) == ["dump", "manifest.json"]

    def test_has_statistics_of_its_large_tables(self, runs: Runs, estate: BuiltEstate) -> None:
        prod = estate.prod.dsn(PROD_DATABASE)
        run(
            prod,
            f"SET ROLE {PROD_ROLE}",
            "CREATE TABLE llx_large AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 9000)",
            "GRANT SELECT ON llx_large TO erp_readers",
        )
        try:
            golden = runs.golden()
        finally:
            run(prod, "DROP TABLE llx_large")
        with runs.sandbox() as sandbox:
            sandbox.reset(golden)
        with connect(estate.admin(0)) as connection:
            known = connection.execute("SELECT attname FROM pg_stats WHERE tablename = 'llx_large'").fetchall()
        assert known == [("text",)]


class TestAuto:
    def test_takes_what_is_young_enough(self, runs: Runs) -> None:
        first = runs.golden()
        assert runs.golden() == first
        as_if_made(first, datetime.now(UTC) - timedelta(hours=23, minutes=59))
        assert runs.golden().id == first.id

    def test_makes_it_anew_when_it_is_too_old(self, runs: Runs) -> None:
        first = runs.golden()
        as_if_made(first, datetime.now(UTC) - timedelta(hours=24, minutes=1))
        assert runs.golden().id != first.id

    def test_notices_damage_tells_it_and_makes_it_again(self, runs: Runs) -> None:
        first = runs.golden()
        with (first.dump / "toc.dat").open("ab") as file:
            file.write(b" ")
        second = runs.golden()
        assert second.id != first.id
        assert any(f"golden dump {first.id} is damaged" in line and "removed" in line for line in runs.told.lines)
        assert not first.folder.exists()

    def test_does_not_take_another_prods(self, runs: Runs, estate: BuiltEstate) -> None:
        first = runs.golden()
        other = "another-prod"
        with connect(estate.prod.dsn()) as connection:
            connection.execute(f'CREATE DATABASE "{other}" TEMPLATE {PROD_DATABASE}'.encode())
            connection.execute(f'GRANT CONNECT ON DATABASE "{other}" TO PUBLIC'.encode())
        settings = with_cache(estate.settings(), first.folder.parent)
        dsn = conninfo_to_dict(estate.estate.prod_dsn.get_secret_value())
        settings["prod"] = {"dsn": f"postgresql://{dsn['user']}:{dsn['password']}@{dsn['host']}:{dsn['port']}/{other}"}
        runs.configure(settings)
        second = runs.golden()
        assert second.id != first.id
        runs.configure(with_cache(estate.settings(), first.folder.parent))
        assert runs.golden() == first


class TestAlways:
    def test_makes_one_a_run(self, runs: Runs) -> None:
        first = runs.golden()
        second = runs.golden("mine", refresh="always")
        assert second.id != first.id
        assert runs.golden("mine", refresh="always") == second
        assert runs.golden("other", refresh="always").id != second.id


class TestNever:
    def test_needs_no_prod(self, runs: Runs, estate: BuiltEstate) -> None:
        golden = runs.golden()
        settings = with_cache(estate.settings(refresh="never"), golden.folder.parent)
        del settings["prod"]
        runs.configure(settings)
        assert runs.golden() == golden

    def test_does_not_connect_to_it(self, runs: Runs, estate: BuiltEstate) -> None:
        golden = runs.golden()
        as_if_made(golden, datetime.now(UTC) - timedelta(days=900))
        begun = estate.log_size
        assert runs.golden(refresh="never").id == golden.id
        assert estate.said_to_prod(since=begun) == ""

    def test_says_that_there_is_none(self, runs: Runs) -> None:
        with pytest.raises(GoldenError, match=r"no golden dump in .*cache.*\n.*refresh-from-prod"):
            runs.golden(refresh="never")

    def test_takes_none_that_is_damaged(self, runs: Runs) -> None:
        golden = runs.golden()
        (golden.dump / "toc.dat").unlink()
        with pytest.raises(GoldenError, match=rf"no golden dump in .* can be used(.|\n)*{golden.id} is damaged"):
            runs.golden(refresh="never")

    def test_takes_none_of_another_version_and_says_so(self, runs: Runs) -> None:
        golden = runs.golden()
        (golden.folder / "manifest.json").write_text('{"format": 1}')
        with pytest.raises(GoldenError, match=rf"can be used(.|\n)*{golden.id} is of another version of this package"):
            runs.golden(refresh="never")

    def test_does_not_guess_between_two_prods(self, runs: Runs, estate: BuiltEstate, tmp_path: Path) -> None:
        of_server = runs.golden()
        settings = with_cache(estate.settings(), tmp_path / "cache")
        file = dumped(estate, tmp_path / "prod.dump", "-Fc")
        runs.configure({**settings, "prod": {"dump": file}})
        of_file = runs.golden()
        assert of_file.id != of_server.id
        assert runs.golden(refresh="never") == of_file
        runs.configure(settings)
        assert runs.golden(refresh="never") == of_server
        without = {name: value for name, value in settings.items() if name != "prod"}
        runs.configure({**without, "refresh": "never"})
        with pytest.raises(GoldenError, match=rf"several prods.*\n(.*\n)*.*{file}"):
            runs.golden()


def dumped(
    estate: BuiltEstate, to: Path, *options: str, major: int | None = None, database: str = PROD_DATABASE
) -> Path:
    """A dump that somebody made of prod, with all privileges."""
    program = toolset(major or estate.prod.version).program("pg_dump")
    dsn = estate.prod.dsn(database).get_secret_value()
    subprocess.run([program, *options, f"--file={to}", f"--dbname={dsn}"], check=True, capture_output=True)
    return to


class Whole(NamedTuple):
    """A prod database with more than schema public."""

    estate: BuiltEstate
    database: str


@pytest.fixture(scope="module", params=["15", "18"])
def whole(request: pytest.FixtureRequest) -> Iterator[Whole]:
    """A prod with other schemas, an extension, large objects, a publication; and a sandbox on an 18."""
    with estate_on(request.param, "18") as estate:
        run(
            estate.prod.dsn(PROD_DATABASE),
            "CREATE EXTENSION pg_trgm",
            f"CREATE SCHEMA audit AUTHORIZATION {PROD_ROLE}",
            "CREATE TABLE audit.seen (id integer PRIMARY KEY)",
            "CREATE INDEX societe_nom ON llx_societe USING gin (nom gin_trgm_ops)",
            "SELECT lo_from_bytea(0, 'large')",
            "CREATE PUBLICATION out FOR TABLE llx_societe",
        )
        yield Whole(estate, PROD_DATABASE)


@pytest.mark.parametrize("kind", ["-Fc", "-Fd"])
@pytest.mark.parametrize("schema", [[], ["--schema=public"]], ids=["whole", "public"])
def test_a_dump_can_take_prods_place(whole: Whole, kind: str, schema: list[str], tmp_path: Path) -> None:
    estate = whole.estate
    file = dumped(estate, tmp_path / "prod.dump", kind, *schema)
    settings = with_cache(estate.settings(quarantine=False), tmp_path / "cache")
    settings["prod"] = {"dump": file}
    settings["sandboxes"][0]["may-lose"] = ["large objects"]
    runs = Runs(tmp_path / "project", settings)
    if schema:
        # Nor does the dump say that it needs the extension.
        run(estate.admin(0), "CREATE EXTENSION IF NOT EXISTS pg_trgm")
    begun = estate.log_size
    golden = runs.golden()
    with runs.sandbox() as sandbox:
        sandbox.reset(golden)
    assert "COPY" not in estate.said_to_prod(since=begun)
    found, expected = (state(estate) for state in (state_of_sandbox, state_of_prod))
    different = {name for name in found | expected if found.get(name) != expected.get(name)}
    assert {name for name in different if "llx_user" not in name} == set()
    assert (golden.manifest.source.kind, golden.manifest.source.name) == ("file", str(file))


class TestADump:
    @pytest.fixture
    def file(self, estate: BuiltEstate, tmp_path: Path) -> Path:
        return dumped(estate, tmp_path / "prod.dump", "-Fc", "--schema=public")

    @pytest.fixture
    def of_file(self, runs: Runs, estate: BuiltEstate, file: Path, tmp_path: Path) -> Runs:
        runs.configure({**with_cache(estate.settings(), tmp_path / "cache"), "prod": {"dump": file}})
        return runs

    def test_that_has_not_changed_gives_what_is_there_however_old(self, of_file: Runs) -> None:
        first = of_file.golden()
        as_if_made(first, datetime.now(UTC) - timedelta(days=900))
        assert of_file.golden().id == first.id

    def test_that_has_changed_is_made_again(self, of_file: Runs, file: Path) -> None:
        first = of_file.golden()
        os.utime(file, (1, 1))
        assert of_file.golden().id != first.id

    def test_that_is_none_is_refused(self, of_file: Runs, file: Path) -> None:
        file.write_text("-- SQL\n")
        with pytest.raises(PostgresError, match=rf"{file} is not a dump.*\n(.*\n)*.*custom \(-Fc\) or directory"):
            of_file.golden()

    def test_that_is_missing_is_named(self, of_file: Runs, file: Path) -> None:
        file.unlink()
        with pytest.raises(GoldenError, match=rf"{file} \(prod.dump\) cannot be read: No such file"):
            of_file.golden()

    def test_in_tar_format_is_refused(self, of_file: Runs, estate: BuiltEstate, file: Path) -> None:
        dumped(estate, file, "-Ft")
        before = state_of_sandbox(estate)
        with pytest.raises(PostgresError, match=r"tar format.*\n.*-Fc"):
            of_file.golden()
        assert state_of_sandbox(estate) == before

    def test_that_is_cut_short_is_refused_or_fails_loudly(self, of_file: Runs, file: Path) -> None:
        os.truncate(file, file.stat().st_size // 2)
        with pytest.raises(PostgresError):
            of_file.golden()
        assert not list((of_file.folder.parent / "cache").glob("2*"))

    def test_that_was_written_to_a_pipe_will_do(self, of_file: Runs, estate: BuiltEstate, file: Path) -> None:
        program = toolset(estate.prod.version).program("pg_dump")
        dsn = estate.prod.dsn(PROD_DATABASE).get_secret_value()
        writer = subprocess.Popen([program, "-Fc", "--schema=public", f"--dbname={dsn}"], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        with file.open("wb") as to:
            shutil.copyfileobj(writer.stdout, to)
        assert writer.wait() == 0
        golden = of_file.golden()
        with of_file.sandbox() as sandbox:
            sandbox.reset(golden)


class TestRefusedBeforeTheWipe:
    @pytest.fixture(autouse=True)
    def sandbox_stays_as_it_is(self, runs: Runs, estate: BuiltEstate) -> Iterator[None]:
        golden = Runs(runs.folder.parent / "shared", estate.settings()).golden()
        with runs.sandbox() as sandbox:
            sandbox.reset(golden)
        before = state_of_sandbox(estate)
        yield
        assert state_of_sandbox(estate) == before
        with runs.sandbox() as sandbox:
            sandbox.resume()

    def test_a_sandbox_that_is_not_adopted(self, runs: Runs, estate: BuiltEstate) -> None:
        with estate.unadopted(0), pytest.raises(NotASandboxError, match="erp-sandbox adopt"):
            runs.golden()

    def test_what_cannot_come_along(self, runs: Runs, estate: BuiltEstate) -> None:
        prod = estate.prod.dsn(PROD_DATABASE)
        run(
            prod,
            f"SET ROLE {PROD_ROLE}",
            "CREATE POLICY readers ON llx_societe TO erp_readers USING (true)",
        )
        try:
            with pytest.raises(PostgresError, match=r"nothing was wiped\n  policy readers on .*\n.*may-lose"):
                runs.golden()
        finally:
            run(prod, "DROP POLICY readers ON llx_societe")

    def test_a_prod_whose_tables_are_locked(self, runs: Runs, estate: BuiltEstate) -> None:
        runs.add(prod={"dsn": estate.estate.prod_dsn, "lock-wait-timeout": "500ms"})
        with connect(estate.prod.dsn(PROD_DATABASE)) as other, other.transaction():
            other.execute("LOCK TABLE llx_societe")
            said = rf"others lock its tables for longer than .*\n  pid {other.info.backend_pid}, "
            with pytest.raises(PostgresError, match=said):
                runs.golden()

    def test_a_prod_whose_dump_takes_too_long(self, runs: Runs, estate: BuiltEstate) -> None:
        limits = {"lock-wait-timeout": "60s", "dump-timeout": "500ms"}
        runs.add(prod={"dsn": estate.estate.prod_dsn, **limits})
        with connect(estate.prod.dsn(PROD_DATABASE)) as other, other.transaction():
            other.execute("LOCK TABLE llx_societe")
            said = r"pg_dump of prod, .* took longer than 0:00:00\.5.*\n.*prod\.dump-timeout"
            with pytest.raises(PostgresError, match=said):
                runs.golden()

    def test_too_little_room(self, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(runs.folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(GoldenError, match=r"has 1.0 kB free; a golden dump of prod takes about \d.*\n.*forget"):
            runs.golden()


def test_a_sandbox_older_than_prod_is_refused_before_the_dump_and_the_wipe(tmp_path: Path) -> None:
    with estate_on("18", "15") as estate:
        runs = Runs(tmp_path / "project", estate.settings())
        begun, before = estate.log_size, state_of_sandbox(estate)
        with pytest.raises(PostgresError, match=r"sandbox's server \(PostgreSQL 15\) is older than prod's"):
            runs.golden()
        assert "COPY" not in estate.said_to_prod(since=begun)
        file = dumped(estate, tmp_path / "prod.dump", "-Fd")
        runs.configure({**estate.settings(), "prod": {"dump": file}})
        with pytest.raises(PostgresError, match=r"sandbox's server \(PostgreSQL 15\) is older than prod's"):
            runs.golden()
        assert state_of_sandbox(estate) == before


def test_two_processes_at_once_make_one_dump(runs: Runs, estate: BuiltEstate) -> None:
    begun = estate.log_size
    with connect(estate.prod.dsn(PROD_DATABASE)) as connection, connection.transaction():
        # The first one's dump waits until the other one waits for it.
        connection.execute("LOCK TABLE llx_societe IN ACCESS EXCLUSIVE MODE")
        runs.configure({**runs_settings(runs, estate), "refresh": "auto"})
        script = (
            "import sys; from pathlib import Path; from tests.runs import Runs; import tests.test_refresh;"
            "print(tests.test_refresh.golden_in(Path(sys.argv[1])))"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, runs.folder],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[1],
            )
            for _ in range(2)
        ]
        eventually((runs.folder / "waiting").exists, 60)
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    (first, told_first), (second, told_second) = (out.split(maxsplit=1) for out, _ in said)
    assert first == second
    assert sorted("waiting for the golden dumps" in told for told in (told_first, told_second)) == [False, True]
    assert estate.said_to_prod(since=begun).count("COPY public.llx_societe ") == 1


def runs_settings(runs: Runs, estate: BuiltEstate) -> dict[str, Any]:
    settings = with_cache(estate.settings(), runs.folder.parent / "cache")
    settings["prod"]["lock-wait-timeout"] = "60s"
    return settings


class _Waiting(Told):
    """Says so at once, in a file, when it waits for another one's golden dump."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def say(self, text: str) -> None:
        super().say(text)
        if "waiting for the golden dumps" in text:
            self._file.touch()


def golden_in(folder: Path) -> str:
    """The golden dump of the project there, and what was told; for processes of their own."""
    runs = Runs.__new__(Runs)
    runs.folder = folder
    runs.told = _Waiting(folder / "waiting")
    return f"{runs.golden(f'run-{os.getpid()}').id} {runs.told.lines}"


def test_old_ones_go(runs: Runs, estate: BuiltEstate, tmp_path: Path) -> None:
    runs.configure(with_cache(estate.settings(), tmp_path / "cache", keep=1))
    first = runs.golden(refresh="always")
    os.utime(first.folder, (1, 1))
    second = runs.golden(refresh="always")
    assert [path.name for path in second.folder.parent.glob("2*")] == [second.id]
