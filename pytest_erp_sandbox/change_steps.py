"""Ready Gherkin steps about what a rehearsal has changed; they need ``journal = true``, or the strategy ``rewind``."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_bdd import parsers, then

from .rehearsal import Rehearsal, expect, has_values
from .run import note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .changes import Change, ChangeSet
    from .sandbox import Sandbox

    Table = Sequence[Sequence[str]]

AS_EXPECTED = "the changes are as expected"

EXPECTED = pytest.StashKey[Path]()
"""On a scenario: the file with the changes that are expected of it."""

TABLES = {
    "third part(?:y|ies)": "llx_societe",
    "contacts?": "llx_socpeople",
    "products?": "llx_product",
    "proposals?": "llx_propal",
    "orders?": "llx_commande",
    "invoices?": "llx_facture",
    "projects?": "llx_projet",
}
"""What people call rows, and the tables that these are in."""

KINDS = {"created": "inserted", "changed": "updated", "deleted": "deleted"}

_COUNT = r"(?P<count>one|no|\d+)"
_THINGS = "|".join(TABLES)


@then("nothing changed")
def nothing_changed(erp_sandbox: Sandbox) -> None:
    """No row was inserted, updated or deleted since the reset."""
    found = erp_sandbox.changes()
    _expect(not found.changes and not found.unseen, "something changed", found)


@then("exactly these tables changed:")
def exactly_these_tables_changed(erp_sandbox: Sandbox, erp_rehearsal: Rehearsal, datatable: Table) -> None:
    """A table's name in each row; with a header (table, inserted, updated, deleted), how many rows of each, too."""
    found = erp_sandbox.changes()
    names, *counts = zip(*datatable, strict=True)
    has_header = names[0] == "table"
    kinds = [column[0] for column in counts]
    expect(has_header or not counts, "the first row has to say what the columns are: table, inserted, updated, deleted")
    wanted = {name: Counter[str]() for name in names[has_header:]}
    for kind, column in zip(kinds, counts, strict=True):
        for name, count in zip(names[1:], column[1:], strict=True):
            wanted[name][kind] = int(count or 0)
    seen = _counts(found)
    wrong = [f"{name} changed, too" for name in seen if name not in wanted]
    wrong += [f"{name} did not change" for name in wanted if name not in seen]
    wrong += [
        f"{name} has {seen[name][kind]} {kind}, not {wanted[name][kind]}"
        for name in wanted.keys() & seen.keys()
        for kind in kinds
        if seen[name][kind] != wanted[name][kind]
    ]
    _expect(not wrong, "\n".join(wrong), found)
    erp_rehearsal.explained.update(map(_identity, found))


@then(parsers.re(rf"{_COUNT} (?P<what>{_THINGS}) (?:was|were) (?P<verb>created|changed|deleted)"))
def things_changed(erp_sandbox: Sandbox, erp_rehearsal: Rehearsal, count: str, what: str, verb: str) -> None:
    """How many third parties, products, invoices, … were created, changed, deleted."""
    things_changed_with(erp_sandbox, erp_rehearsal, count, what, verb, ())


@then(parsers.re(rf"{_COUNT} (?P<what>{_THINGS}) (?:was|were) (?P<verb>created|changed|deleted) with:"))
def things_changed_with(
    erp_sandbox: Sandbox, erp_rehearsal: Rehearsal, count: str, what: str, verb: str, datatable: Table
) -> None:
    """The same of those that have these values, each row of the step's table a column and a value."""
    rows_changed_with(erp_sandbox, erp_rehearsal, count, KINDS[verb], _table_of(what), datatable)


@then(
    parsers.re(rf'{_COUNT} rows? (?:was|were) (?P<kind>inserted|updated|deleted) (?:into|in|from) "(?P<table>[^"]+)"')
)
def rows_changed(erp_sandbox: Sandbox, erp_rehearsal: Rehearsal, count: str, kind: str, table: str) -> None:
    """How many rows of a table were inserted, updated, deleted."""
    rows_changed_with(erp_sandbox, erp_rehearsal, count, kind, table, ())


@then(
    parsers.re(
        rf'{_COUNT} rows? (?:was|were) (?P<kind>inserted|updated|deleted) (?:into|in|from) "(?P<table>[^"]+)" with:'
    )
)
def rows_changed_with(
    erp_sandbox: Sandbox, erp_rehearsal: Rehearsal, count: str, kind: str, table: str, datatable: Table
) -> None:
    """The same of those that have these values (of deleted ones: had), each row of the table a column and a value."""
    found = erp_sandbox.changes()
    values = erp_rehearsal.pairs(datatable)
    these = [change for change in found if change.kind == kind and change.table == table and _has(change, values)]
    wanted = int({"one": "1", "no": "0"}.get(count, count))
    _expect(len(these) == wanted, f"there are {len(these)} such rows, not {wanted}", found)
    erp_rehearsal.explained.update(map(_identity, these))


