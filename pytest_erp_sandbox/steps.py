"""Ready Gherkin steps: the agent's calls, what comes of them in answer and sandbox, and the invariants.

Paths and values may name what an earlier step kept: ``thirdparties/{customer}``. In answers, numbers are compared as
numbers (``12.5`` is ``12.50``), everything else as text. ``NULL`` is no value.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pytest_bdd import given, parsers, step, then

from .rehearsal import NO_VALUE, Rehearsal, content, expect, expect_rows, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import httpx
    import psycopg

    from .preflight.findings import Finding, Report
    from .sandbox import Sandbox
    from .settings import Settings

    Table = Sequence[Sequence[str]]

_ROWS = r'(?P<count>\d+|no) rows? in "(?P<table>[^"]+)"'


@pytest.fixture
def erp_rehearsal() -> Rehearsal:
    """A scenario's memory: the ERP's last answer, and values that a step kept."""
    return Rehearsal()


@pytest.hookimpl(trylast=True)
def pytest_bdd_step_error(
    request: pytest.FixtureRequest, feature: Any, step: Any, step_func: Callable[..., object], exception: Exception
) -> None:
    """Show what went wrong in one of the ready steps as the step and the reason, without this package's code."""
    if step_func.__module__.startswith(f"{__package__}.") and not request.config.getoption("fulltrace"):
        kind = "" if isinstance(exception, AssertionError) else f"{type(exception).__name__}: "
        place = f"{feature.rel_filename}:{step.line_number}"
        raise pytest.fail.Exception(f"{step.keyword} {step.name}\n{kind}{exception}\n{place}", pytrace=False) from None


@given("the sandbox is as prod was")
def reset_sandbox(request: pytest.FixtureRequest, erp_sandbox: Sandbox, erp_sandbox_settings: Settings) -> None:
    """Put the sandbox back, unless that was just done; only as the first step, since it ends connections and key."""
    if erp_sandbox_settings.reset != "scenario":
        erp_sandbox.reset(request.getfixturevalue("erp_sandbox_golden"))


@step(parsers.re(r'the agent calls (?P<method>GET|POST|PUT|DELETE) "(?P<path>[^"]*)"'))
def call(erp_api: httpx.Client, erp_rehearsal: Rehearsal, method: str, path: str) -> None:
    """Call the ERP's API as the agent; the path is relative to ``/api/index.php/``."""
    erp_rehearsal.answer = erp_api.request(method, erp_rehearsal.filled(path))


@step(parsers.re(r'the agent calls (?P<method>POST|PUT) "(?P<path>[^"]*)" with:'))
def call_with_fields(erp_api: httpx.Client, erp_rehearsal: Rehearsal, method: str, path: str, datatable: Table) -> None:
    """Send fields, each row of the table a name and a value."""
    pairs = erp_rehearsal.pairs(datatable)
    fields = {name: None if value == NO_VALUE else value for name, value in pairs.items()}
    erp_rehearsal.answer = erp_api.request(method, erp_rehearsal.filled(path), json=fields)


@step(parsers.re(r'the agent calls (?P<method>POST|PUT) "(?P<path>[^"]*)" with the JSON:'))
def call_with_json(erp_api: httpx.Client, erp_rehearsal: Rehearsal, method: str, path: str, docstring: str) -> None:
    """Send JSON, for what a table cannot say."""
    body = json.loads(erp_rehearsal.filled(docstring))
    erp_rehearsal.answer = erp_api.request(method, erp_rehearsal.filled(path), json=body)


@then(parsers.parse("the answer is {status:d}"))
def answer_has_status(erp_rehearsal: Rehearsal, status: int) -> None:
    """The HTTP status that the last call was answered with."""
    expect(erp_rehearsal.answer.status_code == status, shown(erp_rehearsal.answer))


@then("the agent was not allowed to")
def answer_is_a_refusal(erp_api: httpx.Client, erp_rehearsal: Rehearsal) -> None:
    """The last call was refused for want of a right: with 403, up to Dolibarr 19 with 401."""
    status = erp_rehearsal.answer.status_code
    # A key that is not accepted gets 401 everywhere.
    refused = status == 403 or (status == 401 and erp_api.get("status").is_success)
    expect(refused, shown(erp_rehearsal.answer))


@step(parsers.parse('the answer is an id, kept as "{name}"'))
def keep_id(erp_rehearsal: Rehearsal, name: str) -> None:
    """The answer is a new record's id; later steps name it ``{name}``."""
    answer = erp_rehearsal.answer
    said = str(content(answer)) if answer.is_success else ""
    expect(said.isdecimal(), f"that is no id: {shown(answer)}")
    erp_rehearsal.kept[name] = said


