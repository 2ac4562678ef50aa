"""pytest's face of it: options, markers, header, summary. No work of its own, no heavy import."""

from __future__ import annotations

import gc
import os
import signal
import uuid
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from .errors import AgentError, ErpSandboxError, SettingsError
from .fixtures import *  # noqa: F403 - pytest finds a plugin's fixtures in its module
from .record import LUGGAGE, Luggage, pack
from .redaction import REDACTOR, Redactor
from .run import ASKED, FAILED, REHEARSED, RUN, SETTINGS, worker_input

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from .settings import Settings

PREFIX = "ERP_SANDBOX_"

OVERRIDES = (
    "reset",
    "strategy",
    "journal",
    "verify",
    "refresh",
    "quarantine",
    "strict",
    "demo",
    "keep_failed",
    "lease_timeout",
    "jobs",
    "programs",
    "report",
    "trials",
    "trials_required",
)
"""The settings that have an option, ``--erp-sandbox-…``: all that are no table."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options mirror settings; they win over them."""
    group = parser.getgroup("erp-sandbox", "rehearsals on an ERP sandbox (settings: [tool.erp-sandbox])")
    group.addoption(
        "--erp-sandbox-reset",
        choices=("scenario", "session", "never"),
        help="when the sandbox is put back: before each scenario, once a session, or never",
    )
    group.addoption(
        "--erp-sandbox-strategy",
        choices=("restore", "rewind"),
        help="how it is put back: by restoring the golden dump, or by undoing what was changed since (milliseconds)",
    )
    group.addoption(
        "--erp-sandbox-journal",
        action="store_const",
        const=True,
        help="journal what is changed, so that it can be shown (as the strategy rewind always does)",
    )
    group.addoption(
        "--erp-sandbox-verify",
        action="store_const",
        const=True,
        help="after each rewind, compare all of the sandbox with what it was, by other code than the rewind's",
    )
    group.addoption(
        "--erp-sandbox-refresh",
        choices=("auto", "always", "never"),
        help="when prod is copied into a golden dump: when it is older than golden.max-age, in this run, or never",
    )
    group.addoption(
        "--erp-sandbox-quarantine",
        metavar="PARTS",
        help="what of prod's copy is kept from the outside world: true (all; the default), false, or mail,cron,…",
    )
    group.addoption(
        "--erp-sandbox-strict",
        action="store_const",
        const=True,
        help="refuse to start where prod could be changed: by this account in the cluster, by prod's login",
    )
    group.addoption(
        "--erp-sandbox-demo",
        action="store_const",
        const=True,
        help="rehearse on an embedded demo, in place of a prod and sandbox of your own",
    )
    group.addoption(
        "--erp-sandbox-keep-failed",
        action="store_const",
        const=True,
        help="leave a failed scenario's sandbox as it is, and say how to look at it",
    )
    group.addoption(
        "--erp-sandbox-update-expected",
        action="store_true",
        help='write what each scenario changed into the file that its step "the changes are as expected" compares with',
    )
    group.addoption(
        "--erp-sandbox-lease-timeout",
        metavar="DURATION",
        help="how long a scenario waits for a sandbox that is in use (such as 90s; default: 30min)",
    )
    group.addoption(
        "--erp-sandbox-jobs",
        metavar="N",
        help="connections that a restore uses (default: as many as there are processors here, from 2 to 4)",
    )
    group.addoption(
        "--erp-sandbox-programs",
        metavar="FOLDER",
        type=os.path.abspath,
        help="where pg_dump, pg_restore and psql are looked for first",
    )
    group.addoption(
        "--erp-sandbox-report",
        metavar="FILE",
        action="append",
        type=os.path.abspath,
        help="write what was rehearsed, and what it changed, to FILE.html, or as data to FILE.json; may be repeated",
    )
    group.addoption(
        "--erp-sandbox-trials",
        metavar="N",
        help="how often each scenario that asks an agent is run, each time from the golden state (default: 1)",
    )
    group.addoption(
        "--erp-sandbox-trials-required",
        metavar="RATE",
        help="how many of a scenario's trials have to pass for it to pass as a whole (such as 0.9; default: 1, all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings; without any, the plugin does nothing more."""
    config.addinivalue_line("markers", "no_erp_sandbox: this scenario (or test) needs no sandbox, and resets none")
    config.addinivalue_line(
        "markers", "erp_sandbox_trials(n): run this n times if it asks an agent; of a scenario, @erp_sandbox_trials(n)"
    )
    config.stash[REDACTOR] = Redactor()
    config.stash[LUGGAGE] = Luggage()
    config.stash[RUN] = worker_input(config).get("testrunuid") or uuid.uuid4().hex
    config.stash[SETTINGS] = settings = _read_settings(config)
    if settings is None:
        return
    config.stash[REDACTOR].add(settings.secrets())
    from .trials import Trials

    config.pluginmanager.register(Trials(config, settings), "erp_sandbox_trials")
    if not worker_input(config):
        from .reporting import Reporting

        config.pluginmanager.register(Reporting(config, settings), "erp_sandbox_reporting")
    if any(config.pluginmanager.hasplugin(name) for name in ("pytest-bdd", "pytest_bdd.plugin")):
        from . import agent_steps, change_steps, steps
        from .recording import ScenarioRecorder

        config.pluginmanager.register(steps, "erp_sandbox_steps")
        config.pluginmanager.register(change_steps, "erp_sandbox_change_steps")
        config.pluginmanager.register(agent_steps, "erp_sandbox_agent_steps")
        config.pluginmanager.register(ScenarioRecorder(config.rootpath), "erp_sandbox_recorder")
    _end_orderly_on_sigterm(config)
    # What has been imported stays until the end. To look through it all the same, as the garbage collector does a few
    # times in each run, took a fifth of the time of one that rewinds.
    if gc.get_freeze_count():
        gc.unfreeze()
        gc.collect()  # what an earlier run in this process has left
    gc.freeze()


def _read_settings(config: pytest.Config) -> Settings | None:
    overrides = {name: value for name in OVERRIDES if (value := config.getoption(f"erp_sandbox_{name}")) is not None}
    if not overrides and not _is_configured(config.rootpath):
        return None
    from .loading import load_settings

    try:
        settings = load_settings(config.rootpath, overrides)
        if settings is not None:
            _refuse_more_workers_than_sandboxes(config, settings)
    except SettingsError as error:
        raise pytest.UsageError(f"erp-sandbox: {error}") from None
    return settings


def _is_configured(folder: Path) -> bool:
    """Whether there could be settings; looked at from afar, since reading them takes imports."""
    if any(name.upper().startswith(PREFIX) and not name.upper().startswith(f"{PREFIX}TEST_") for name in os.environ):
        return True
    if (folder / "erp-sandbox.toml").exists():
        return True
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if "erp-sandbox" not in text:
        return False
    import tomllib

    try:
        return "erp-sandbox" in tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError:
        return True  # which reading the settings will say


def _refuse_more_workers_than_sandboxes(config: pytest.Config, settings: Settings) -> None:
    workers = sum(map(_workers, getattr(config.option, "tx", None) or ()))
    sandboxes = 1 if settings.demo else len(settings.all_sandboxes)
    if settings.reset == "session" and workers > sandboxes:
        raise SettingsError(
            f'reset = "session" gives each worker a sandbox for the whole session, but there are {workers} workers'
            f" and {sandboxes} {'sandbox' if sandboxes == 1 else 'sandboxes'}",
            hint="Use fewer workers (-n), more sandboxes, or --erp-sandbox-reset=scenario.",
        )


def _workers(execution: str) -> int:
    """How many pytest-xdist workers a ``--tx`` makes: ``popen`` is one, ``3*popen`` three."""
    times = execution.partition("*")[0]
    return int(times) if times.isdigit() else 1


def _end_orderly_on_sigterm(config: pytest.Config) -> None:
    """Let SIGTERM, with which CI ends jobs, end the run as Ctrl-C does: client programs ended, leases given back."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    try:
        previous = signal.getsignal(signal.SIGTERM)
        if previous is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, interrupt)
            config.add_cleanup(lambda: (signal.signal(signal.SIGTERM, previous), None)[1])
    except ValueError:
        pass  # not in the main thread: signals are somebody else's


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Take secrets out of log files and live logs; pytest has made their handlers by now."""
    logs = session.config.pluginmanager.get_plugin("logging-plugin")
    if logs is not None and session.config.stash[SETTINGS] is not None:
        for handler in (logs.log_file_handler, logs.log_cli_handler):
            session.config.stash[REDACTOR].handler(handler)


def pytest_report_header(config: pytest.Config) -> str | None:
    """One line: what is rehearsed where."""
    settings = config.stash[SETTINGS]
    if settings is None:
        return None
    where = "embedded demo" if settings.demo else ", ".join(place.name for place in settings.all_sandboxes)
    how = " by rewind" if settings.strategy == "rewind" else ""
    trials = f", trials={settings.trials}" if settings.trials > 1 else ""
    golden = _golden_age(settings, config.rootpath)
    return f"erp-sandbox: reset={settings.reset}{how}{trials}, refresh={settings.refresh}{golden}, sandbox: {where}"


def _golden_age(settings: Settings, project: Path) -> str:
    """How old the newest golden dump is: of the prod that the settings name, or of any, where a Secret names it."""
    from .golden import newest_of
    from .summary import human_age

    path: Path | None = settings.golden.path
    named = settings.prod.database() or settings.prod.dump
    if settings.demo:
        from .demo.use import golden_dumps_of

        with suppress(SettingsError):  # it is not installed, which the run will say
            path, named = golden_dumps_of(project), None
    made_at = newest_of(path, None if named is None else str(named)) if path else None
    return f" (golden dump: {human_age(made_at)} old)" if made_at else ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget an earlier attempt: some plugins run a test again that has failed."""
    item.stash[FAILED] = False
    if REHEARSED in item.stash:
        del item.stash[REHEARSED]
    if ASKED in item.stash:
        del item.stash[ASKED]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show our errors as what they say, without a traceback; take secrets out of whatever is shown."""
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, ErpSandboxError):
        if call.when == "setup" and hasattr(report, "wasxfail"):
            # What a scenario is expected to fail for is its own; a sandbox that is not there is nobody's expectation.
            del report.wasxfail
            report.outcome = "failed"
        if not item.config.getoption("fulltrace"):
            report.longrepr = f"{type(error).__name__}: {error}"
    if report.failed and report.when != "teardown":
        item.stash[FAILED] = True
    redactor = item.config.stash[REDACTOR]
    if (sandbox := item.stash.get(REHEARSED, None)) is not None:
        with suppress(AgentError):  # a reset in the test may have made a new key, or none
            redactor.add([sandbox.key])
    if item.config.stash[SETTINGS] is not None:
        from .recording import record

        record(item, report)
    redactor.report(report)
    pack(report, item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Take secrets out of what goes wrong while tests are collected."""
    report = yield
    collector.config.stash[REDACTOR].report(report)
    return report
