"""Fixtures in layers, each of which a conftest may override."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from .errors import LeaseError, PreflightError, SettingsError
from .redaction import REDACTOR, AgentEnvironment
from .run import FAILED, RUN, SETTINGS, SUMMARY, once_a_run, progress

if TYPE_CHECKING:
    import httpx

    from .golden import Golden
    from .pool import Pool
    from .postgres.connection import SandboxConnection
    from .preflight import Report
    from .sandbox import Sandbox
    from .settings import Settings

__all__ = [
    "erp_agent_env",
    "erp_api",
    "erp_db",
    "erp_sandbox",
    "erp_sandbox_for_scenarios",
    "erp_sandbox_golden",
    "erp_sandbox_of_session",
    "erp_sandbox_pool",
    "erp_sandbox_preflight",
    "erp_sandbox_settings",
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

    with with_demo(settings, pytestconfig.rootpath) as complete:
        pytestconfig.stash[REDACTOR].add(complete.secrets())
        yield complete


@pytest.fixture(scope="session")
def erp_sandbox_preflight(
    erp_sandbox_settings: Settings, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Report:
    """The report of the invariants, asked once a run; if one does not hold, nothing is written and the run ends."""
    from .preflight import Report, preflight_of

    text = once_a_run(
        request.config, tmp_path_factory, "preflight", lambda: preflight_of(erp_sandbox_settings).to_json()
    )
    report = Report.from_json(text)
    request.config.stash[SUMMARY].extend(f"preflight: {finding}" for finding in report.warnings)
    try:
        report.raise_for_failures()
    except PreflightError:
        request.session.shouldfail = "erp-sandbox: preflight failed"
        raise
    return report


@pytest.fixture(scope="session")
def erp_sandbox_pool(
    erp_sandbox_settings: Settings,
    erp_sandbox_preflight: Report,  # noqa: ARG001 - nothing is leased before it
    pytestconfig: pytest.Config,
) -> Pool:
    """The sandboxes, one or several, of which each scenario leases one."""
    from .pool import Pool

    return Pool(erp_sandbox_settings, pytestconfig.stash[RUN], progress(pytestconfig))


@pytest.fixture(scope="session")
def erp_sandbox_golden(erp_sandbox_settings: Settings, erp_sandbox_pool: Pool, pytestconfig: pytest.Config) -> Golden:
    """The golden dump that resets restore: from the cache, or made anew from prod, once a run."""
    from .refresh import golden_dump

    return golden_dump(
        erp_sandbox_settings,
        erp_sandbox_pool.lease,
        run=pytestconfig.stash[RUN],
        progress=progress(pytestconfig),
    )


@pytest.fixture(scope="session")
def erp_sandbox_of_session(erp_sandbox_pool: Pool, erp_sandbox_golden: Golden) -> Iterator[Sandbox]:
    """With ``reset = "session"``: the sandbox that all scenarios share, reset once."""
    with erp_sandbox_pool.rehearsal(erp_sandbox_golden) as sandbox:
        yield sandbox


@pytest.fixture
def erp_sandbox(request: pytest.FixtureRequest, erp_sandbox_settings: Settings) -> Iterator[Sandbox]:
    """A sandbox of this scenario's own, reset and ready; automatic for pytest-bdd scenarios."""
    if erp_sandbox_settings.reset == "session":
        sandbox = request.getfixturevalue("erp_sandbox_of_session")
        yield sandbox
        _keep_if_failed(request, erp_sandbox_settings, sandbox)
        return
    pool: Pool = request.getfixturevalue("erp_sandbox_pool")
    # Without a reset the sandbox is taken as it is, and no golden dump is needed.
    golden = None if erp_sandbox_settings.reset == "never" else request.getfixturevalue("erp_sandbox_golden")
    try:
        with pool.rehearsal(golden) as sandbox:
            request.config.stash[REDACTOR].add([sandbox.key])
            yield sandbox
            _keep_if_failed(request, erp_sandbox_settings, sandbox)
    except LeaseError:
        if pool.all_kept:
            request.session.shouldfail = "erp-sandbox: every sandbox is kept for inspection"
        raise


def _keep_if_failed(request: pytest.FixtureRequest, settings: Settings, sandbox: Sandbox) -> None:
    if settings.keep_failed and request.node.stash.get(FAILED, False):
        how = sandbox.keep(request.config.stash[RUN])
        request.config.stash[SUMMARY].append(f"{request.node.nodeid}: {how}")


@pytest.fixture(autouse=True)
def erp_sandbox_for_scenarios(request: pytest.FixtureRequest) -> None:
    """Gives every pytest-bdd scenario its sandbox, before its first step; other tests ask for ``erp_sandbox``."""
    # pytest-bdd's own hook runs too late: what fails there is a FAILED scenario, not an ERROR at its setup.
    is_scenario = "_pytest_bdd_example" in request.fixturenames
    if (
        is_scenario
        and request.config.stash[SETTINGS] is not None
        and request.node.get_closest_marker("no_erp_sandbox") is None
    ):
        request.getfixturevalue("erp_sandbox")


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
def erp_agent_env(erp_sandbox: Sandbox) -> AgentEnvironment:
    """What an agent's process needs to know, as environment variables: ``DOLIBARR_URL`` and ``DOLAPIKEY``."""
    return AgentEnvironment(DOLIBARR_URL=erp_sandbox.url, DOLAPIKEY=erp_sandbox.key.get_secret_value())
