"""Fixtures in layers, each of which a conftest may override."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from .errors import ErpSandboxError, LeaseError, PreflightError, SettingsError
from .record import tell
from .redaction import REDACTOR, AgentEnvironment
from .run import ASKED, FAILED, REHEARSED, RUN, SETTINGS, note, note_reset, once_a_run, progress
from .scenarios import is_scenario

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from .asking import Asked
    from .changes import ChangeSet
    from .golden import Golden
    from .pool import Pool
    from .postgres.connection import SandboxConnection
    from .preflight import Report
    from .sandbox import Sandbox
    from .settings import Settings

__all__ = [
    "erp_agent",
    "erp_agent_env",
    "erp_api",
    "erp_changes",
    "erp_db",
    "erp_sandbox",
    "erp_sandbox_for_scenarios",
    "erp_sandbox_golden",
    "erp_sandbox_of_session",
    "erp_sandbox_pool",
    "erp_sandbox_preflight",
    "erp_sandbox_settings",
    "erp_sandbox_trial",
]


@pytest.fixture(scope="session")
def erp_sandbox_settings(pytestconfig: pytest.Config) -> Iterator[Settings]:
    """The settings of this run; with ``demo``, the demo is started and they lead to it."""
    settings = pytestconfig.stash[SETTINGS]
    if settings is None:
        raise SettingsError(
            f"there are no settings for a sandbox in {pytestconfig.rootpath}",
            hint="Write [tool.erp-sandbox] into pyproject.toml, or try it with --erp-sandbox-demo.",
        )
    from .demo.settings import with_demo
    from .reach import reached

    with with_demo(settings, pytestconfig.rootpath) as complete, reached(complete, progress(pytestconfig).say) as ready:
        yield ready


@pytest.fixture(scope="session")
def erp_sandbox_preflight(
    erp_sandbox_settings: Settings, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Report:
    """The report of the invariants, asked once a run; if one does not hold, nothing is written and the run ends."""
    from .preflight import Report, preflight_of

    # Here, so that those of a conftest's own settings are known too.
    request.config.stash[REDACTOR].add(erp_sandbox_settings.secrets())
    ours = False

    def ask() -> str:
        nonlocal ours
        ours = True
        return preflight_of(erp_sandbox_settings).to_json()

    try:
        report = Report.from_json(once_a_run(request.config, tmp_path_factory, "preflight", ask))
        tell(request.config, preflight=report.plain())
        if report.failed and not ours:
            raise PreflightError("preflight failed, as another worker reports; nothing was written")
        report.raise_for_failures()
    except ErpSandboxError:
        request.session.shouldfail = "erp-sandbox: preflight failed"
        raise
    return report


@pytest.fixture(scope="session")
def erp_sandbox_pool(
    erp_sandbox_settings: Settings,
    erp_sandbox_preflight: Report,  # noqa: ARG001 - nothing is leased before it
    pytestconfig: pytest.Config,
) -> Iterator[Pool]:
    """The sandboxes, one or several, of which each scenario leases one."""
    from .pool import Pool

    with closing(Pool(erp_sandbox_settings, pytestconfig.stash[RUN], progress(pytestconfig))) as pool:
        yield pool


@pytest.fixture(scope="session")
def erp_sandbox_golden(
    erp_sandbox_settings: Settings,
    erp_sandbox_pool: Pool,
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Golden:
    """The golden dump that resets restore: from the cache, or made anew from prod, once a run."""
    from .golden import GoldenCache
    from .refresh import golden_dump

    erp_sandbox_pool.require(erp_sandbox_settings)
    run, settings = pytestconfig.stash[RUN], erp_sandbox_settings
    if settings.reset == "never":
        # A step asks for it, whose scenario has the sandbox in which a new one would be prepared.
        settings = settings.model_copy(update={"refresh": "never"})

    def get() -> str:
        return golden_dump(settings, erp_sandbox_pool.lease, run=run, progress=progress(pytestconfig)).id

    name = once_a_run(pytestconfig, tmp_path_factory, "golden", get)
    golden = GoldenCache(settings.golden.path, settings.golden.keep).entry(name)
    tell(pytestconfig, golden={**golden.plain(), "made_now": golden.manifest.run == run})
    return golden


@pytest.fixture(scope="session")
def erp_sandbox_of_session(
    request: pytest.FixtureRequest, erp_sandbox_pool: Pool, erp_sandbox_golden: Golden
) -> Iterator[Sandbox]:
    """With ``reset = "session"``: the sandbox that all scenarios share, reset once."""
    with erp_sandbox_pool.rehearsal(erp_sandbox_golden) as sandbox:
        note_reset(request, sandbox)
        yield sandbox


@pytest.fixture
def erp_sandbox(request: pytest.FixtureRequest, erp_sandbox_settings: Settings) -> Iterator[Sandbox]:
    """A sandbox of this scenario's own, reset and ready; automatic for pytest-bdd scenarios."""
    with _sandbox_of(request, erp_sandbox_settings) as sandbox:
        request.node.stash[REHEARSED] = sandbox
        tell(request.config, sandboxes={sandbox.name: sandbox.where})
        request.config.stash[REDACTOR].add([sandbox.key])
        if sandbox.idle_sessions_left:
            note(
                request.config,
                f"{sandbox.name}: idle sessions",
                f"{sandbox.name}: sessions of other logins were open across a reset, which leaves them with outdated"
                " plans and types:\n" + "\n".join(f"  {session}" for session in sandbox.idle_sessions_left),
            )
        yield sandbox
        if erp_sandbox_settings.keep_failed and request.node.stash.get(FAILED, False):
            _keep(request, erp_sandbox_settings, sandbox)


