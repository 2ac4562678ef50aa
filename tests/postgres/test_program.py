from __future__ import annotations

import re
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres.program import finish, run, start

from .pairs import eventually, interrupted_when

SECRET = SecretStr("hush-5f0e9d")
"""Its value stands in no source: a traceback shows source lines."""


def python(script: str) -> list[str]:
    return [sys.executable, "-c", f"import os, sys, time, signal\n{script}"]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_secrets_are_in_the_environment_and_nowhere_else(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f"open({str(seen)!r}, 'w').write(os.environ['PGPASSWORD'] + ' ' + ' '.join(sys.orig_argv))"

    run(python(script), {"PGPASSWORD": SECRET}, doing="looking")

    password, arguments = seen.read_text().split(" ", 1)
    assert password == SECRET.get_secret_value()
    assert password not in arguments


@pytest.mark.parametrize("command", [python("sys.exit(3)"), ["/nowhere/pg_dump"], ["/etc/passwd"]])
def test_a_failure_shows_no_secret_in_any_local_variable(command: list[str]) -> None:
    with pytest.raises(PostgresError) as caught:
        run(command, {"PGPASSWORD": SECRET}, doing="failing")

    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "secrets" in shown
    assert SECRET.get_secret_value() not in shown


def test_the_first_error_is_the_cause_with_what_belongs_to_it() -> None:
    script = r"""print('''pg_restore: going on
pg_restore: from TOC entry 7; 1259 1 TABLE t me
pg_restore: error: could not do it: ERROR:  first
DETAIL:  Failing row contains (1, my secret).
CONTEXT:  COPY t, line 3: "my secret"
Command was: CREATE TABLE t (
    id integer
);
pg_restore: error: second''', file=sys.stderr); sys.exit(1)"""

    with pytest.raises(PostgresError) as caught:
        run(python(script), {}, doing="the work")

    assert str(caught.value) == (
        "the work failed (exit code 1): pg_restore: error: could not do it: ERROR:  first\n"
        "At: 1259 1 TABLE t me\nDETAIL:  Failing row contains …\nCONTEXT:  COPY t, line 3\n"
        "Command was: CREATE TABLE t (\n    id integer"
    )


# What servers of other languages say, from their message catalogues.
ROWS = {
    "a row": "ERROR:  no\nDETAIL:  Failing row contains (1, hush,\nhush: hush, f).",
    "a key": "ERROR:  no\nDETAIL:  Key (api_key)=(hush) already exists.",
    "two keys": "ERROR:  no\nDETAIL:  Key (a, b)=(hush, hush) conflicts with existing key (a, b)=(hush, hush).",
    "a token": 'ERROR:  no\nDETAIL:  Token "hush" is invalid.\nCONTEXT:  JSON data, line 1: hush',
    "a line": 'ERROR:  no\nCONTEXT:  COPY t2, line 3, column b: "hush\nDETAIL of hush"',
    "parameters": "ERROR:  no\nCONTEXT:  unnamed portal with parameters: $1 = 'hush'",
    "a partition": "ERROR:  no\nDETAIL:  Partition key of the failing row contains (nom) = (hush).",
    "a statement": "ERROR:  no\nCONTEXT:  SQL statement \"UPDATE t SET a = 'hush'\"\nPL/pgSQL function f() of hush",
    "a command": "ERROR:  no\nCommand was: INSERT INTO public.t VALUES (1, 'hush');\nhush",
    "a value": 'ERROR:  invalid input syntax for type integer: "hush"\nCONTEXT:  COPY t, line 1, column a: "hush"',
    "a German row": "FEHLER:  nein\nDETAIL:  Fehlgeschlagene Zeile enthält (1, hush).",
    "a German key": "FEHLER:  nein\nDETAIL:  Schlüssel »(api_key)=(hush)« existiert bereits.",
    "a German line": "FEHLER:  nein\nCONTEXT:  COPY t2, Zeile 3: »1 hush«",
    "a French line": "ERREUR:  non\nCONTEXT:  COPY t2, ligne 3 : « 1 hush »",
    "a Korean line": '오류:  a\nCONTEXT:  t2 복사, 3번째 줄: "hush"',
}


@pytest.mark.parametrize("case", ROWS)
def test_no_row_that_a_server_quotes_is_shown_in_any_language(case: str) -> None:
    said = f"psql:more.sql:3: {ROWS[case]}\npsql:more.sql:4: the end"
    told: list[str] = []
    with pytest.raises(PostgresError) as caught:
        run(python(f"print({said!r}, file=sys.stderr); sys.exit(3)"), {}, doing="work", watch=told.append)
    for shown in (str(caught.value), *told):
        assert "hush" not in shown
    assert re.search(r"psql:more.sql:3: \S+:  \S", str(caught.value))
    assert told[-1] == "psql:more.sql:4: the end"


def test_what_quotes_no_row_is_shown() -> None:
    said = (
        "pg_restore: error: could not execute query: ERROR:  cannot drop table a\nDETAIL:  view b depends on table a\n"
        "CONTEXT:  PL/pgSQL function f() line 3 at SQL statement\nCommand was: CREATE TABLE b (\n    id integer"
    )
    with pytest.raises(PostgresError) as caught:
        run(python(f"print({said!r}, file=sys.stderr); sys.exit(3)"), {}, doing="work")
    assert said in str(caught.value)


def test_a_failure_without_an_error_shows_the_last_words() -> None:
    with pytest.raises(PostgresError, match=r"work failed \(exit code 4\): almost\nthere$"):
        run(python("print('almost\\nthere', file=sys.stderr); sys.exit(4)"), {}, doing="work")


def test_a_program_that_a_signal_ends_has_failed() -> None:
    with pytest.raises(PostgresError, match="ended by SIGKILL"):
        run(python("os.kill(os.getpid(), signal.SIGKILL)"), {}, doing="work")


def test_what_a_program_says_neither_stops_it_nor_fills_memory() -> None:
    script = """
sys.stderr.write('error: begins\\n')
for _ in range(300_000): sys.stderr.write('    goes on and on ' * 5 + '\\n')
for _ in range(500): sys.stderr.write('x' * 100_000)
sys.exit(1)"""
    before = peak_memory()

    with pytest.raises(PostgresError) as caught:
        run(python(script), {}, doing="chatting", timeout=timedelta(minutes=1))

    assert len(str(caught.value)) < 100_000
    assert peak_memory() - before < 20_000


def peak_memory() -> int:
    """In kB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def test_the_watcher_sees_each_line() -> None:
    lines: list[str] = []

    run(python("print('one\\ntwo', file=sys.stderr)"), {}, doing="work", watch=lines.append)

    assert lines == ["one", "two"]


def test_a_watcher_that_fails_stops_nothing_and_is_heard_of() -> None:
    def watch(line: str) -> None:
        raise ZeroDivisionError(line)

    with pytest.raises(ZeroDivisionError, match=r"^0$"):
        run(python("for n in range(100_000): print(n, file=sys.stderr)"), {}, doing="work", watch=watch)


STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)
"""


@pytest.mark.parametrize("begin", ["", "os.fork()\n"], ids=["alone", "with a worker"])
def test_a_time_limit_ends_the_program_and_its_workers(tmp_path: Path, begin: str) -> None:
    with pytest.raises(PostgresError, match=r"work took longer than 0:00:00.5"):
        run(python(begin + noting(tmp_path) + "time.sleep(100)"), {}, doing="work", timeout=timedelta(seconds=0.5))

    for pid in noted(tmp_path):
        eventually(lambda pid=pid: not is_running(pid))  # type: ignore[misc]


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_erp_sandbox.postgres.program._PATIENCE", 0.2)

    with pytest.raises(PostgresError, match="took longer"):
        run(python(STUBBORN + noting(tmp_path) + "time.sleep(100)"), {}, doing="work", timeout=timedelta(seconds=0.5))

    assert not any(is_running(pid) for pid in noted(tmp_path))


def test_a_worker_that_outlives_its_killed_program_is_ended(tmp_path: Path) -> None:
    script = noting(tmp_path) + "if os.fork() == 0: time.sleep(100)\nos.kill(os.getpid(), signal.SIGKILL)"
    begun = time.monotonic()

    with pytest.raises(PostgresError, match="SIGKILL"):
        run(python(script), {}, doing="work")

    assert time.monotonic() - begun < 50


def test_ctrl_c_ends_the_program(tmp_path: Path) -> None:
    with interrupted_when(lambda: noted(tmp_path)), pytest.raises(KeyboardInterrupt):
        run(python(noting(tmp_path) + "time.sleep(100)"), {}, doing="work")

    assert not any(is_running(pid) for pid in noted(tmp_path))


def test_its_workers_may_say_goodbye_to_the_server_after_it_has_ended(tmp_path: Path) -> None:
    # pg_restore ends at once; its workers then ask the server to cancel their statements.
    script = (
        "leader = os.getpid(); worker = os.fork() == 0\n"
        "def goodbye(*_):\n"
        "    if worker:\n"
        "        while os.getppid() == leader: time.sleep(0.01)\n"
        f"        open({str(tmp_path / 'goodbye')!r}, 'w').close()\n"
        "    os._exit(1)\n"
        "signal.signal(signal.SIGINT, goodbye)\n" + noting(tmp_path) + "time.sleep(100)"
    )
    with interrupted_when(lambda: len(noted(tmp_path)) == 2), pytest.raises(KeyboardInterrupt):
        run(python(script), {}, doing="work")

    assert (tmp_path / "goodbye").exists()


def noting(folder: Path) -> str:
    return f"open({str(folder)!r} + '/' + str(os.getpid()), 'w').close()\n"


def noted(folder: Path) -> list[int]:
    return [int(file.name) for file in folder.iterdir()]


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        (["sys.exit(0)", "sys.exit(2)"], r"exit code 0, exit code 2"),
        (["sys.exit('ERROR: cause')", "sys.exit('error: pipe')"], r"ERROR: cause$"),
    ],
)
def test_a_pipeline_fails_with_any_of_its_programs_by_the_first_ones_cause(scripts: list[str], message: str) -> None:
    with pytest.raises(PostgresError, match=message):
        finish([start(python(script), {}) for script in scripts], doing="work")


def test_messages_are_plain_english_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    monkeypatch.setenv("PG_COLOR", "always")
    lines: list[str] = []

    run(
        python("print(os.environ['LC_ALL'], os.environ['PG_COLOR'], file=sys.stderr)"),
        {},
        doing="work",
        watch=lines.append,
    )

    assert lines == ["C never"]
