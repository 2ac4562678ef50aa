"""Preflight: every invariant is asked, of prod and of all sandboxes, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from ..postgres.clients import choose_clients, installed_toolsets
from ..postgres.connection import ProdDatabase, SandboxDatabase
from ..settings import Settings
from . import invariants
from .access import access_findings
from .erps import QuarantineHolds, erp_findings, quarantine_holds
from .findings import Finding, Report, Status, report_table
from .invariants import ClientsFor
from .sides import ProdSide, SandboxSide

__all__ = ["Finding", "Report", "Status", "preflight", "preflight_of", "report_table"]


def preflight(
    prod: ProdDatabase | None,
    sandboxes: Sequence[SandboxDatabase],
    *,
    require_read_only_role: bool,
    clients_for: ClientsFor,
    is_quarantined: QuarantineHolds,
) -> Report:
    """Ask all invariants of prod and of every sandbox; writes nothing, and leaves no connection open.

    Args:
        prod: None where the golden dump is used as it is; what is about prod is skipped then.
        sandboxes: all that this run may wipe.
        require_read_only_role: whether a prod login that can write is a failure, or a warning.
        clients_for: chooses client programs for a pair of servers.
        is_quarantined: asks a sandbox whether its quarantine holds.

    Returns:
        The findings, failures among them: nothing is raised for those.
    """
    with ExitStack() as stack:
        truth = stack.enter_context(ProdSide(prod))
        copies = [stack.enter_context(SandboxSide(sandbox)) for sandbox in sandboxes]
        # All are reached before any is asked: some questions compare them.
        reached = [invariants.is_reachable(truth), *map(invariants.is_reachable, copies)]
        # Prod is asked while the sandboxes are; then the client programs are tried, which have sessions of their own.
        # (Not at once: prod's login may be limited to two sessions, and one of its questions takes both.)
        meanwhile = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(meanwhile.shutdown, wait=False, cancel_futures=True)  # after Ctrl-C, what has not begun is not
        asking = meanwhile.submit(_of_prod, truth, require_read_only_role)
        fitting = [meanwhile.submit(invariants.client_programs_fit, copy, truth, clients_for) for copy in copies]
        alone = [_of_sandbox(copy, is_quarantined) for copy in copies]
        # Until here, prod's connection is the other thread's.
        findings = asking.result()
        for copy, own, fits in zip(copies, alone, fitting, strict=True):
            findings += [*own, *_compared(copy, truth, copies), fits.result()]
    return Report((*reached, *findings))


def _of_prod(prod: ProdSide, require_read_only_role: bool) -> list[Finding]:
    findings = [
        invariants.prod_session_is_read_only(prod),
        invariants.prod_login_cannot_write(prod, required=require_read_only_role),
        invariants.connection_is_direct(prod),
    ]
    if prod.database is not None and prod.database.at is not None:
        findings.append(invariants.prod_asks_for_a_password(prod))
    return findings


def _of_sandbox(sandbox: SandboxSide, is_quarantined: QuarantineHolds) -> list[Finding]:
    return [
        invariants.connection_is_direct(sandbox),
        invariants.server_is_new_enough(sandbox),
        invariants.accepts_writes(sandbox),
        invariants.is_adopted_or_empty(sandbox),
        invariants.wipe_takes_nothing_for_good(sandbox),
        invariants.login_is_a_member(sandbox),
        invariants.has_no_administrators_attributes(sandbox),
        invariants.reaches_no_dangerous_role(sandbox),
        invariants.has_no_power_over_the_server(sandbox),
        invariants.no_foreign_server_leads_out(sandbox),
        invariants.wipe_has_room_for_its_locks(sandbox),
        is_quarantined(sandbox),
    ]


def _compared(sandbox: SandboxSide, prod: ProdSide, sandboxes: Sequence[SandboxSide]) -> list[Finding]:
    return [
        invariants.is_a_database_of_its_own(sandbox, prod, sandboxes),
        invariants.owns_no_other_database(sandbox, sandboxes),
        invariants.prod_is_out_of_reach(sandbox, prod),
        invariants.server_is_not_prods(sandbox, prod),
    ]


def preflight_of(settings: Settings) -> Report:
    """Ask all invariants of what the settings name; with ``refresh = "never"`` prod is left alone."""
    report = preflight(
        None if settings.refresh == "never" else settings.prod.database(),
        [place.database() for place in settings.all_sandboxes],
        require_read_only_role=settings.strict or settings.prod.require_read_only_role,
        # Looked for in there, where something else goes on meanwhile: each is asked for its version.
        clients_for=lambda prod, sandbox: choose_clients(
            installed_toolsets(settings.programs), prod=prod, sandbox=sandbox
        ),
        is_quarantined=quarantine_holds(settings.quarantine, settings.agent.login),
    )
    return Report((*report.findings, *erp_findings(settings), *access_findings(settings)))
