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
        findings = [
            invariants.prod_session_is_read_only(truth),
            invariants.prod_login_cannot_write(truth, required=require_read_only_role),
            invariants.connection_is_direct(truth),
        ]
        if prod is not None and prod.at is not None:
            findings.append(invariants.prod_asks_for_a_password(truth))
        # Client programs have sessions of their own: they are tried while the sandboxes are asked. (Not while prod is,
        # where one question takes a second session: its login may be limited to two.)
        meanwhile = stack.enter_context(ThreadPoolExecutor(1))
        fitting = [meanwhile.submit(invariants.client_programs_fit, copy, truth, clients_for) for copy in copies]
        for copy, fits in zip(copies, fitting, strict=True):
            findings += [
                invariants.connection_is_direct(copy),
                invariants.server_is_new_enough(copy),
                invariants.accepts_writes(copy),
                invariants.is_a_database_of_its_own(copy, truth, copies),
                invariants.is_adopted_or_empty(copy),
                invariants.wipe_takes_nothing_for_good(copy),
                invariants.login_is_a_member(copy),
                invariants.has_no_administrators_attributes(copy),
                invariants.reaches_no_dangerous_role(copy),
                invariants.has_no_power_over_the_server(copy),
                invariants.owns_no_other_database(copy, copies),
                invariants.prod_is_out_of_reach(copy, truth),
                invariants.no_foreign_server_leads_out(copy),
                invariants.server_is_not_prods(copy, truth),
                invariants.wipe_has_room_for_its_locks(copy),
                is_quarantined(copy),
                fits.result(),
            ]
    return Report((*reached, *findings))


def preflight_of(settings: Settings) -> Report:
    """Ask all invariants of what the settings name; with ``refresh = "never"`` prod is left alone."""
    toolsets = installed_toolsets(settings.programs)
    report = preflight(
        None if settings.refresh == "never" else settings.prod.database(),
        [place.database() for place in settings.all_sandboxes],
        require_read_only_role=settings.strict or settings.prod.require_read_only_role,
        clients_for=lambda prod, sandbox: choose_clients(toolsets, prod=prod, sandbox=sandbox),
        is_quarantined=quarantine_holds(settings.quarantine, settings.agent.login),
    )
    return Report((*report.findings, *erp_findings(settings), *access_findings(settings)))
