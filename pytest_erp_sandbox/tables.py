"""Tables that the command shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from .dolibarr.parts import PARTS
from .golden import Golden
from .postgres.inventory import OwnedCount
from .progress import human_size
from .status import SandboxStatus, drift_in_words

__all__ = ["table_of_encrypted", "table_of_golden_dumps", "table_of_sandboxes", "table_of_what_goes"]


def table_of_what_goes(sandbox: str, counts: Sequence[OwnedCount]) -> Table:
    """What a wipe would take from a sandbox."""
    table = _table(f"what a reset would wipe from {sandbox}", "kind", "owner", "objects", first="schema")
    for count in counts:
        table.add_row(count.schema or "-", count.kind, count.owner, f"{count.objects:,}")
    if not counts:
        table.caption = "nothing"
    return table


def table_of_sandboxes(sandboxes: Sequence[SandboxStatus]) -> Table:
    """Sandboxes: what they hold, and who has them."""
    table = _table("sandboxes", "database", "adopted", "baseline", "drift", "in use by", first="sandbox")
    for each in sandboxes:
        if each["adopted"] is None:
            table.add_row(each["name"], each["database"], "?", "?", "?", "?")
            continue
        baseline = each["golden"] or ("none: not reset yet, or cut off" if each["adopted"] else "-")
        by = "\n".join(each["in_use_by"]) or "nobody"
        adopted = "yes" if each["adopted"] else "no"
        table.add_row(each["name"], each["database"], adopted, baseline, drift_in_words(each), by)
    return table


def table_of_encrypted(found: Sequence[dict[str, Any]]) -> Table:
    """What prod has encrypted."""
    table = _table("encrypted", "sandbox", "values", "do not decrypt here", first="constant or column")
    for each in found:
        table.add_row(each["where"], each["sandbox"], str(each["rows"]), str(each["unreadable"]))
    return table


def table_of_golden_dumps(entries: Sequence[Golden], unusable: Sequence[str]) -> Table:
    """The golden dumps of a cache; beside them the names of those that are damaged, or another version's."""
    table = _table("golden dumps", "of", "age", "size", "tables", "quarantine")
    for golden in entries:
        manifest = golden.manifest
        age = f"{manifest.age.total_seconds() / 3600:.1f} h"
        table.add_row(
            golden.id,
            f"{manifest.source.name} (PostgreSQL {manifest.source.server_version})",
            age,
            human_size(manifest.size),
            str(manifest.counts.get("tables", "?")),
            "all" if manifest.quarantine.keys() >= set(PARTS) else ", ".join(manifest.quarantine) or "none",
        )
    for name in unusable:
        table.add_row(name, "damaged, or made by another version of this package")
    if not table.row_count:
        table.caption = "none"
    return table


def _table(title: str, *columns: str, first: str = "id") -> Table:
    """A table whose first column is never cut: people copy from it."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