@step(parsers.re(r'the answer\'s "(?P<path>[^"]+)" is kept as "(?P<name>[^"]+)"'))
def keep_value(erp_rehearsal: Rehearsal, path: str, name: str) -> None:
    """Keep one of the answer's values; later steps name it ``{name}``."""
    erp_rehearsal.kept[name] = erp_rehearsal.at(path)


@then(parsers.re(r'the answer\'s "(?P<path>[^"]+)" is "(?P<value>.*)"'))
def answer_is(erp_rehearsal: Rehearsal, path: str, value: str) -> None:
    """One of the answer's values; the path leads into it, such as ``lines.0.desc``."""
    erp_rehearsal.expect_values({path: erp_rehearsal.filled(value)})


@then(parsers.re(r'the answer\'s "(?P<path>[^"]+)" contains "(?P<part>.*)"'))
def answer_has_part(erp_rehearsal: Rehearsal, path: str, part: str) -> None:
    """What one of the answer's values has in it, such as the reason in an error's message."""
    found, wanted = erp_rehearsal.at(path), erp_rehearsal.filled(part)
    expect(wanted in found, f"{path} is {found!r}\n{shown(erp_rehearsal.answer)}")


@then("the answer contains:")
def answer_contains(erp_rehearsal: Rehearsal, datatable: Table) -> None:
    """Several of the answer's values, each row of the table a path and a value."""
    erp_rehearsal.expect_values(erp_rehearsal.pairs(datatable))


@then(parsers.re(f"the sandbox has {_ROWS}"))
def sandbox_has_rows(erp_db: psycopg.Connection[Any], count: str, table: str) -> None:
    """How many rows a table of the sandbox has."""
    expect_rows(erp_db, "the sandbox", count, table, {})


@then(parsers.re(f"the sandbox has {_ROWS} where:"))
def sandbox_has_rows_where(
    erp_db: psycopg.Connection[Any], erp_rehearsal: Rehearsal, count: str, table: str, datatable: Table
) -> None:
    """How many rows of a table have all these values, each row of the step's table a column and a value."""
    expect_rows(erp_db, "the sandbox", count, table, erp_rehearsal.pairs(datatable))


@then(parsers.re(f"prod has {_ROWS} where:"))
def prod_has_rows_where(
    erp_sandbox_settings: Settings, erp_rehearsal: Rehearsal, count: str, table: str, datatable: Table
) -> None:
    """The same of prod, read in a read-only session, which shows that it is as it was."""
    prod = erp_sandbox_settings.prod.database()
    if prod is None:
        raise AssertionError("prod cannot be asked: the settings have no prod.dsn")
    with prod.connect() as connection:
        expect_rows(connection, "prod", count, table, erp_rehearsal.pairs(datatable))


@then("the sandbox is quarantined")
def sandbox_is_quarantined(erp_sandbox: Sandbox) -> None:
    """Nothing in the sandbox knows a way to the outside world, but for what the settings let out of quarantine."""
    erp_sandbox.check_quarantine()


@then("every invariant holds")
def every_invariant_holds(erp_sandbox_preflight: Report) -> None:
    """Preflight found all as it should be, and had nothing to warn of."""
    _expect_ok(erp_sandbox_preflight.findings)


@then("no invariant fails")
def no_invariant_fails(erp_sandbox_preflight: Report) -> None:
    """Preflight found nothing that stops a run; it may have warned."""
    erp_sandbox_preflight.raise_for_failures()


@then(parsers.re(r'the invariant "(?P<invariant>[^"]+)" holds for (?P<side>prod|every sandbox)'))
def invariant_holds(erp_sandbox_preflight: Report, invariant: str, side: str) -> None:
    """One invariant, as preflight's table names it, of prod or of all sandboxes."""
    of_side = [found for found in erp_sandbox_preflight.findings if (found.subject == "prod") == (side == "prod")]
    asked = [found for found in of_side if found.invariant == invariant]
    known = ", ".join(dict.fromkeys(found.invariant for found in of_side))
    expect(asked, f"no invariant has that name; there are: {known}")
    _expect_ok(asked)


def _expect_ok(findings: Iterable[Finding]) -> None:
    wrong = [str(finding) for finding in findings if finding.status != "ok"]
    expect(not wrong, "\n".join(wrong))