@contextmanager
def _sandbox_of(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Sandbox]:
    pool: Pool = request.getfixturevalue("erp_sandbox_pool")
    pool.require(settings)
    if settings.reset == "session":
        yield request.getfixturevalue("erp_sandbox_of_session")
        return
    # Without a reset the sandbox is taken as it is, and no golden dump is needed.
    golden = None if settings.reset == "never" else request.getfixturevalue("erp_sandbox_golden")
    try:
        with pool.rehearsal(golden) as sandbox:
            if golden is not None:
                note_reset(request, sandbox)
            yield sandbox
    except LeaseError:
        if pool.all_kept:
            request.session.shouldfail = "erp-sandbox: every sandbox is kept for inspection"
        raise
    except OSError as error:
        # As one of ours it is an error of the setup's, whatever a test is expected to fail for.
        raise ErpSandboxError(f"the sandbox was not made ready: {error}", hint="See what is wrong with it.") from error


def _keep(request: pytest.FixtureRequest, settings: Settings, sandbox: Sandbox) -> None:
    how = sandbox.keep(request.config.stash[RUN])
    note(request.config, f"{sandbox.name}: kept", f"{request.node.nodeid}: {how}")
    if settings.reset == "session" or len(settings.all_sandboxes) == 1:
        # The next scenario would change what is to be looked at.
        request.session.shouldfail = f"erp-sandbox: {sandbox.name} is kept for inspection"


@pytest.fixture(autouse=True)
def erp_sandbox_for_scenarios(request: pytest.FixtureRequest) -> None:
    """Gives every pytest-bdd scenario its sandbox, before its first step; other tests ask for ``erp_sandbox``."""
    # pytest-bdd's own hook runs too late: what fails there is a FAILED scenario, not an ERROR at its setup.
    if (
        is_scenario(request.fixturenames)
        and request.config.stash[SETTINGS] is not None
        and request.node.get_closest_marker("no_erp_sandbox") is None
    ):
        request.getfixturevalue("erp_sandbox")


@pytest.fixture
def erp_sandbox_trial(request: pytest.FixtureRequest) -> int:
    """Which trial this is, from 1 on, of a test that asks an agent."""
    return getattr(request, "param", 1)


@pytest.fixture
def erp_api(erp_sandbox: Sandbox) -> Iterator[httpx.Client]:
    """An ``httpx.Client`` of the ERP's API, authenticated as the agent; paths are relative to ``/api/index.php/``."""
    with erp_sandbox.api() as client:
        yield client


@pytest.fixture
def erp_db(erp_sandbox: Sandbox) -> Iterator[SandboxConnection]:
    """A psycopg connection to the sandbox's database, in autocommit mode, as the owner of everything in it."""
    with erp_sandbox.connect() as connection:
        yield connection


@pytest.fixture
def erp_changes(erp_sandbox: Sandbox) -> Callable[..., ChangeSet]:
    """What was changed since the reset: ``erp_changes()``, ``erp_changes("llx_societe", kind="inserted")``.

    Each ``Change`` has table, key, kind, before and after, with typed values. Needs ``journal = true``, or the
    strategy ``rewind``. Secrets are redacted (``changes.redact``), and what ``changes.ignore`` names is left out, by
    default columns ``tms`` and what Dolibarr writes by itself.
    """
    return erp_sandbox.changes


@pytest.fixture
def erp_agent_env(erp_sandbox: Sandbox) -> AgentEnvironment:
    """What an agent's process needs to know, as environment variables: ``DOLIBARR_URL`` and ``DOLAPIKEY``."""
    return AgentEnvironment(DOLIBARR_URL=erp_sandbox.url, DOLAPIKEY=erp_sandbox.key.get_secret_value())


@pytest.fixture
def erp_agent(
    request: pytest.FixtureRequest, erp_sandbox_settings: Settings, erp_agent_env: AgentEnvironment, tmp_path: Path
) -> Callable[[str], Asked]:
    """Asks the agent (``agent.command``), each time in a new process: ``erp_agent("…").answer`` is what it said.

    It gets ``DOLIBARR_URL`` and ``DOLAPIKEY``, and works in a folder of its own, ``tmp_path / "agent"``, which is its
    home, too, and the same for all that it is asked in one test. Raises ``AgentProcessError`` where its exit code is
    not 0, or at its time limit (``agent.timeout``).
    """
    from .asking import ask

    agent, redactor = erp_sandbox_settings.agent, request.config.stash[REDACTOR]
    if not agent.command:
        raise SettingsError(
            "there is no agent to be asked: agent.command is not set",
            hint='Set it, such as command = ["python3", "{project}/agent.py"] in [tool.erp-sandbox.agent].',
        )
    folder = tmp_path / "agent"
    folder.mkdir()
    conversation = request.node.stash.setdefault(ASKED, [])

    def ask_agent(prompt: str) -> Asked:
        asked = ask(
            agent.command,
            prompt,
            environment={"HOME": str(folder), **agent.inherited(), **erp_agent_env},
            folder=folder,
            seconds=agent.timeout.total_seconds(),
            clean=redactor.text,
        )
        conversation.append(asked)
        asked.require_success()
        return asked

    return ask_agent
