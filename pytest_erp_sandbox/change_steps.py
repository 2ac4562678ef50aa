"""Ready Gherkin steps about what a rehearsal has changed; they need ``journal = true``, or the strategy ``rewind``."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_bdd import parsers, then

from .errors import ErpSandboxError
from .rehearsal import Rehearsal, expect, has_values
from .run import note
from .trials import example_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .changes import Change, ChangeSet, Kind
    from .sandbox import Sandbox

    Table = Sequence[Sequence[str]]

AS_EXPECTED = "the changes are as expected"


@dataclass
class _Seen:
    """What this run has seen of a feature: names of scenarios that did not run, and the expected changes' files."""

    not_run: set[str]
    used: set[str] = field(default_factory=set)


SEEN: pytest.StashKey[dict[str, _Seen]] = pytest.StashKey()
"""On the run: by the features' files."""

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

KINDS: dict[str, Kind] = {"created": "inserted", "changed": "updated", "deleted": "deleted"}

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
def rows_changed(erp_sandbox: Sandbox, erp_rehearsal: Rehearsal, count: str, kind: Kind, table: str) -> None:
    """How many rows of a table were inserted, updated, deleted."""
    rows_changed_with(erp_sandbox, erp_rehearsal, count, kind, table, ())


@then(
    parsers.re(
        rf'{_COUNT} rows? (?:was|were) (?P<kind>inserted|updated|deleted) (?:into|in|from) "(?P<table>[^"]+)" with:'
    )
)
def rows_changed_with(
    erp_sandbox: Sandbox, erp_rehearsal: Rehearsal, count: str, kind: Kind, table: str, datatable: Table
) -> None:
    """The same of those that have these values (of deleted ones: had), each row of the table a column and a value."""
    found = erp_sandbox.changes(table, kind)
    values = erp_rehearsal.pairs(datatable)
    these = [change for change in found if change.table == table and _has(change, values)]
    wanted = int({"one": "1", "no": "0"}.get(count, count))
    number = len(these) if values else found.counts.get((table, kind), 0)
    if number != wanted:
        _expect(False, f"there are {number} such rows, not {wanted}", erp_sandbox.changes())
    _expect(not values or not found.omitted, "there are more such rows than are compared", found)
    _expect(not _is_unseen(found, table), f"not all that changed in {table} is known", found)
    erp_rehearsal.explained.update(map(_identity, these))


@then("nothing else changed")
def nothing_else_changed(erp_sandbox: Sandbox, erp_rehearsal: Rehearsal) -> None:
    """No collateral damage: nothing but what the steps before have named."""
    found = erp_sandbox.changes()
    left = tuple(change for change in found if _identity(change) not in erp_rehearsal.explained)
    _expect(not left and not found.unseen, "something else changed", replace(found, changes=left))
    _expect(not found.omitted, "more changed than is compared with what was named", found)


@then(AS_EXPECTED)
def changes_are_as_expected(request: pytest.FixtureRequest, erp_sandbox: Sandbox) -> None:
    """Compare with the file beside the feature, which ``--erp-sandbox-update-expected`` writes."""
    file, text = request.node.stash[EXPECTED], erp_sandbox.changes_in_writing()
    place = _place(request.config, file)
    if request.config.getoption("erp_sandbox_update_expected"):
        if _differences(file, text):
            from .report.files import write_whole

            file.parent.mkdir(exist_ok=True)
            write_whole(file, text)
            note(request.config, f"{file}: written", f"expected changes written: {place}")
        return
    how = "Look at what was changed, and run with --erp-sandbox-update-expected to expect it."
    expect(file.exists(), f"{place} is missing\n{how}\n\n{text}")
    differences = _differences(file, text)
    expect(not differences, f"not as {place} has it\n{differences}\n{how}")


def pytest_bdd_before_scenario(request: pytest.FixtureRequest, feature: Any, scenario: Any) -> None:
    """Know, in a step, which scenario it is of; and which scenarios ran, and have an expected change set."""
    from .expected import file_for

    file = request.node.stash[EXPECTED] = file_for(Path(feature.filename), scenario.name, example_of(request.node))
    seen = request.config.stash.setdefault(SEEN, {}).setdefault(feature.filename, _Seen(set(feature.scenarios)))
    if not example_of(request.node):
        # Of an outline, other examples may not have run.
        seen.not_run.discard(scenario.name)
    if any(step.name == AS_EXPECTED for step in scenario.steps):
        seen.used.add(str(file))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell of files with expected changes that no scenario compares with any more, if all of the feature have run."""
    output, seen = getattr(session.config, "workeroutput", None), session.config.stash.get(SEEN, {})
    if output is not None:
        output["erp_sandbox_seen"] = {name: (sorted(each.not_run), sorted(each.used)) for name, each in seen.items()}
        return
    for feature, each in seen.items():
        folder = Path(feature).with_name(f"{Path(feature).stem}.changes")
        for file in sorted(folder.glob("*.txt")) if not each.not_run else ():
            if str(file) not in each.used:
                where = _place(session.config, file)
                note(session.config, f"{file}: unused", f"no scenario expects these changes any more: {where}")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker has seen."""
    for feature, (not_run, used) in getattr(node, "workeroutput", {}).get("erp_sandbox_seen", {}).items():
        seen = node.config.stash.setdefault(SEEN, {}).setdefault(feature, _Seen(set(not_run)))
        seen.not_run &= set(not_run)
        seen.used |= set(used)


def _differences(file: Path, text: str) -> str:
    """How a rehearsal's changes differ from those in the file, in words; empty where they do not."""
    from .expected import compare

    try:
        return compare(file.read_text(encoding="utf-8"), text)
    except FileNotFoundError:
        return "it is missing"
    except (ErpSandboxError, UnicodeDecodeError) as error:
        return f"it cannot be read: {error}"


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


def _is_unseen(found: ChangeSet, table: str) -> bool:
    """Whether the table was changed without the journal knowing how: as a whole, truncated, or dropped."""
    named = re.compile(rf"(?<!\w){re.escape(table)}(?!\w)")
    return any(unseen.what in (table, "the journal") or named.search(unseen.reason) for unseen in found.unseen)


def _counts(found: ChangeSet) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {unseen.what: Counter() for unseen in found.unseen}
    for (table, kind), count in found.counts.items():
        counts.setdefault(table, Counter())[kind] = count
    return counts


def _expect(holds: object, otherwise: str, found: ChangeSet) -> None:
    """Go on only if something holds; else show all that was changed."""
    from .changes import told

    expect(holds, otherwise if holds else f"{otherwise}\n{told(found)}")
