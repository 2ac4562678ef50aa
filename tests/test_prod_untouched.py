"""Prod is only read: its content, its counters and its log say so, after everything that a run does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_erp_sandbox.demo.estate import PROD_DATABASE
from pytest_erp_sandbox.preflight import preflight_of

from .estates import BuiltEstate
from .runs import Runs, estate_on, state_of_prod
from .servers import connect

PROBE = "CREATE TEMPORARY TABLE erp_sandbox_probe () ON COMMIT DROP"
PROBING = {"SHOW transaction_read_only", PROBE}
"""What asks for the session's own default."""

REACHING = "SELECT 1"
"""What psql says to try whether it can connect."""

BEFOREHAND = re.compile(
    r"SET\s|SELECT (pg_catalog\.pg_is_in_recovery\(\)|(pg_catalog\.)?set_config\(('search_path'|name),)", re.IGNORECASE
)
"""What pg_dump says before its transaction."""

READING = re.compile(
    r"""
    (SELECT|WITH)\s
        (?!.*\b(UPDATE\s+[\w.]+\s+SET|INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO)\b)
        (?!.*\b(nextval|setval|lo_\w+|pg_(terminate|cancel)_backend|pg_advisory\w*)\()
        (?!.*set_config\('\w*read_only)
    | SHOW\s
    | SET\s (?!.*(read_only\W+(TO\W+)?(off|false|0|no)|READ\sWRITE))
    | COPY\s .* \sTO\sstdout;?$
    | LOCK\sTABLE\s .* \sIN\sACCESS\sSHARE\sMODE
    | (BEGIN|START\sTRANSACTION) (?!.*READ\sWRITE)
    | COMMIT | ROLLBACK
    | (DECLARE|FETCH|CLOSE|EXECUTE|DEALLOCATE)\b
    | PREPARE\s .* \sAS\s+ SELECT\s
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


class Witness(NamedTuple):
    """What prod's server knows of writes."""

    content: dict[str, str]
    counters: tuple[object, ...] | None
    next_xid: object


def witness(estate: BuiltEstate) -> Witness:
    content = state_of_prod(estate)
    with connect(estate.prod.dsn(PROD_DATABASE)) as connection:
        counters = connection.execute(
            "SELECT tup_inserted, tup_updated, tup_deleted, temp_files, stats_reset FROM pg_stat_database"
            " WHERE datname = current_database()"
        ).fetchone()
        xid = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()
    return Witness(content, counters, xid)


@pytest.fixture(scope="module", params=["15", "18"])
def estate_of_its_own(request: pytest.FixtureRequest) -> Iterator[BuiltEstate]:
    with estate_on(request.param, request.param) as estate:
        yield estate


def statements(log: str) -> Iterator[str]:
    """What was said to prod's database: each statement, over all its lines, without comments."""
    return (statement for _, statement in by_session(log))


def by_session(log: str) -> Iterator[tuple[str, str]]:
    """Each statement, and the session that said it."""
    for entry in re.split(rf"(?m)^(?={PROD_DATABASE} \d+ )", log):
        match = re.match(rf"{PROD_DATABASE} (\d+) LOG:  (?:statement|execute [^:]*): ", entry)
        if match is not None:
            # What follows is another database's, or begins with the server's own prefix.
            statement = re.split(r"\n(?!\t)", entry[match.end() :])[0]
            yield match[1], re.sub(r"(?m)^\s*--.*", "", statement).strip()


def outside_of_read_only(log: str) -> set[str]:
    """The statements of transactions that did not say READ ONLY themselves, but relied on the session's default."""
    saying, found = set[str](), set[str]()
    for session, statement in by_session(log):
        if re.match(r"BEGIN READ ONLY|SET TRANSACTION .*\bREAD ONLY", statement):
            saying.add(session)
        elif re.match(r"BEGIN|COMMIT|ROLLBACK", statement):
            saying.discard(session)
        elif session not in saying:
            found.add(statement)
    return found


def test_prod_is_only_read(estate_of_its_own: BuiltEstate, tmp_path: Path) -> None:
    estate = estate_of_its_own
    runs = Runs(tmp_path, estate.settings())
    before = witness(estate)
    begun = estate.log_size

    preflight_of(runs.settings()).raise_for_failures()
    golden = runs.golden()
    with runs.pool().rehearsal(golden) as sandbox:
        assert sandbox.api().post("thirdparties", json={"name": "Acme", "client": "1"}).is_success

    log = estate.said_to_prod(since=begun)
    after = witness(estate)

    assert after == before
    said = list(statements(log))
    assert len([each for each in said if re.match(r"COPY public\.\w+ .* TO stdout", each)]) > 15
    assert said.count(PROBE) == 1
    assert [each for each in said if each != PROBE and not READING.match(each)] == []
    assert {each for each in outside_of_read_only(log) if not BEFOREHAND.match(each)} == {*PROBING, REACHING}
    refused = re.findall(r" ERROR:  (.*)", log)
    assert refused == ["cannot execute CREATE TABLE in a read-only transaction"]


def test_the_witnesses_would_notice(estate_of_its_own: BuiltEstate) -> None:
    estate = estate_of_its_own
    before, begun = witness(estate), estate.log_size
    writes = [
        "UPDATE llx_societe SET nom = nom || '!' WHERE rowid = 1",
        "SELECT nextval('llx_societe_rowid_seq')",
        "CREATE TABLE intruder ()",
        "SET default_transaction_read_only = off",
        "SET default_transaction_read_only TO 'off'",
        "SELECT set_config('default_transaction_read_only', 'off', false)",
        "WITH gone AS (DELETE FROM llx_societe RETURNING 1) SELECT count(*) FROM gone",
        "BEGIN READ WRITE",
        "COPY llx_societe FROM stdin",
    ]
    with connect(estate.prod.dsn(PROD_DATABASE)) as connection:
        for statement in writes[:3]:
            connection.execute(statement.encode())
    log = estate.said_to_prod(since=begun)
    after = witness(estate)
    assert after.counters != before.counters
    assert after.next_xid != before.next_xid
    changed = {name for name in after.content | before.content if after.content.get(name) != before.content.get(name)}
    assert changed >= {"rows of llx_societe", "state of llx_societe_rowid_seq", "table public.intruder"}
    assert [each for each in statements(log) if not READING.match(each)] == writes[:3]
    assert [each for each in writes if READING.match(each)] == []
