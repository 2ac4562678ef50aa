"""Asking an agent: what its process gets, what is heard of it, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_erp_sandbox.asking import Asked, ask
from pytest_erp_sandbox.errors import AgentProcessError, SettingsError

from .estates import Project
from .test_plugin_interrupted import await_
from .test_steps import rehearse

Asks = Callable[..., Asked]

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
open(os.path.join(os.environ["HOME"], sys.argv[1]), "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture
def asks(tmp_path: Path) -> Asks:
    """Asks an agent that is this Python program, with a prompt and a time limit."""

    def asks(program: str, prompt: str = "", seconds: float = 60, **environment: str) -> Asked:
        variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment}
        command = [sys.executable, "-c", program]
        return ask(command, prompt, environment=variables, folder=tmp_path, seconds=seconds)

    return asks


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(folder: Path, *names: str) -> list[int]:
    await_(lambda: all((folder / name).exists() and (folder / name).read_text() for name in names))
    return [int((folder / name).read_text()) for name in names]


class TestWhatIsHeard:
    def test_is_output_errors_exit_code_and_time(self, asks: Asks) -> None:
        asked = asks("import sys; print('á', sys.stdin.read()); print('oh', file=sys.stderr); sys.exit(3)", "naïve?")
        assert (asked.prompt, asked.answer, asked.errors, asked.exit_code) == ("naïve?", "á naïve?\n", "oh\n", 3)
        assert 0 < asked.seconds < 60
        with pytest.raises(AgentProcessError, match=r"(?s)ended with exit code 3.*naïve\?.*oh"):
            asked.require_success()

    def test_is_the_signal_that_ended_it(self, asks: Asks) -> None:
        for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
            asked = asks(f"import os; os.kill(os.getpid(), {int(number)})")
            assert asked.exit_code == -number
            with pytest.raises(AgentProcessError, match=f"ended by signal {int(number)}"):
                asked.require_success()

    def test_is_beginning_and_end_of_very_much(self, asks: Asks) -> None:
        asked = asks("import sys; sys.stdout.write('beginning'); sys.stdout.write('x' * 50_000_000); print('end')")
        assert asked.exit_code == 0
        assert len(asked.answer) < 1_000_000
        assert asked.answer.startswith("beginningxxx")
        assert asked.answer.endswith("xxxend\n")
        assert "bytes]\n...x" in asked.answer

    def test_is_whatever_it_is_made_of(self, asks: Asks) -> None:
        assert asks(r"import os; os.write(1, b'a\xff\r\n\0b')").answer == "a\ufffd\n\0b"

    def test_need_not_be_asked_for(self, asks: Asks) -> None:
        assert asks("print('done')", "long prompt " * 1_000_000).exit_code == 0

    def test_comes_from_a_program_that_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "plain").write_text("no program")
        for name in ("no-such-agent", str(tmp_path / "plain")):
            with pytest.raises(SettingsError, match="there is no program"):
                ask([name], "", environment={"PATH": os.environ["PATH"]}, folder=tmp_path, seconds=1)
        (tmp_path / "plain").chmod(0o755)
        asked = ask([str(tmp_path / "plain")], "", environment={}, folder=tmp_path, seconds=20)
        assert asked.exit_code == 1
        assert "cannot be started: Exec format error" in asked.errors


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; only Linux has subreapers")
class TestNothingIsLeft:
    def test_at_the_time_limit(self, asks: Asks, tmp_path: Path) -> None:
        begun = time.monotonic()
        asked = asks(
            f"import subprocess, sys\nprint('thinking', flush=True)\n"
            f"subprocess.Popen([sys.executable, '-c', {STUBBORN!r}, 'child'])\n"
            f"subprocess.Popen([sys.executable, '-c', {STUBBORN!r}, 'apart'], start_new_session=True)\n"
            f"exec({STUBBORN.replace('sys.argv[1]', repr('leader'))!r})",
            seconds=3,
        )
        assert time.monotonic() - begun < 20
        assert asked.exit_code is None
        assert asked.answer == "thinking\n"
        assert not any(map(is_running, pids(tmp_path, "leader", "child", "apart")))
        with pytest.raises(AgentProcessError, match="at its time limit, after 5"):
            asked.require_success()

    def test_after_its_end(self, asks: Asks, tmp_path: Path) -> None:
        asked = asks(
            f"import os, subprocess, sys, time\n"
            f"def start(name, **how): subprocess.Popen([sys.executable, '-c', {STUBBORN!r}, name], **how)\n"
            f"start('child')\n"
            f"if os.fork() == 0:\n"
            f"    os.setsid()\n"
            f"    start('daemon', start_new_session=True)\n"
            f"    os._exit(0)\n"
            f"names = [os.path.join(os.environ['HOME'], name) for name in ('child', 'daemon')]\n"
            f"while not all(os.path.exists(name) and os.path.getsize(name) for name in names): time.sleep(0.01)\n"
        )
        assert asked.exit_code == 0
        assert not any(map(is_running, pids(tmp_path, "child", "daemon")))

    def test_a_sigterm_is_heard_before_the_end(self, asks: Asks) -> None:
        asked = asks(
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit('I have to go'))\n"
            "time.sleep(600)",
            seconds=1,
        )
        assert (asked.exit_code, asked.errors) == (None, "I have to go\n")

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
    @pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["plain", "worker"])
    def test_of_a_run_that_is_ended(self, project: Project, how: signal.Signals, workers: tuple[str, ...]) -> None:
        program = f"exec({STUBBORN.replace('sys.argv[1]', repr('leader'))!r})"
        configure(project, [sys.executable, "-c", program])
        project.pytester.makepyfile(test_one="def test_one(erp_agent): erp_agent('')\n")
        base = project.path / "base"
        run = project.start(f"--basetemp={base}", *workers)
        try:
            await_(lambda: list(base.rglob("leader")))
            folder = next(base.rglob("leader")).parent
            (leader,) = pids(folder, "leader")
            os.kill(run.pid, how)
            await_(lambda: not is_running(leader))
            run.communicate(timeout=60)
        finally:
            run.kill()


def configure(project: Project, command: list[str], **agent: object) -> None:
    settings = project.estate.settings(strategy="rewind")
    settings["agent"].update(command=command, **agent)
    project.configure(settings)


class TestItsProcess:
    @pytest.fixture(autouse=True)
    def surroundings(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PGPASSWORD", "ERP_SANDBOX_TEST_ANYTHING", "SOME_TOKEN", "MODEL_KEY"):
            monkeypatch.setenv(name, f"the {name.lower()} of somebody")
        (project.path / "agent.py").write_text(
            "import json, os, sys\nprint(json.dumps({'env': dict(os.environ), 'cwd': os.getcwd(), 'args': sys.argv,"
            " 'fds': [fd for fd in os.listdir('/proc/self/fd')], 'session': os.getsid(0) == os.getpid(),"
            " 'parent': open(f'/proc/{os.getppid()}/environ').read()}))\n"
        )

    def seen(self, project: Project, test: str, *arguments: str) -> None:
        project.pytester.makepyfile(
            test_one=f"import json, os\ndef test_one(erp_agent, erp_agent_env, tmp_path):\n"
            f"    seen = json.loads(erp_agent('').answer)\n{test}"
        )
        project.run(*arguments).expect(0, passed=1)

    def test_has_what_it_needs_and_no_secret_of_the_runs(self, project: Project) -> None:
        configure(project, [sys.executable, "{project}/agent.py", "--in={project}"], environment=["MODEL_KEY"])
        self.seen(
            project,
            """
    env = seen["env"]
    assert env.pop("MODEL_KEY") == "*" * 10
    # Redacted, as is whatever is said.
    assert "DOLAPIKEY" in env and env.pop("DOLIBARR_URL") == erp_agent_env["DOLIBARR_URL"]
    harmless = {"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    assert {name for name in env if not name.startswith("LC_")} <= harmless | {"HOME", "DOLAPIKEY"}
    assert "somebody" not in str(seen)
    assert seen["cwd"] == env["HOME"] == str(tmp_path / "agent")
    assert seen["args"][1] == f"--in={os.getcwd()}"
    assert seen["session"]
    assert len(seen["fds"]) == 4  # three, and the listing's own
""",
        )

    def test_works_in_a_folder_that_only_its_user_can_look_into(self, project: Project) -> None:
        configure(project, [sys.executable, "{project}/agent.py"])
        self.seen(project, "    assert (tmp_path.stat().st_mode & 0o077) == 0\n")

    def test_finds_what_it_left_when_it_is_asked_again(self, project: Project) -> None:
        (project.path / "remembers").write_text("#!/bin/sh\ncat >>memory\ncat memory\n")
        (project.path / "remembers").chmod(0o755)
        configure(project, ["./remembers"])
        rehearse(
            project,
            'When the agent is asked "a"\nAnd the agent is asked "b"\nThen the agent answered "ab"',
            'When the agent is asked "c"\nThen the agent answered "c"',
            arguments=(),
        ).expect(0, passed=2)

    def test_gets_no_setting_of_ours(self, project: Project) -> None:
        configure(project, ["agent"], environment=["ERP_SANDBOX_PROD__DSN"])
        run = project.run()
        assert run.code == pytest.ExitCode.USAGE_ERROR
        assert "agent (erp-sandbox.toml): ERP_SANDBOX_PROD__DSN" in run.text

    def test_can_be_anything_else_that_answers(self, project: Project) -> None:
        project.pytester.makeconftest(
            "import pytest\nfrom pytest_erp_sandbox import Asked\n@pytest.fixture\ndef erp_agent():\n"
            "    return lambda prompt: Asked(prompt, prompt.upper(), '', 0, 0.1)\n"
        )
        steps = 'When the agent is asked "yes"\nThen the agent answered "YES"'
        rehearse(project, steps, arguments=()).expect(0, passed=1)


class TestWhatIsShown:
    def test_of_a_failing_one_is_what_it_was_asked_and_said_without_secrets(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MODEL_KEY", "sk-abcdef0123456789")
        program = (
            "import os, sys, urllib.parse\nkey = os.environ['DOLAPIKEY']\n"
            "open(os.path.join(os.environ['HOME'], 'key'), 'w').write(key)\n"
            "print('I use', key, 'and', os.environ['MODEL_KEY'])\n"
            "print('x' * 300_000, flush=True)\n"
            "sys.stderr.write(('y' * (256 * 1024 - 20)) + key + 'z' * 10_000_000)\n"
            "sys.exit(7)"
        )
        configure(project, [sys.executable, "-c", program], environment=["MODEL_KEY"])
        steps = 'When the agent is asked:\n"""\nPlease,\ndo it\n"""\nThen the agent answered "done"'
        run = rehearse(project, steps, arguments=("--junitxml=report.xml", "-l", "-rA", "--basetemp=base"))
        run.expect_error(
            "AgentProcessError: the agent ended with exit code 7",
            "it was asked:\n  Please,\n  do it",
            "-- the agent --",
            failed=1,
        )
        (key,) = [file.read_text() for file in (project.path / "base").rglob("key")]
        written = run.text + (project.path / "report.xml").read_text()
        assert "sk-abcdef0123456789" not in written
        assert key not in written
        assert not [part for part in (key[:10], key[-10:]) if part in written]

    def test_of_an_answer_that_is_another_is_the_answer(self, project: Project) -> None:
        (project.path / "echo").write_text("#!/bin/sh\ncat; echo; echo second line\n")
        (project.path / "echo").chmod(0o755)
        configure(project, ["./echo"])
        asked = 'When the agent is asked "first"\n'
        rehearse(
            project,
            asked + 'Then the agent answered:\n"""\nfirst\nsecond line\n"""\nAnd the agent\'s answer contains "cond"',
            asked + "Then the agent's answer contains:\n| first |\n| line |",
            'When the agent calls GET "thirdparties/1"\nThen the answer\'s "name" is kept as "name"\n'
            'When the agent is asked "{name}"\nThen the agent\'s answer contains "{name}"',
            arguments=(),
        ).expect(0, passed=3)
        rehearse(
            project,
            asked + 'Then the agent answered "second"',
            asked + "Then the agent's answer contains:\n| first |\n| third |\n| 4th |",
            'Then the agent answered ""',
            arguments=(),
        ).expect_error(
            "the agent answered:\nfirst\nsecond line",
            "there is no 'third', no '4th' in what the agent answered:\nfirst",
            "the agent has not been asked anything yet",
            failed=3,
        )

    def test_without_a_command_is_what_to_do(self, project: Project) -> None:
        project.pytester.makepyfile(test_one="def test_one(erp_agent): pass\n")
        project.run().expect_error("there is no agent to be asked", "[tool.erp-sandbox.agent]", error=1)

    def test_of_a_time_limit_is_the_limit(self, project: Project) -> None:
        program = "print('wait', flush=True); import time; time.sleep(600)"
        configure(project, [sys.executable, "-c", program], timeout="1s")
        run = rehearse(project, 'When the agent is asked "now"', arguments=())
        run.expect_error("the agent was ended at its time limit, after 1.", "it said, at the end:\n  wait", failed=1)


def test_a_baseline_is_the_same_whatever_the_agents_command_is(project: Project) -> None:
    project.pytester.makepyfile(test_one="def test_one(erp_sandbox): assert erp_sandbox.last_reset.strategy == 'WAY'\n")
    way = (project.path / "test_one.py").read_text()
    for strategy, command, timeout in (("restore", "a", "1s"), ("rewind", "b", "2s")):
        configure(project, [command], timeout=timeout, environment=["HOME"], login="another_agent")
        (project.path / "test_one.py").write_text(way.replace("WAY", strategy))
        project.run().expect(0, passed=1)
