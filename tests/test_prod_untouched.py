"""Prod is read, and nothing else: by its content, its counters, and its own log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_erp_sandbox.demo.estate import PROD_DATABASE
from pytest_erp_sandbox.preflight import preflight_of

from .estates import BuiltEstate
from .runs import Runs, estate_on, state_of_prod
from .servers import connect

READING = re.compile(
    r"(SELECT|WITH|SHOW|SET|RESET|BEGIN|START TRANSACTION|COMMIT|ROLLBACK|DECLARE|FETCH|CLOSE|EXECUTE)\b"
    r"|PREPARE \w+(\([^)]*\))? AS\s+SELECT\b|LOCK TABLE .* IN ACCESS SHARE MODE|COPY .* TO stdout;",
    re.IGNORECASE | re.DOTALL,
)
COMMENTS = re.compile(r"^\s*--.*$", re.MULTILINE)
PROBE = "CREATE TEMPORARY TABLE erp_sandbox_probe () ON COMMIT DROP"
STATEMENT = re.compile(
    r"^\S+ \d+ LOG:  (?:statement|execute [^:]*): (.*?)(?=^\S+ \d+ \w+:  |\Z)", re.MULTILINE | re.DOTALL
)


@pytest.fixture(params=["15", "18"])
def own_estate(request: pytest.FixtureRequest) -> Iterator[BuiltEstate]:
    with estate_on(request.param, "18") as built:
        yield built


def test_a_whole_run_only_reads_prod(own_estate: BuiltEstate, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "project", own_estate.settings())
    before, rows_before = state_of_prod(own_estate), _rows_written(own_estate)
    log_before = own_estate.log_size

    preflight_of(runs.settings()).raise_for_failures()
    with runs.pool().rehearsal(runs.golden()):
        pass

    log = own_estate.said_to_prod(log_before)
    assert state_of_prod(own_estate) == before
    assert _rows_written(own_estate) == rows_before
    statements = [COMMENTS.sub("", match[1]).strip() for match in STATEMENT.finditer(log)]
    assert [each for each in statements if not READING.match(each)] == [PROBE]
    assert "ERROR:  cannot execute CREATE TABLE in a read-only transaction" in log
    assert any(each.startswith("COPY public.llx_societe") for each in statements)


def _rows_written(estate: BuiltEstate) -> tuple[object, ...]:
    with connect(estate.prod.dsn()) as connection:
        row = connection.execute(
            "SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database WHERE datname = %s", [PROD_DATABASE]
        ).fetchone()
    assert row is not None
    return row