@then("nothing else changed")
def nothing_else_changed(erp_sandbox: Sandbox, erp_rehearsal: Rehearsal) -> None:
    """No collateral damage: nothing but what the steps before have named."""
    from dataclasses import replace

    found = erp_sandbox.changes()
    left = tuple(change for change in found if _identity(change) not in erp_rehearsal.explained)
    _expect(not left and not found.unseen, "something else changed", replace(found, changes=left))


@then(AS_EXPECTED)
def changes_are_as_expected(request: pytest.FixtureRequest, erp_sandbox: Sandbox) -> None:
    """Compare with the file beside the feature, which ``--erp-sandbox-update-expected`` writes."""
    from .changes import told
    from .expected import compare, render
    from .postgres.references import foreign_keys

    file, found = request.node.stash[EXPECTED], erp_sandbox.changes()
    expect(not found.unseen and not found.omitted, f"not all that was changed is known\n{told(found)}")
    text = render(found, foreign_keys(erp_sandbox.lease.connection), datetime.now())
    if request.config.getoption("erp_sandbox_update_expected"):
        if not file.exists() or compare(file.read_text(encoding="utf-8"), text):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            note(request.config, f"{file}: written", f"expected changes written: {_place(request.config, file)}")
        return
    how = "Look at what was changed, and run with --erp-sandbox-update-expected to expect it."
    expect(file.exists(), f"{_place(request.config, file)} is missing\n{how}\n\n{text}")
    differences = compare(file.read_text(encoding="utf-8"), text)
    expect(not differences, f"not as {_place(request.config, file)} has it\n{differences}\n{how}")


def pytest_bdd_before_scenario(request: pytest.FixtureRequest, feature: Any, scenario: Any) -> None:
    """Know, in a step, which scenario it is of."""
    from .expected import file_for

    request.node.stash[EXPECTED] = file_for(Path(feature.filename), scenario.name, _example(request.node))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell of files with expected changes that no scenario has any more; before any is deselected."""
    from .expected import unused

    for feature, of_feature in _by_feature(items).items():
        collected = {scenario.name for scenario, _ in of_feature}
        if all(name in collected for name in _scenario_names(of_feature)):
            comparing = [
                (scenario.name, example)
                for scenario, example in of_feature
                if any(step.name == AS_EXPECTED for step in scenario.steps)
            ]
            for file in unused(feature, comparing):
                where = _place(config, file)
                note(config, f"{file}: unused", f"no scenario expects these changes any more: {where}")


def _by_feature(items: Iterable[pytest.Item]) -> dict[Path, list[tuple[Any, str]]]:
    found: dict[Path, list[tuple[Any, str]]] = {}
    for item in items:
        scenario = getattr(getattr(item, "function", None), "__scenario__", None)
        if scenario is not None:
            found.setdefault(Path(scenario.feature.filename), []).append((scenario, _example(item)))
    return found


def _scenario_names(of_feature: Sequence[tuple[Any, str]]) -> Iterator[str]:
    yield from of_feature[0][0].feature.scenarios


def _example(item: Any) -> str:
    """Which example of a scenario outline it is."""
    return item.callspec.id if hasattr(item, "callspec") else ""


def _place(config: pytest.Config, file: Path) -> Path:
    return file.relative_to(config.rootpath) if file.is_relative_to(config.rootpath) else file


def _table_of(what: str) -> str:
    return next(table for pattern, table in TABLES.items() if re.fullmatch(pattern, what))


def _has(change: Change, values: Mapping[str, str]) -> bool:
    row = change.after or change.before or {}
    unknown = ", ".join(name for name in values if name not in row)
    expect(not unknown, f"{change.table} has no column {unknown}")
    return has_values(row, values)


def _identity(change: Change) -> str:
    return f"{change.table} {change.kind} {change.key or change.after or change.before}"


def _counts(found: ChangeSet) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {unseen.what: Counter() for unseen in found.unseen}
    for change in found:
        counts.setdefault(change.table, Counter())[change.kind] += 1
    return counts


def _expect(holds: object, otherwise: str, found: ChangeSet) -> None:
    """Go on only if something holds; else show all that was changed."""
    from .changes import told

    expect(holds, otherwise if holds else f"{otherwise}\n{told(found)}")
