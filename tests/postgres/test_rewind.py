# ruff: noqa: E501 - SQL
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.errors import ClusterError, PostgresError
from pytest_erp_sandbox.postgres.changes import Unseen, read_changes
from pytest_erp_sandbox.postgres.connection import SandboxConnection, as_owner
from pytest_erp_sandbox.postgres.inventory import lost_by_wipe
from pytest_erp_sandbox.postgres.journal import drop_journal, install_journal, journalled_baseline
from pytest_erp_sandbox.postgres.rewind import Fallback, Rewound, UndoneTable, rewind

from .rewinding import BASELINE, DATABASE, LOGIN, OTHER, ROLE, Connection, JournalledSandbox, has_journal


@pytest.fixture
def sandbox(adopted: JournalledSandbox) -> JournalledSandbox:
    adopted.clear()
    return adopted


TOUCH = "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.tms = now(); RETURN NEW; END'"
PARTIES = """
CREATE TABLE party (
    rowid serial PRIMARY KEY, name text, code text, amount numeric(24, 8), share float8, born date, tms timestamp
);
CREATE UNIQUE INDEX party_code ON party (code);
INSERT INTO party (name, code, amount, share, born, tms)
SELECT 'party ' || i, 'c' || i, i / 3.0, 0.1 + i / 5.0, date '2026-03-04' + i, timestamp '2026-01-01' FROM generate_series(1, 12) AS i
"""
TOUCHED = f"{TOUCH}; CREATE TRIGGER touched BEFORE UPDATE ON party FOR EACH ROW EXECUTE FUNCTION touch()"

EVERY_TYPE = """
CREATE TYPE mood AS ENUM ('fine', 'so so', 'it''s bad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, "B b" text);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE TABLE typed (
    id int PRIMARY KEY, t text, v varchar(5), c char(5), b bytea, f float8, f4 real, n numeric, m money, d date,
    ts timestamp, tz timestamptz, ti time, tt timetz, iv interval, u uuid, j json, jb jsonb, bo boolean,
    i4 int4range, mr int4multirange, sp span, e mood, es mood[], p positive, pr pair, prs pair[], ta text[], ia int[][],
    pt point, inet inet, bi bit(3), vb varbit, ts_v tsvector, o oid, rc regclass, nm name, ch "char"
);
INSERT INTO typed VALUES
(1, E'quo"te \\\\ tab\\t', 'ab', 'ab', '\\x00ff5c22', 0.30000000000000004, 0.1, 1.10, 12.34, '2026-03-04', 'infinity',
 '1883-11-18 12:00:00+00', '24:00:00', '12:00:00+15:59', '-1 year 2 mons -3 days 04:05:06.789',
 '00000000-0000-0000-0000-000000000001', '{"a" :  1.0}', '{"a": 1.00}', true, '[1,5)', '{[1,2),[5,6)}',
 '[0.1,0.30000000000000004)', 'it''s bad', '{fine,NULL,"so so"}', 5, '(1,"x,y""z")', '{"(1,)","(,\\"\\")"}',
 '{NULL,"NULL","",{}}'::text::text[], '{{1,2},{3,4}}', '(0.1,0.2)', '10.0.0.1/8', '101', '1', 'a:1 b:2', 4000000000,
 'typed', 'typed', 'x'),
(2, '', '', '', '', 'NaN', '-0', 'NaN', '-0.01', '-infinity', '4713-01-01 BC', '-infinity', '00:00', '00:00-08', '0', NULL,
 'null', 'null', false, 'empty', '{}', '(,)', 'fine', '{}', 1, '(,)', '{}', '{}', '{}', '(NaN,Infinity)', '::/0', '000',
 '', '', 0, 0, '', ''),
(3, NULL, NULL, NULL, 'infinity', '-infinity', '-Infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
""".replace('\'{NULL,"NULL","",{}}\'::text::text[]', "ARRAY[NULL, 'NULL', '', '{}', E'\\\\\"']")

SLOW = "ALTER TABLE party ADD CONSTRAINT slow CHECK (pg_sleep(0.02) IS NOT NULL)"

NAMES_WITH_A_MEANING = [
    "$body$", "a%b", "{x}", "{columns}", "erp_sandbox", "call", "relation", "lines", "stack", "is_affected", "image", "missing", "old_rows",
    "new_rows", "new", "old", "tg_op", "found", "sqlstate", "select",
]  # fmt: skip

CASES: dict[str, tuple[str, list[str]]] = {
    "inserted, updated and deleted": (
        PARTIES,
        [
            "INSERT INTO party (name) VALUES ('new')",
            "UPDATE party SET name = 'x' WHERE rowid < 5",
            "UPDATE party SET name = 'y' WHERE rowid < 3",
            "DELETE FROM party WHERE rowid IN (2, 7)",
            "DELETE FROM party WHERE name = 'new'",
            "INSERT INTO party (rowid, name) VALUES (7, 'again')",
        ],
    ),
    "columns that are called as the undo calls keys": (
        "CREATE TABLE named (id int PRIMARY KEY, k1 int, k2 text); INSERT INTO named SELECT i, i % 3, i FROM generate_series(1, 9) i",
        [
            "UPDATE named SET k1 = 7, k2 = 'x' WHERE id < 4",
            "DELETE FROM named WHERE id = 9",
            "INSERT INTO named VALUES (0, 1, '')",
        ],
    ),
    "keys changed": (
        PARTIES,
        ["UPDATE party SET rowid = -rowid", "UPDATE party SET rowid = 3, name = 'z' WHERE rowid = -4"],
    ),
    "keys swapped": (
        PARTIES,
        [
            "UPDATE party SET rowid = 0 WHERE rowid = 1",
            "UPDATE party SET rowid = 1 WHERE rowid = 2",
            "UPDATE party SET rowid = 2 WHERE rowid = 0",
        ],
    ),
    "unique values swapped": (
        PARTIES,
        [
            "UPDATE party SET code = 'x' WHERE rowid = 1",
            "UPDATE party SET code = 'c1' WHERE rowid = 2",
            "UPDATE party SET code = 'c2' WHERE rowid = 1",
        ],
    ),
    "unique values moved on": (
        PARTIES,
        ["UPDATE party SET code = 'c13' WHERE rowid = 12"]
        + [f"UPDATE party SET code = 'c{n + 1}' WHERE rowid = {n}" for n in range(11, 0, -1)],
    ),
    "unique values swapped where foreign keys act": (
        f"{PARTIES}; CREATE TABLE child (id int PRIMARY KEY, party int REFERENCES party, code text UNIQUE);"
        "INSERT INTO child SELECT rowid, rowid, code FROM party",
        [
            "UPDATE child SET code = 'x' WHERE id = 1",
            "UPDATE child SET code = 'c1' WHERE id = 2",
            "UPDATE child SET code = 'c2' WHERE id = 1",
        ],
    ),
    "a deferrable unique constraint": (
        "CREATE TABLE t (id int UNIQUE DEFERRABLE, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 5) AS i",
        ["UPDATE t SET id = 6 - id", "UPDATE t SET v = 9 WHERE id = 2", "DELETE FROM t WHERE id = 3"],
    ),
    "a deferrable primary key": (
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int);"
        "INSERT INTO t SELECT i, i FROM generate_series(1, 5) AS i",
        ["BEGIN; UPDATE t SET id = 2 WHERE id = 1; UPDATE t SET id = 1 WHERE v = 2; COMMIT"],
    ),
    "unique values swapped under a deferrable constraint": (
        "CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE DEFERRABLE);"
        "INSERT INTO t SELECT i, i FROM generate_series(1, 5) AS i",
        ["UPDATE t SET v = 6 - v"],
    ),
    "an exclusion constraint": (
        "CREATE TABLE t (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&));"
        "INSERT INTO t VALUES (1, '[1,3)'), (2, '[3,5)')",
        [
            "UPDATE t SET during = '[9,9]' WHERE id = 1",
            "UPDATE t SET during = '[1,3)' WHERE id = 2",
            "UPDATE t SET during = '[3,5)' WHERE id = 1",
        ],
    ),
    "no key": (
        "CREATE TABLE bag (a int, b text); INSERT INTO bag VALUES (1, 'x'), (1, 'x'), (1, 'x'), (2, NULL), (NULL, NULL)",
        [
            "DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE a = 1 LIMIT 2)",
            "INSERT INTO bag VALUES (2, NULL), (2, NULL), (7, 'seven')",
            "UPDATE bag SET b = 'was null' WHERE a IS NULL",
            "UPDATE bag SET a = 1, b = 'x' WHERE a = 7",
        ],
    ),
    "no key but a unique index": (
        "CREATE TABLE param (fk_user int NOT NULL, name text NOT NULL, value text);"
        "CREATE UNIQUE INDEX ON param (fk_user, name); INSERT INTO param VALUES (1, 'a', 'x'), (1, 'b', 'y')",
        [
            "INSERT INTO param VALUES (1, 'a', 'z') ON CONFLICT (fk_user, name) DO UPDATE SET value = EXCLUDED.value",
            "INSERT INTO param VALUES (1, 'c', 'z') ON CONFLICT (fk_user, name) DO UPDATE SET value = EXCLUDED.value",
            "DELETE FROM param WHERE name = 'b'",
        ],
    ),
    "no key but a unique index with nulls": (
        "CREATE TABLE t (a int UNIQUE, b int); INSERT INTO t VALUES (1, 1), (NULL, 2), (NULL, 3)",
        ["UPDATE t SET b = b + 1", "DELETE FROM t WHERE a IS NULL AND b = 3"],
    ),
    "a key that is equal but not the same": (
        "CREATE TABLE t (id numeric PRIMARY KEY, v int); INSERT INTO t VALUES (1.0, 1), (2.00, 2)",
        ["UPDATE t SET id = 1.000 WHERE id = 1", "DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (2, 2)"],
    ),
    "a key of texts without regard to case": (
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "CREATE TABLE t (id text COLLATE nocase PRIMARY KEY, v int); INSERT INTO t VALUES ('a', 1), ('b', 2)",
        ["UPDATE t SET id = 'A' WHERE id = 'a'", "UPDATE t SET v = 5 WHERE id = 'A'", "DELETE FROM t WHERE id = 'B'"],
    ),
    "keys of many types": (
        "CREATE TYPE mood AS ENUM ('b', 'a'); CREATE DOMAIN d AS varchar(3);"
        "CREATE TABLE t (m mood, d d, c char(4), f float8, ts timestamptz, b bytea, a int[], v int,"
        " PRIMARY KEY (m, d, c, f, ts, b, a));"
        "INSERT INTO t VALUES ('a', 'x', 'y', 0.30000000000000004, '2026-03-04', '\\x00', '{1,2}', 1),"
        " ('b', 'x', 'abcd', '-0', 'infinity', '', '{}', 2)",
        [
            "SET datestyle = 'SQL, DMY'; SET extra_float_digits = 0; UPDATE t SET v = v + 1, m = 'a'",
            "DELETE FROM t WHERE v = 2",
        ],
    ),
    "every type": (
        EVERY_TYPE,
        [
            "SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = -5;"
            " SET bytea_output = 'escape'; SET timezone = 'Asia/Kolkata'; SET search_path = ''; SET xmloption = document",
            "UPDATE public.typed SET t = 'changed', f = f + 1, ts = now(), e = 'fine', pr = NULL",
            "DELETE FROM public.typed WHERE id = 2",
        ],
    ),
    "a writer with other settings": (
        PARTIES,
        [
            "SET datestyle = 'SQL, DMY'; SET intervalstyle = 'sql_standard'; SET extra_float_digits = 0",
            "UPDATE party SET name = 'x'",
            "DELETE FROM party WHERE rowid > 6",
        ],
    ),
    "generated and identity columns": (
        "CREATE TABLE g (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED);"
        "CREATE TABLE i (id int PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, v text);"
        "CREATE TABLE d (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY);"
        "CREATE TABLE sole (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);"
        "INSERT INTO g (a) VALUES (1), (2), (3); INSERT INTO i (id, v) VALUES (1, 'a'), (2, 'b');"
        "INSERT INTO sole DEFAULT VALUES; INSERT INTO d DEFAULT VALUES",
        [
            "UPDATE g SET a = a + 1; DELETE FROM g WHERE id = 2; INSERT INTO g (a) VALUES (9)",
            "DELETE FROM i WHERE id = 1; INSERT INTO i (id, v) VALUES (1, 'a'); UPDATE i SET v = 'c'",
            "INSERT INTO d DEFAULT VALUES; DELETE FROM d WHERE id = 1; INSERT INTO sole DEFAULT VALUES;"
            "UPDATE sole SET id = DEFAULT WHERE id = 1",
        ],
    ),
    "user triggers": (
        f"{PARTIES}; {TOUCHED}; CREATE TABLE log (id serial PRIMARY KEY, what text);"
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO log (what) VALUES (TG_OP); RETURN NULL; END $$;"
        "CREATE TRIGGER told AFTER INSERT OR UPDATE OR DELETE ON party FOR EACH ROW EXECUTE FUNCTION tell();"
        "CREATE TRIGGER told_once AFTER INSERT OR DELETE ON party EXECUTE FUNCTION tell();"
        "ALTER TABLE party ENABLE ALWAYS TRIGGER told_once;"
        "CREATE CONSTRAINT TRIGGER told_late AFTER UPDATE ON party DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION tell()",
        [
            "UPDATE party SET name = 'x' WHERE rowid < 5",
            "DELETE FROM party WHERE rowid = 2; INSERT INTO party (name) VALUES ('new')",
        ],
    ),
    "many rows under a trigger on updates": (
        f"{PARTIES}; {TOUCHED}; INSERT INTO party (name) SELECT 'more' FROM generate_series(1, 300)",
        ["UPDATE party SET name = 'x'", "DELETE FROM party WHERE rowid > 300"],
    ),
    "many rows, and foreign keys that act": (
        f"{PARTIES}; {TOUCHED}; INSERT INTO party (name) SELECT 'more' FROM generate_series(1, 1200);"
        "CREATE TABLE child (id int PRIMARY KEY, party int REFERENCES party ON DELETE CASCADE);"
        "INSERT INTO child SELECT rowid, rowid FROM party",
        [
            "UPDATE party SET name = 'x'",
            "UPDATE child SET party = party - 1 WHERE party > 1",
            "DELETE FROM party WHERE rowid > 9",
        ],
    ),
    "few rows under a trigger on updates, and foreign keys": (
        f"{PARTIES}; {TOUCHED}; CREATE TABLE child (id int PRIMARY KEY, party int REFERENCES party);"
        "CREATE TABLE later (id int PRIMARY KEY, party int REFERENCES party DEFERRABLE);"
        "INSERT INTO child SELECT rowid, rowid FROM party; INSERT INTO later SELECT rowid, rowid FROM party",
        ["UPDATE party SET name = 'x' WHERE rowid < 4", "UPDATE child SET party = 5; DELETE FROM later WHERE id = 2"],
    ),
    "a trigger for each statement, whatever its rows": (
        f"{PARTIES}; CREATE TABLE log (id serial PRIMARY KEY, what text);"
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.log (what) VALUES (TG_OP); RETURN NULL; END $$;"
        "CREATE TRIGGER told AFTER DELETE OR UPDATE ON party EXECUTE FUNCTION tell();"
        "ALTER TABLE party ENABLE ALWAYS TRIGGER told",
        ["DELETE FROM party WHERE rowid = 2", "INSERT INTO party (name) VALUES ('new')"],
    ),
    "virtual generated columns": (
        "CREATE TABLE v (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL);"
        "INSERT INTO v (id, a) VALUES (1, 1), (2, 2), (3, 3)",
        [
            "UPDATE v SET a = a + 1 WHERE id < 3; DELETE FROM v WHERE id = 3; INSERT INTO v (id, a) VALUES (4, 4)",
        ],
    ),
    "a key of times": (
        "CREATE TABLE t (id int4range, during daterange, v int, PRIMARY KEY (id, during WITHOUT OVERLAPS));"
        "INSERT INTO t VALUES ('[1,2)', '[2026-01-01,2026-02-01)', 1), ('[1,2)', '[2026-02-01,2026-03-01)', 2)",
        ["UPDATE t SET v = 9", "DELETE FROM t WHERE date '2026-01-05' <@ during"],
    ),
    "a trigger that goes on writing the row": (
        f"{PARTIES}; CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE party SET code = 'n' || NEW.rowid WHERE rowid = NEW.rowid; RETURN NULL; END $$;"
        "CREATE TRIGGER numbered AFTER INSERT ON party FOR EACH ROW EXECUTE FUNCTION number()",
        ["INSERT INTO party (name) VALUES ('new'), ('newer')", "UPDATE party SET name = 'x' WHERE rowid = 13"],
    ),
    "foreign keys that cascade": (
        "CREATE TABLE parent (id int PRIMARY KEY);"
        "CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,"
        " friend int REFERENCES parent ON DELETE SET NULL, boss int REFERENCES child ON DELETE SET NULL);"
        "INSERT INTO parent VALUES (1), (2), (3);"
        "INSERT INTO child VALUES (1, 1, 2, NULL), (2, 1, 3, 1), (3, 2, 1, 2), (4, 3, 3, 3)",
        [
            "INSERT INTO parent VALUES (4)",
            "UPDATE child SET parent = 4 WHERE id = 2",
            "DELETE FROM parent WHERE id = 1",
            "UPDATE parent SET id = 9 WHERE id = 2",
            "INSERT INTO parent VALUES (5); UPDATE child SET parent = 5",
            "DELETE FROM parent WHERE id = 3",
        ],
    ),
    "foreign keys that cannot wait": (
        "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);"
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;"
        "INSERT INTO a VALUES (1, NULL), (2, NULL); INSERT INTO b VALUES (1, 1), (2, 2); UPDATE a SET b = id",
        [
            "UPDATE a SET b = NULL; DELETE FROM b WHERE id = 1; DELETE FROM a WHERE id = 1",
            "INSERT INTO a VALUES (3, 2); INSERT INTO b VALUES (3, 3); UPDATE a SET b = 3",
        ],
    ),
    "foreign keys that can wait": (
        "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a DEFERRABLE);"
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE, ADD FOREIGN KEY (id) REFERENCES a DEFERRABLE;"
        "INSERT INTO a VALUES (1, NULL), (2, NULL); INSERT INTO b VALUES (1, 1), (2, 2); UPDATE a SET b = id",
        [
            "UPDATE a SET b = NULL; DELETE FROM b WHERE id = 1; DELETE FROM a WHERE id = 1",
            "INSERT INTO a VALUES (3, 2); INSERT INTO b VALUES (3, 3); UPDATE a SET b = 3",
        ],
    ),
    "a tree in one table": (
        "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree, name text);"
        "INSERT INTO tree VALUES (1, NULL, 'a'), (2, 1, 'b'), (3, 2, 'c')",
        ["DELETE FROM tree", "INSERT INTO tree VALUES (3, NULL, 'x'), (2, 3, 'y'), (4, 2, 'z')"],
    ),
    "a tree whose keys move": (
        "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON UPDATE CASCADE ON DELETE CASCADE);"
        "INSERT INTO tree SELECT n, nullif(n - 1, 0) FROM generate_series(1, 9) AS n",
        ["UPDATE tree SET id = id + 100", "DELETE FROM tree WHERE id = 105"],
    ),
    "partitions": (
        "CREATE TABLE p (id int, at int, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE p2 (v text, dropped int, at int NOT NULL, id int NOT NULL); ALTER TABLE p2 DROP COLUMN dropped;"
        "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);"
        "INSERT INTO p SELECT i, i, 'v' || i FROM generate_series(1, 19) AS i",
        [
            "UPDATE p SET at = 20 - at WHERE id BETWEEN 3 AND 6",
            "DELETE FROM p WHERE id > 17",
            "UPDATE p SET v = 'x' WHERE id < 4",
            "INSERT INTO p VALUES (50, 3, 'n'), (51, 13, 'n')",
        ],
    ),
    "copied in": (
        PARTIES,
        ["CREATE TEMP TABLE source AS SELECT 1", "INSERT INTO party (name) SELECT 'many' FROM generate_series(1, 500)"],
    ),
    "names that functions have, too": (
        "".join(
            f'CREATE TABLE "{name}" ("{name}" int PRIMARY KEY, v numeric(8, 2)); INSERT INTO "{name}" VALUES (1, 1), (2, 2), (3, NULL);'
            for name in NAMES_WITH_A_MEANING
        ),
        [
            f'UPDATE "{name}" SET "{name}" = 9, v = v + 1 WHERE "{name}" = 1; DELETE FROM "{name}" WHERE "{name}" = 2;'
            f'INSERT INTO "{name}" VALUES (7, 7)'
            for name in NAMES_WITH_A_MEANING
        ],
    ),
    "names to be quoted": (
        'CREATE SCHEMA "Sch ""é"; CREATE TABLE "Sch ""é"."täble.""x" ("Id é" int PRIMARY KEY, "select" text, "a""b %s {c}" text,'
        ' t int, "old" int, plan int, entry int, call int, relation int, old_rows int, new_rows int, k1 int, net int, image text);'
        'CREATE TABLE "{oid} %s" (removed int, changed int, restored int, ctid_ int, copy int, touched text);'
        "INSERT INTO \"{oid} %s\" VALUES (1, 2, 3, 4, 5, 'x');"
        'INSERT INTO "Sch ""é"."täble.""x" SELECT i, \'s\', \'a\', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \'i\' FROM generate_series(1, 5) AS i',
        [
            'UPDATE "Sch ""é"."täble.""x" SET "select" = \'changed\', call = 77, image = NULL, relation = 4 WHERE "Id é" < 4',
            'DELETE FROM "Sch ""é"."täble.""x" WHERE "Id é" = 5; UPDATE "{oid} %s" SET removed = 9, touched = \'y\'',
        ],
    ),
    "columns that were dropped": (
        f"{PARTIES}; ALTER TABLE party DROP COLUMN share; ALTER TABLE party ADD COLUMN later text DEFAULT 'd'",
        ["UPDATE party SET later = 'x' WHERE rowid < 5; DELETE FROM party WHERE rowid = 9"],
    ),
    "1,600 columns": (
        f"CREATE TABLE wide (id int PRIMARY KEY, {', '.join(f'c{n} smallint' for n in range(1599))});"
        "INSERT INTO wide (id, c0, c1598) VALUES (1, 1, 2), (2, 3, 4)",
        ["UPDATE wide SET c1598 = 9", "DELETE FROM wide WHERE id = 2", "INSERT INTO wide (id) VALUES (3)"],
    ),
    "large values": (
        "CREATE TABLE big (id int PRIMARY KEY, v text, w text); INSERT INTO big SELECT i, repeat(md5(i::text), 5000),"
        " 'small' FROM generate_series(1, 3) AS i",
        ["UPDATE big SET w = 'x'", "UPDATE big SET v = v || 'x' WHERE id = 2", "DELETE FROM big WHERE id = 3"],
    ),
    "rolled back": (
        PARTIES,
        [
            "BEGIN; UPDATE party SET name = 'x'; ROLLBACK",
            "BEGIN; SAVEPOINT s; DELETE FROM party; ROLLBACK TO s; UPDATE party SET name = 'y' WHERE rowid = 1; COMMIT",
            "BEGIN; INSERT INTO party (name) VALUES ('n'); ROLLBACK",
        ],
    ),
    "isolation levels": (
        PARTIES,
        [
            "BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE party SET name = 'x'; DELETE FROM party WHERE rowid = 3; COMMIT",
            "BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE party SET name = 'y'; INSERT INTO party (name) VALUES ('n'); COMMIT",
        ],
    ),
    "several things in one statement": (
        PARTIES,
        [
            "WITH gone AS (DELETE FROM party WHERE rowid < 4 RETURNING *), more AS (UPDATE party SET name = 'u' WHERE rowid > 9)"
            " INSERT INTO party (name, code) SELECT name, 'again ' || code FROM gone",
            "MERGE INTO party USING (VALUES (5, 'five'), (99, 'new'), (6, NULL)) AS source (id, name) ON rowid = id"
            " WHEN MATCHED AND source.name IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET name = source.name"
            " WHEN NOT MATCHED THEN INSERT (rowid, name) VALUES (id, source.name)",
        ],
    ),
    "through a view": (
        f"{PARTIES}; CREATE VIEW names AS SELECT rowid, name FROM party",
        [
            "UPDATE names SET name = 'x' WHERE rowid = 1",
            "INSERT INTO names VALUES (77, 'y')",
            "DELETE FROM names WHERE rowid = 2",
        ],
    ),
    "sequences": (
        "CREATE SEQUENCE never; CREATE SEQUENCE used; SELECT nextval('used'), nextval('used'); CREATE SEQUENCE placed;"
        "SELECT setval('placed', 7, false); CREATE SEQUENCE down INCREMENT -3",
        [
            "SELECT setval('never', 5, false); SELECT nextval('down')",
            "BEGIN; SELECT nextval('used'); ROLLBACK",
            "SELECT nextval('placed'), setval('used', 2, false)",
        ],
    ),
    "a sequence that moved without a transaction": (
        "CREATE SEQUENCE used; SELECT nextval('used')",
        ["SELECT nextval('used')"],
    ),
    "row level security that spares the owner": (
        f"{PARTIES}; ALTER TABLE party ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON party USING (rowid > 3)",
        ["UPDATE party SET name = 'x'"],
    ),
    "an unlogged table": (
        "CREATE UNLOGGED TABLE u (id int PRIMARY KEY, v int); INSERT INTO u VALUES (1, 1)",
        ["UPDATE u SET v = 2", "INSERT INTO u VALUES (2, 2)"],
    ),
}


def until(sandbox: JournalledSandbox, query: str) -> None:
    """Wait until there is what the query looks for."""
    deadline = time.monotonic() + 20
    while sandbox.admin.execute(query.encode()).fetchone() is None:
        assert time.monotonic() < deadline, query
        time.sleep(0.002)


def until_surveyed(sandbox: JournalledSandbox) -> None:
    """A survey has been asked for and ended: in a pipeline, the session then waits for what comes next."""
    surveyed = "(state, wait_event) = ('active', 'ClientRead') AND query ~ 'survey'"
    until(sandbox, f"SELECT FROM pg_stat_activity WHERE pid = {sandbox.reader.info.backend_pid} AND {surveyed}")


def until_waiting(sandbox: JournalledSandbox, mode: str) -> None:
    """The rewind waits for a lock."""
    waits = f"pid = {sandbox.connection.info.backend_pid} AND mode = '{mode}' AND NOT granted"
    until(sandbox, f"SELECT FROM pg_locks WHERE locktype = 'relation' AND {waits}")


@contextmanager
def held_up(sandbox: JournalledSandbox) -> Iterator[tuple[Connection, Future[Rewound | Fallback]]]:
    """A rewind that has its number, and waits until this session commits: others can still come before it."""
    with sandbox.application() as application, ThreadPoolExecutor() as pool:
        application.execute("BEGIN; LOCK TABLE erp_sandbox_journal.calls IN ROW EXCLUSIVE MODE")
        outcome = pool.submit(sandbox.rewind, timedelta(seconds=30))
        until_waiting(sandbox, "ExclusiveLock")
        until_surveyed(sandbox)
        yield application, outcome


@contextmanager
def program_that_rewinds(sandbox: JournalledSandbox) -> Iterator[subprocess.Popen[str]]:
    """A program in the middle of a rewind of what is slow; if it is interrupted, it says how it leaves its sessions."""
    dsn = sandbox.server.dsn("rewind").get_secret_value()
    script = f"""if True:
        import sys
        from pydantic import SecretStr
        from pytest_erp_sandbox.postgres.connection import SandboxDatabase
        from pytest_erp_sandbox.postgres.rewind import rewind
        database = SandboxDatabase(SecretStr(sys.argv[1]), 'dsn', role={ROLE!r})
        connection, reader = database.connect(), database.connect()
        try:
            rewind(connection, lambda: reader, {ROLE!r}, {BASELINE!r})
        except KeyboardInterrupt:
            print(*(session.info.transaction_status.name for session in (connection, reader)))
            print(*(session.info.pipeline_status.name for session in (connection, reader)))
    """
    with subprocess.Popen([sys.executable, "-c", script, dsn], stdout=subprocess.PIPE, text=True) as program:
        until(sandbox, "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query ~ 'journal'")
        yield program


@contextmanager
def halted(connection: SandboxConnection) -> Iterator[None]:
    """The server's process for this session is halted: what is sent to it waits."""
    os.kill(connection.info.backend_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(connection.info.backend_pid, signal.SIGCONT)


@pytest.mark.parametrize("case", CASES)
def test_a_rewind_brings_the_baseline_back(sandbox: JournalledSandbox, case: str) -> None:
    made, happened = CASES[case]
    try:
        sandbox.make(made)
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError) as error:
        pytest.skip(str(error))

    # As text; and typed, as for large tables.
    for large in (2**40, -1):
        sandbox.journal(large=large)
        for _ in range(2):
            sandbox.happen(*happened)
            sandbox.rewound()
            sandbox.expect_baseline()


def test_what_was_copied_in_is_undone(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    with (
        sandbox.application() as application,
        application.cursor() as cursor,
        cursor.copy("COPY party (rowid, name) FROM STDIN") as copy,
    ):
        for number in range(100, 400):
            copy.write_row((number, "copied"))
    assert sandbox.rewound().tables == (UndoneTable("party", 300, 0, 0),)
    sandbox.expect_baseline()


@pytest.mark.parametrize("setup", [PARTIES, f"{PARTIES}; {TOUCHED}"], ids=["updated", "taken out and put in again"])
def test_rows_are_told_by_what_had_happened_to_them(sandbox: JournalledSandbox, setup: str) -> None:
    sandbox.journal(setup)
    sandbox.happen(
        "INSERT INTO party (name) VALUES ('new'), ('fleeting')",
        "UPDATE party SET name = 'x' WHERE rowid < 4 OR name = 'new'",
        "DELETE FROM party WHERE rowid IN (5, 6) OR name = 'fleeting'",
    )
    assert sandbox.rewound().tables == (UndoneTable("party", removed=1, changed=3, restored=2),)
    sandbox.expect_baseline()


def test_nothing_to_undo_is_nothing_done(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    assert sandbox.rewound().tables == ()
    sandbox.happen("UPDATE party SET name = 'x' WHERE false")
    assert sandbox.rewound().tables == ()
    sandbox.expect_baseline()


def test_another_role_s_writes_are_undone(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'", "DELETE FROM party WHERE rowid = 3", role=OTHER)
    sandbox.rewound()
    sandbox.expect_baseline()


def test_the_journal_is_nobody_else_s(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    with sandbox.application(OTHER) as application:
        for statement in ("TABLE erp_sandbox_journal.rows", "SELECT erp_sandbox_journal.writers()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                application.execute(statement.encode())
    callable_by_all = sandbox.admin.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'erp_sandbox_journal'::regnamespace"
        " AND has_function_privilege(%s, oid, 'EXECUTE')",
        [OTHER],
    ).fetchall()
    assert callable_by_all == []


def test_in_a_session_that_is_a_replica(sandbox: JournalledSandbox) -> None:
    made, happened = CASES["user triggers"]
    sandbox.journal(made + "; ALTER TABLE party ENABLE REPLICA TRIGGER told; ALTER TABLE party ADD CHECK (rowid > 0)")
    sandbox.happen(*happened)
    assert isinstance(rewind(sandbox.replica, lambda: sandbox.reader, ROLE, BASELINE), Rewound)
    sandbox.expect_baseline()


@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        ("REFERENCES party", "", "theirs_id_fkey of public.theirs"),
        ("REFERENCES party ON DELETE CASCADE", "", "theirs_id_fkey of public.theirs"),
        ("", "CREATE TABLE own (id int REFERENCES theirs)", "own_id_fkey of public.own"),
    ],
)
def test_a_replica_does_not_pass_by_foreign_keys_of_others(
    sandbox: JournalledSandbox, theirs: str, ours: str, named: str
) -> None:
    sandbox.make(PARTIES)
    sandbox.admin.execute(f"GRANT REFERENCES ON party TO {OTHER}".encode())
    sandbox.happen(f"CREATE TABLE theirs (id int PRIMARY KEY {theirs})", f"GRANT ALL ON theirs TO {ROLE}", role=OTHER)
    sandbox.journal(ours)
    sandbox.happen("INSERT INTO party (name) VALUES ('new')")
    outcome = rewind(sandbox.replica, lambda: sandbox.reader, ROLE, BASELINE)
    assert outcome == Fallback(f"foreign keys of others, which a replica does not look at: {named}")
    sandbox.rewound()


def test_an_application_s_temporary_tables_do_not_matter(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    with sandbox.application() as application:
        application.execute("CREATE TEMP TABLE mine (id serial PRIMARY KEY, v text)")
        application.execute("INSERT INTO mine (v) VALUES ('x')")
        application.execute("UPDATE party SET name = 'x'")
        sandbox.rewound()
        sandbox.expect_baseline()
    sandbox.rewound()


FALLBACKS: dict[str, tuple[str, str, str]] = {
    "what a trigger makes of a foreign key's action": (
        "CREATE TABLE child (id int PRIMARY KEY, party int REFERENCES party ON DELETE CASCADE);"
        "CREATE TABLE version (n int PRIMARY KEY); INSERT INTO version VALUES (1);"
        "CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE public.version SET n = n + 1; RETURN NULL; END';"
        "CREATE TRIGGER bumped AFTER DELETE ON child EXECUTE FUNCTION bump()",
        "INSERT INTO party (name) SELECT 'new' FROM generate_series(1, 2000)",
        "undoing set off further changes in public.version",
    ),
    "a foreign key that acts, and was never validated": (
        "CREATE TABLE child (id int PRIMARY KEY, party int); INSERT INTO child VALUES (1, 13);"
        "ALTER TABLE child ADD FOREIGN KEY (party) REFERENCES party ON DELETE CASCADE NOT VALID",
        "INSERT INTO party (name) VALUES ('new')",
        "public.party was written, and a foreign key acts upon rows that refer to it, and was never validated",
    ),
    "a table is made": ("", "CREATE TABLE new (id int)", "pg_attribute, pg_class.*public.new"),
    "a table is dropped": ("", "DROP TABLE party", "catalogue"),
    "a column is added": ("", "ALTER TABLE party ADD COLUMN x int", "public.party"),
    "a column is renamed": ("", "ALTER TABLE party RENAME name TO nom", "pg_attribute: public.party"),
    "a column's statistics": ("", "ALTER TABLE party ALTER name SET STATISTICS 5", "pg_attribute"),
    "a default": ("", "ALTER TABLE party ALTER name SET DEFAULT 'x'", "pg_attribute: public.party"),
    "another default": (
        "ALTER TABLE party ALTER name SET DEFAULT 'x'",
        "ALTER TABLE party ALTER name SET DEFAULT 'y'",
        "pg_attribute: public.party",
    ),
    "an index": ("", "CREATE INDEX ON party (name)", "pg_index"),
    "an index dropped": ("", "DROP INDEX party_code", "pg_class"),
    "a column dropped": ("", "ALTER TABLE party DROP COLUMN name", "pg_attribute"),
    "a default dropped": (
        "ALTER TABLE party ALTER name SET DEFAULT 'x'",
        "ALTER TABLE party ALTER name DROP DEFAULT",
        "pg_attribute: public.party",
    ),
    "a generated column made a plain one": (
        "ALTER TABLE party ADD twice int GENERATED ALWAYS AS (rowid * 2) STORED",
        "ALTER TABLE party ALTER twice DROP EXPRESSION",
        "pg_attribute: public.party",
    ),
    "what words are made of": (
        "CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)",
        "ALTER TEXT SEARCH CONFIGURATION words DROP MAPPING FOR word",
        "pg_ts_config_map",
    ),
    "a sequence dropped": ("CREATE SEQUENCE own", "DROP SEQUENCE own", "pg_class"),
    "a constraint": ("", "ALTER TABLE party ADD CHECK (rowid > 0)", "pg_constraint"),
    "a function": (
        "",
        "CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "pg_proc: .*touch",
    ),
    "a grant": ("", f"GRANT SELECT (name) ON party TO {OTHER}", "pg_attribute"),
    "a comment": ("", "COMMENT ON TABLE party IS 'x'", "pg_description"),
    "a comment on schema public": ("", "COMMENT ON SCHEMA public IS 'x'", "pg_description"),
    "an enum's label": ("CREATE TYPE mood AS ENUM ('a')", "ALTER TYPE mood ADD VALUE 'b'", "pg_enum"),
    "a schema": ("", "CREATE SCHEMA s", "pg_namespace"),
    "a sequence's step": ("", "ALTER SEQUENCE party_rowid_seq INCREMENT 5", "pg_sequence"),
    "a trigger off": ("", "ALTER TABLE party DISABLE TRIGGER touched", "pg_trigger"),
    "the journal off for a moment": (
        "",
        "ALTER TABLE party DISABLE TRIGGER USER; UPDATE party SET name = 'x'; ALTER TABLE party ENABLE TRIGGER USER;"
        "ALTER TABLE party ENABLE ALWAYS TRIGGER erp_sandbox_insert, ENABLE ALWAYS TRIGGER erp_sandbox_update,"
        " ENABLE ALWAYS TRIGGER erp_sandbox_delete",
        "pg_trigger: public.party",
    ),
    "truncated": ("", "TRUNCATE party", "public.party"),
    "truncated with its sequence": ("", "TRUNCATE party RESTART IDENTITY", "public.party"),
    "rewritten": ("", "CLUSTER party USING party_pkey", "public.party"),
    "a large object": ("", "SELECT lo_create(0)", "pg_largeobject_metadata"),
    "forced row level security": (
        "ALTER TABLE party ENABLE ROW LEVEL SECURITY; ALTER TABLE party FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY all_ ON party USING (true)",
        "UPDATE party SET name = 'x' WHERE rowid = 1",
        "party was written, and it has row level security",
    ),
    "rules": (
        "CREATE RULE keep AS ON DELETE TO party DO INSTEAD NOTHING",
        "UPDATE party SET name = 'x' WHERE rowid = 1",
        "party was written, and it has rules",
    ),
    "inheritance": (
        "CREATE TABLE heir (more int) INHERITS (party)",
        "INSERT INTO heir (name) VALUES ('x')",
        "heir was written, and it inherits",
    ),
    "inheritance, by the parent": (
        "CREATE TABLE heir (more int) INHERITS (party); INSERT INTO heir (name) VALUES ('x')",
        "UPDATE party SET name = 'y'",
        "party was written, and it inherits",
    ),
    "a partition": (
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "INSERT INTO p1 VALUES (1)",
        "p1 was written, and it is a partition",
    ),
    "a sequence with a store": (
        "CREATE SEQUENCE stored CACHE 10",
        "SELECT nextval('stored')",
        "the sequence public.stored has moved",
    ),
    "a foreign table": (
        "",
        "UPDATE party SET name = 'x' WHERE rowid = 1; ALTER TABLE party SET (fillfactor = 50)",
        "pg_class: public.party",
    ),
    "statements within statements": (
        "CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF pg_trigger_depth() = 1 THEN"
        " UPDATE party SET code = 'n' || rowid WHERE rowid = NEW.rowid; END IF; RETURN NULL; END $$;"
        "CREATE TRIGGER again AFTER UPDATE ON party FOR EACH ROW EXECUTE FUNCTION twice()",
        "UPDATE party SET name = 'x'",
        "one statement wrote a row of public.party more than once",
    ),
    "foreign keys that write a row twice, each in its turn": (
        "CREATE TABLE child (id int PRIMARY KEY, of int REFERENCES party ON DELETE CASCADE,"
        " friend int REFERENCES party ON DELETE SET NULL); INSERT INTO child VALUES (10, 2, 1)",
        "DELETE FROM party WHERE rowid IN (1, 2)",
        "one statement wrote a row of public.child more than once",
    ),
    "foreign keys that write a row twice at once": (
        "CREATE TABLE child (id int PRIMARY KEY, of int REFERENCES party ON DELETE SET NULL,"
        " friend int REFERENCES party ON DELETE SET NULL); INSERT INTO child SELECT n, 1, 1 FROM generate_series(1, 300) AS n",
        "DELETE FROM party WHERE rowid = 1",
        "one statement wrote a row of public.child more than once",
    ),
    "keys that move each other": (
        "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON UPDATE CASCADE);"
        "INSERT INTO tree SELECT n, nullif(n - 1, 0) FROM generate_series(1, 9) AS n",
        "UPDATE tree SET id = id - 1",
        "one statement wrote a row of public.tree more than once",
    ),
    "a check that the baseline does not hold": (
        "ALTER TABLE party ADD CHECK (name <> 'party 1') NOT VALID",
        "UPDATE party SET name = 'x'",
        'the undo failed: new row for relation "party" violates check',
    ),
    "values that are unique swapped, under foreign keys that act": (
        "CREATE TABLE child (id int PRIMARY KEY, party int REFERENCES party ON DELETE CASCADE);"
        "INSERT INTO child VALUES (1, 1)",
        "UPDATE party SET code = 'x' WHERE rowid = 1; UPDATE party SET code = 'c1' WHERE rowid = 2;"
        "UPDATE party SET code = 'c2' WHERE rowid = 1",
        "the undo failed: duplicate key",
    ),
}


@pytest.mark.parametrize("case", FALLBACKS)
def test_what_cannot_be_proven_is_said(sandbox: JournalledSandbox, case: str) -> None:
    more, happened, cause = FALLBACKS[case]
    sandbox.journal(PARTIES, TOUCHED, *([more] if more else []))
    sandbox.happen(happened)
    before = sandbox.admin.execute("SELECT count(*) FROM pg_class").fetchone()
    assert re.search(cause, sandbox.fallback())
    assert sandbox.admin.execute("SELECT count(*) FROM pg_class").fetchone() == before
    assert sandbox.connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def test_why_a_large_table_cannot_be_rewound_is_said(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, "CREATE RULE kept AS ON DELETE TO party DO INSTEAD NOTHING", large=-1)
    sandbox.happen("UPDATE party SET name = 'x'")
    assert read_changes(sandbox.connection, ROLE).unseen == (Unseen("party", "it has rules"),)
    assert "public.party was written, and it has rules" in sandbox.fallback()


ODDITIES = (
    "quote_all_identifiers = on",
    "standard_conforming_strings = off",
    "default_transaction_isolation = 'serializable'",
)


@pytest.fixture
def odd(sandbox: JournalledSandbox) -> Iterator[JournalledSandbox]:
    """A sandbox whose database asks all sessions for what hardly anybody does."""
    for oddity in ODDITIES:
        sandbox.admin.execute(f"ALTER DATABASE {DATABASE} SET {oddity}".encode())
    sandbox.reconnect()
    yield sandbox
    sandbox.admin.execute(f"ALTER DATABASE {DATABASE} RESET ALL".encode())
    sandbox.reconnect()


@pytest.mark.parametrize("large", [0, 2**40])
def test_whatever_a_database_asks_of_its_sessions(odd: JournalledSandbox, large: int) -> None:
    odd.journal(PARTIES, "ALTER TABLE party ADD COLUMN k1 text", large=large)
    odd.happen("UPDATE party SET name = name || '\\\\' WHERE rowid = 3", "INSERT INTO party (name) VALUES ('x')")
    found = read_changes(odd.connection, ROLE)
    assert [(change.table, change.kind) for change in found.changes] == [("party", "updated"), ("party", "inserted")]
    assert odd.rewound().tables == (UndoneTable("party", 1, 1, 0),)
    odd.expect_baseline()


def test_a_platform_that_publishes_all_tables(sandbox: JournalledSandbox) -> None:
    # Of a table without a replica identity, no row that is published may be updated or deleted.
    sandbox.admin.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    try:
        sandbox.journal(
            PARTIES,
            "CREATE TABLE child (id int PRIMARY KEY, party int REFERENCES party ON DELETE CASCADE)",
            large=0,
        )
        sandbox.happen("UPDATE party SET name = 'x'", "INSERT INTO child VALUES (1, 2)")
        sandbox.rewound()
        sandbox.expect_baseline()
    finally:
        sandbox.admin.execute("DROP PUBLICATION everything")


def test_what_a_server_has_too_little_of_is_a_reason_to_restore(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("INSERT INTO party (name) SELECT 'many' FROM generate_series(1, 20000)")
    sandbox.admin.execute(f"ALTER ROLE {LOGIN} SET temp_file_limit = 0; ALTER ROLE {LOGIN} SET work_mem = 64".encode())
    sandbox.reconnect()
    try:
        assert "temporary file size exceeds" in sandbox.fallback()
    finally:
        sandbox.admin.execute(f"ALTER ROLE {LOGIN} RESET ALL".encode())
        sandbox.reconnect()


def test_a_prepared_transaction_is_a_writer_that_does_not_end(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("BEGIN; UPDATE party SET name = 'x'; PREPARE TRANSACTION 'later'")
    try:
        with pytest.raises(PostgresError, match="the prepared transaction 'later'"):
            sandbox.rewind()
    finally:
        sandbox.admin.execute("ROLLBACK PREPARED 'later'")
    sandbox.rewound()
    sandbox.expect_baseline()


def test_a_schema_that_is_published(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, "CREATE PUBLICATION told")
    # Only a superuser can.
    sandbox.admin.execute("ALTER PUBLICATION told ADD TABLES IN SCHEMA public")
    assert "pg_publication_namespace" in sandbox.fallback()


def test_a_materialized_view_can_be_refreshed_unseen(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, "CREATE MATERIALIZED VIEW m AS SELECT * FROM party; CREATE UNIQUE INDEX ON m (rowid)")
    assert re.search(r"materialized views can be refreshed unseen: public\.m", sandbox.fallback())


def test_no_journal(sandbox: JournalledSandbox) -> None:
    assert re.search("there is no journal", sandbox.fallback())


def test_another_baseline(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    assert "another baseline" in sandbox.fallback("baseline-2")


def test_a_journal_of_another_database(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.admin.execute("UPDATE erp_sandbox_journal.baseline SET database = 1")
    assert re.search("made for another database", sandbox.fallback())


def test_a_lost_line_of_the_journal(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("INSERT INTO party (name) VALUES ('n')", "DELETE FROM party WHERE name = 'n'")
    sandbox.admin.execute("DELETE FROM erp_sandbox_journal.rows WHERE is_new")
    assert re.search("were lost", sandbox.fallback())


def test_the_server_has_crashed(server: Server, sandbox: JournalledSandbox) -> None:
    sandbox.journal("CREATE UNLOGGED TABLE u (id int); INSERT INTO u VALUES (1)")
    sandbox.admin.execute("CHECKPOINT")
    server.stop("immediate")
    server.start()
    sandbox.reconnect()
    assert re.search("crashed", sandbox.fallback())


def test_a_writer_who_has_not_ended_is_named(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    with sandbox.application() as application, application.transaction():
        application.execute("SET application_name = 'slow one'")
        application.execute("UPDATE party SET name = 'x' WHERE rowid = 1")
        with pytest.raises(PostgresError, match="slow one"):
            sandbox.rewind()
    sandbox.rewound()
    sandbox.expect_baseline()


def test_one_who_has_defined_something_and_not_ended_is_named(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, TOUCHED)
    with sandbox.application() as application, application.transaction():
        application.execute("SET application_name = 'definer'")
        application.execute("ALTER FUNCTION touch() COST 5")
        with pytest.raises(PostgresError, match="definer"):
            sandbox.rewind()
    assert re.search("pg_proc", sandbox.fallback())


def test_a_writer_who_ends_in_time_is_waited_for(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    with sandbox.application() as application:
        application.execute("SET idle_in_transaction_session_timeout = 0")
        application.execute("DO $$ BEGIN UPDATE party SET name = 'x'; COMMIT; END $$")
        pgconn = application.pgconn
        pgconn.send_query(b"DO $$ BEGIN UPDATE party SET name = 'y'; PERFORM pg_sleep(0.1); END $$")
        sandbox.admin.execute("SELECT pg_sleep(0.03)")
        sandbox.rewound()
        sandbox.expect_baseline()
        while pgconn.get_result():
            pass


def test_a_statement_that_has_begun_is_let_through(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'dirty'")
    with sandbox.application() as application:
        application.pgconn.send_query(b"UPDATE party SET name = 'slow' || pg_sleep(0.04) WHERE rowid > 1")
        until(sandbox, "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query ~ 'slow'")
        outcome = rewind(sandbox.connection, lambda: sandbox.reader, ROLE, BASELINE, lock_timeout=timedelta(seconds=30))
        assert isinstance(outcome, Rewound)
        results = iter(application.pgconn.get_result, None)
        assert [result.error_message for result in results] == [b""]
    sandbox.expect_baseline()


def test_a_statement_that_begins_during_a_rewind_waits(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, SLOW)
    sandbox.happen("UPDATE party SET name = 'x'")
    with sandbox.application() as application, ThreadPoolExecutor() as pool:
        rewinding = pool.submit(sandbox.rewind, timedelta(seconds=30))
        until(sandbox, "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query ~ 'journal'")
        application.execute("UPDATE party SET name = 'y' WHERE rowid = 12")
        assert isinstance(rewinding.result(), Rewound)
        found = application.execute("SELECT name FROM party WHERE rowid IN (1, 12) ORDER BY 1").fetchall()
    assert found in ([("party 1",), ("y",)], [("party 1",), ("party 12",)])
    sandbox.rewound()
    sandbox.expect_baseline()


LOST = "the sandbox was not rewound: (terminating|consuming input failed: server closed the) connection"


def test_a_rewind_that_loses_its_reader_has_done_nothing(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'")
    sandbox.admin.execute("SELECT pg_terminate_backend(%s, 5000)", [sandbox.reader.info.backend_pid])
    # Which of the two it is told depends on when it looks.
    with pytest.raises(PostgresError, match=LOST):
        sandbox.rewind()
    assert sandbox.admin.execute("SELECT DISTINCT name FROM party").fetchall() == [("x",)]
    sandbox.reconnect()
    sandbox.rewound()
    sandbox.expect_baseline()


@pytest.mark.parametrize("error", [PostgresError, ClusterError, KeyboardInterrupt])
def test_a_rewind_that_gets_no_reader_has_done_nothing(sandbox: JournalledSandbox, error: type[BaseException]) -> None:
    """The server may refuse it; or the Secret with its login be out of reach; or somebody press Ctrl-C."""

    def refused() -> SandboxConnection:
        raise error("too many connections")

    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'")
    with pytest.raises(error, match="too many connections"):
        rewind(sandbox.connection, refused, ROLE, BASELINE)
    assert sandbox.admin.execute("SELECT DISTINCT name FROM party").fetchall() == [("x",)]
    sandbox.rewound()
    sandbox.expect_baseline()


def test_a_session_lets_go_of_the_statements_that_undo_by_an_earlier_journal(sandbox: JournalledSandbox) -> None:
    kept = list[set[object]]()
    sandbox.make(PARTIES)
    for _ in range(2):
        sandbox.journal()
        sandbox.happen("DELETE FROM party WHERE rowid = 1")
        sandbox.rewound()
        asked = "SELECT name FROM pg_prepared_statements WHERE starts_with(name, 'erp_sandbox_undo_')"
        kept.append({name for (name,) in sandbox.connection.execute(asked)})
    assert len(kept[0]) == len(kept[1]) == 1
    assert not kept[0] & kept[1]


def test_a_table_that_the_journal_knows_nothing_of_is_restored(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("DELETE FROM party WHERE rowid = 1")
    sandbox.admin.execute("DELETE FROM erp_sandbox_journal.tables")
    assert "does not know how to undo" in sandbox.fallback()


DEFINING = "ALTER TABLE party ALTER name SET STATISTICS 0; ALTER TABLE party ALTER name SET STATISTICS -1"
DEFINED = Fallback("the catalogue is not as it was (pg_attribute: public.party)")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"BEGIN; {DEFINING}; COMMIT"),
        (f"BEGIN; {DEFINING}", "COMMIT"),
        ("", "BEGIN; INSERT INTO party (name) VALUES ('x'); ROLLBACK"),
        ("BEGIN; INSERT INTO party (name) VALUES ('x')", "ROLLBACK"),
        ("", ""),
    ],
    ids=["defining", "ending what defines", "writing", "ending what writes", "nothing"],
)
def test_what_others_do_between_the_survey_and_the_beginning(
    sandbox: JournalledSandbox, before: str, after: str
) -> None:
    """Both are sent at once; what is done until the rewind has its number, the survey may not have seen."""
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'")
    with sandbox.application() as application, ThreadPoolExecutor() as pool:
        application.execute(before.encode())
        # A snapshot lists the transactions that run up to the youngest that has ended.
        sandbox.happen("SELECT pg_current_xact_id()")
        with halted(sandbox.connection):
            outcome = pool.submit(sandbox.rewind, timedelta(seconds=30))
            until_surveyed(sandbox)
            application.execute(after.encode())
    if DEFINING in before + after:
        assert outcome.result() == DEFINED
    else:
        assert isinstance(outcome.result(), Rewound)
        sandbox.expect_baseline()


@pytest.mark.parametrize(
    ("after", "is_rewound"),
    [
        ("INSERT INTO party (name) VALUES ('x')", True),
        (DEFINING, False),
    ],
    ids=["writing", "defining"],
)
def test_what_others_do_between_the_beginning_and_its_lock(
    sandbox: JournalledSandbox, after: str, is_rewound: bool
) -> None:
    """The rewind has its number, and those who write can still come before it."""
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'")
    with held_up(sandbox) as (application, outcome):
        application.execute(f"{after}; COMMIT".encode())
    if is_rewound:
        assert isinstance(outcome.result(), Rewound)
        sandbox.expect_baseline()
    else:
        assert outcome.result() == DEFINED


def test_who_still_defines_when_the_rewind_begins(sandbox: JournalledSandbox) -> None:
    """The rewind waits for it; so does the survey, which would not see it otherwise."""
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'")
    with sandbox.application() as application, ThreadPoolExecutor() as pool:
        application.execute(f"BEGIN; {DEFINING}".encode())
        # A snapshot lists the transactions that run up to the youngest that has ended.
        sandbox.happen("SELECT pg_current_xact_id()")
        outcome = pool.submit(sandbox.rewind, timedelta(seconds=30))
        # Long enough for a survey that does not wait; the rewind's first attempts end sooner.
        until(
            sandbox,
            "SELECT FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE clock_timestamp() - query_start > '60 ms'"
            f" AND pid = {sandbox.connection.info.backend_pid} AND state = 'active'"
            " AND relation = 'erp_sandbox_journal.calls'::regclass AND mode = 'ExclusiveLock' AND granted",
        )
        application.execute("COMMIT")
    assert outcome.result() == DEFINED


def test_a_trigger_that_others_change_while_it_is_to_be_switched_off(sandbox: JournalledSandbox) -> None:
    """Switched off and on, it would be as young as the rewind: the next one could not tell that it was changed."""
    trigger = "TRIGGER touched BEFORE INSERT ON party FOR EACH ROW EXECUTE FUNCTION"
    another = "CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    sandbox.journal(PARTIES, TOUCH, another, f"CREATE {trigger} touch()")
    sandbox.happen("DELETE FROM party WHERE rowid = 1")
    with sandbox.application() as definer, held_up(sandbox) as (application, outcome):
        definer.execute(f"BEGIN; CREATE OR REPLACE {trigger} another()".encode())
        application.execute("COMMIT")
        until_waiting(sandbox, "ShareRowExclusiveLock")
        definer.execute("COMMIT")
    assert isinstance(result := outcome.result(), Fallback)
    # The second, if it was waited for so long that the rewind began anew.
    assert result.reason in (
        "triggers of party were changed while it was put back",
        "the catalogue is not as it was (pg_trigger: public.party)",
    )


@pytest.mark.parametrize("is_defined", [False, True])
def test_somebody_elsewhere_is_always_at_it(sandbox: JournalledSandbox, is_defined: bool) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'; INSERT INTO party (name) VALUES ('y')")
    if is_defined:
        sandbox.happen(DEFINING)
    with psycopg.connect(sandbox.server.dsn("postgres").get_secret_value()) as elsewhere:
        elsewhere.execute("SELECT pg_current_xact_id()")
        if is_defined:
            assert sandbox.rewind() == DEFINED
        else:
            sandbox.rewound()
            sandbox.expect_baseline()
            # Where nothing is to be done, nobody is waited for.
            assert sandbox.rewound().rows == 0


def test_a_program_that_is_killed_while_it_rewinds(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, SLOW)
    sandbox.happen("UPDATE party SET name = 'x'")
    with program_that_rewinds(sandbox) as program:
        program.kill()
    outcome = rewind(sandbox.connection, lambda: sandbox.reader, ROLE, BASELINE, lock_timeout=timedelta(seconds=30))
    assert isinstance(outcome, Rewound)
    sandbox.expect_baseline()


def test_a_program_that_is_interrupted_while_it_rewinds_lets_go(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, SLOW)
    sandbox.happen("UPDATE party SET name = 'x'")
    with program_that_rewinds(sandbox) as program:
        program.send_signal(signal.SIGINT)
        assert program.communicate()[0] == "IDLE IDLE\nOFF OFF\n"
    assert sandbox.admin.execute("SELECT DISTINCT name FROM party").fetchall() == [("x",)]


def test_whatever_isolation_sessions_begin_with(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.connection.execute("SET default_transaction_isolation = 'repeatable read'")
    try:
        with sandbox.application() as application:
            application.execute("BEGIN; UPDATE party SET name = 'x'")
            application.pgconn.send_query(b"SELECT pg_sleep(0.1); COMMIT")
            sandbox.rewound()
            while application.pgconn.get_result():
                pass
    finally:
        sandbox.connection.execute("RESET default_transaction_isolation")
    sandbox.expect_baseline()


def test_a_reader_that_would_not_see_what_others_do_is_refused(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'")
    sandbox.reader.execute("SET default_transaction_isolation = 'repeatable read'")
    try:
        assert "a transaction that is repeatable read does not see what others" in sandbox.fallback()
    finally:
        sandbox.reader.execute("SET default_transaction_isolation = 'read committed'")


def test_few_rows_leave_triggers_on_updates_alone(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, TOUCHED)
    touched = "SELECT xmin FROM pg_trigger WHERE tgname = 'touched'"
    before = sandbox.admin.execute(touched.encode()).fetchone()
    sandbox.happen("UPDATE party SET name = 'x' WHERE rowid < 4")
    assert sandbox.rewound().tables == (UndoneTable("party", 0, 3, 0),)
    sandbox.expect_baseline()
    assert sandbox.admin.execute(touched.encode()).fetchone() == before


def test_default_privileges_do_not_open_the_journal(sandbox: JournalledSandbox) -> None:
    grant = f"ALTER DEFAULT PRIVILEGES {{}} ALL ON {{}} {{}} {OTHER}"
    kinds = ("SCHEMAS", "TABLES", "FUNCTIONS", "SEQUENCES")
    sandbox.make(*(grant.format("GRANT", kind, "TO") for kind in kinds), PARTIES)
    sandbox.journal()
    sandbox.make(*(grant.format("REVOKE", kind, "FROM") for kind in kinds))
    for statement in ("TABLE erp_sandbox_journal.rows", "SELECT nextval('erp_sandbox_journal.call_ids')"):
        with sandbox.application(OTHER) as application, pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute(statement.encode())
    sandbox.happen("UPDATE party SET name = 'x'", role=OTHER)


def test_a_wipe_takes_the_journal_and_loses_nothing_by_it(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    assert lost_by_wipe(sandbox.connection, ROLE) == []
    with as_owner(sandbox.connection, ROLE):
        sandbox.connection.execute(f"DROP OWNED BY {ROLE} CASCADE".encode())
    assert not has_journal(sandbox.connection)
    assert journalled_baseline(sandbox.connection, ROLE) is None


def test_a_journal_tells_whose_it_is(sandbox: JournalledSandbox) -> None:
    assert journalled_baseline(sandbox.connection, ROLE) is None
    sandbox.journal(PARTIES)
    assert journalled_baseline(sandbox.connection, ROLE) == BASELINE
    sandbox.admin.execute("UPDATE erp_sandbox_journal.baseline SET form = 'old'")
    assert journalled_baseline(sandbox.connection, ROLE) is None
    assert "another version" in sandbox.fallback()
    sandbox.admin.execute("UPDATE erp_sandbox_journal.baseline SET database = 1")
    assert journalled_baseline(sandbox.connection, ROLE) is None


def test_many_rewinds_leave_nothing_behind(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, "CREATE TABLE wide (id serial PRIMARY KEY, v text)")
    happened = (
        "INSERT INTO wide (v) SELECT repeat('x', 500) FROM generate_series(1, 100); UPDATE wide SET v = v || 'y';"
        "UPDATE party SET name = 'x'"
    )
    size = "SELECT pg_database_size(current_database())"
    with sandbox.application() as application:

        def grown() -> int:
            before = sandbox.admin.execute(size.encode()).fetchone()
            for _ in range(150):
                application.execute(happened.encode())
                sandbox.rewound()
            after = sandbox.admin.execute(size.encode()).fetchone()
            assert before is not None
            assert after is not None
            return int(after[0] - before[0])

        # What a table needs at most is not given back, but used again.
        assert grown() > grown()
        assert grown() < 1_000_000
    sandbox.expect_baseline()


MANY = (
    "CREATE TABLE many (id int PRIMARY KEY, v text)",
    "INSERT INTO many SELECT i, 'value ' || i FROM generate_series(1, 15000) AS i",
)


PARTED = (
    "CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
    "CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (1000000)"
)


def _size_of_journals(sandbox: JournalledSandbox) -> int:
    sizes = "SELECT sum(pg_table_size(oid))::bigint FROM pg_class WHERE relname ~ '^(calls|rows)(_\\d+)?$'"
    row = sandbox.admin.execute(sizes.encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("large", [2**40, -1], ids=["text", "typed"])
def test_many_rows_are_put_back_and_their_journal_gives_its_room_back(sandbox: JournalledSandbox, large: int) -> None:
    sandbox.journal(*MANY, large=large)
    for _ in range(2):
        sandbox.happen("UPDATE many SET v = v || '!'", "DELETE FROM many WHERE id > 14990")
        assert _size_of_journals(sandbox) > 1_000_000
        assert sandbox.rewound().rows == 15_000
        sandbox.expect_baseline()
        assert _size_of_journals(sandbox) < 100_000
    # And goes on.
    sandbox.happen("INSERT INTO many VALUES (0, 'x')", "UPDATE many SET v = v || '!' WHERE id = 1")
    assert sandbox.rewound().rows == 2
    sandbox.expect_baseline()


@pytest.mark.parametrize("large", [2**40, -1], ids=["text", "typed"])
def test_who_reads_the_journal_is_not_waited_for(sandbox: JournalledSandbox, large: int) -> None:
    sandbox.journal(*MANY, large=large)
    sizes = []
    with sandbox.application() as reader, reader.transaction():
        for _ in range(3):
            sandbox.happen("UPDATE many SET v = v || '!'")
            reader.execute("SELECT count(*) FROM erp_sandbox_journal.calls")
            assert sandbox.rewound().rows == 15_000
            sizes.append(_size_of_journals(sandbox))
    # It cannot be cut off: what it needs at most is used again.
    assert max(sizes) < 1.5 * sizes[0]
    sandbox.expect_baseline()
    sandbox.happen("UPDATE many SET v = v || '!' WHERE id = 1")
    assert sandbox.rewound().rows == 1
    sandbox.expect_baseline()


@pytest.mark.parametrize("read", ["erp_sandbox_journal.calls", "many", "parted"])
def test_who_has_read_and_stays_in_a_transaction_is_not_waited_for(sandbox: JournalledSandbox, read: str) -> None:
    """VACUUM gives a file's end back under a lock that it waits for, five seconds for each table."""
    sandbox.journal(*MANY, PARTED)
    for _ in range(2):
        for table in ("many", "parted"):
            sandbox.happen(f"INSERT INTO {table} SELECT i, 'x' FROM generate_series(15001, 30000) AS i")
        with sandbox.application() as reader:
            reader.execute("BEGIN")
            reader.execute(f"SELECT FROM {read}".encode())
            assert sandbox.rewound().seconds < 4
    sandbox.expect_baseline()


REDEFINED = {
    "a column of another type": "ALTER TABLE made ALTER v TYPE int USING v::int",
    "a number that becomes text": "ALTER TABLE made ALTER lines TYPE text",
    "a number that becomes a time": "ALTER TABLE made ALTER lines TYPE timestamptz USING to_timestamp(lines)",
    "a number that becomes larger": "ALTER TABLE made ALTER lines TYPE bigint USING lines + 10000000000",
    "text that becomes no longer a number": "ALTER TABLE made ALTER lines TYPE text USING 'number ' || lines",
    "a key that becomes text": "ALTER TABLE made ALTER id TYPE text USING 'key ' || id",
    "text without a limit": "ALTER TABLE made ALTER stack TYPE varchar; UPDATE made SET stack = repeat('long ', 99)",
    "a column renamed": "ALTER TABLE made RENAME v TO w",
    "a column renamed to what the journal has, too": "ALTER TABLE made RENAME v TO image",
    "a column dropped": "ALTER TABLE made DROP COLUMN lines",
    "two columns swapped": "ALTER TABLE made RENAME v TO w; ALTER TABLE made RENAME lines TO v; ALTER TABLE made RENAME w TO lines",
    "the key renamed": "ALTER TABLE made RENAME id TO rowid",
    "the key dropped": "ALTER TABLE made DROP COLUMN id",
    "a column added": "ALTER TABLE made ADD COLUMN w int",
}


NEW_ROW = {
    "a number that becomes a time": "INSERT INTO made VALUES (4, '4', now())",
    "a column dropped": "INSERT INTO made VALUES (4, '4', 'four')",
    "the key dropped": "INSERT INTO made VALUES ('4', 4, 'four')",
    "a key that becomes text": "INSERT INTO made VALUES ('four', '4', 4)",
    "a number that becomes larger": "INSERT INTO made VALUES (4, '4', 40000000000)",
    "text that becomes no longer a number": "INSERT INTO made VALUES (4, '4', 'four')",
}


@pytest.mark.parametrize("large", [2**40, -1], ids=["text", "typed"])
@pytest.mark.parametrize("key", ["PRIMARY KEY", "NOT NULL"], ids=["with a key", "without a key"])
@pytest.mark.parametrize("case", REDEFINED)
def test_columns_that_are_redefined_do_not_keep_the_erp_from_writing(
    sandbox: JournalledSandbox, case: str, key: str, large: int
) -> None:
    sandbox.journal(f"CREATE TABLE made (id int {key}, v text, lines int, stack varchar(7))", large=large)
    with sandbox.application() as application:
        application.execute("INSERT INTO made VALUES (1, '1', 1), (2, '2', 2), (3, '3', 3)")
        application.execute(REDEFINED[case].encode())
        application.execute("UPDATE made SET stack = 'changed'")
        application.execute("DELETE FROM made WHERE ctid = (SELECT min(ctid) FROM made)")
        application.execute(NEW_ROW.get(case, "INSERT INTO made VALUES (4, '4', 4)").encode())
        application.execute("UPDATE made SET stack = 'again'")
        application.execute("DELETE FROM made")
    assert "public.made" in sandbox.fallback()


def test_a_reader_is_not_waited_for(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, TOUCHED)
    sandbox.happen("UPDATE party SET name = 'x'")
    with sandbox.application() as application, application.transaction():
        application.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before = application.execute("SELECT * FROM party ORDER BY 1").fetchall()
        sandbox.rewound()
        assert application.execute("SELECT * FROM party ORDER BY 1").fetchall() == before
    sandbox.expect_baseline()


def test_sessions_of_the_application_stay_up(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    with sandbox.application() as application:
        for _ in range(3):
            for _ in range(6):
                application.execute("UPDATE party SET name = 'x' WHERE rowid = %s", [1], prepare=True)
            sandbox.rewound()
            sandbox.expect_baseline()


def test_two_sessions_at_the_same_rows(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    with sandbox.application() as one, sandbox.application(OTHER) as two:
        one.execute("BEGIN; UPDATE party SET name = 'one' WHERE rowid = 1")
        two.execute("BEGIN; UPDATE party SET name = 'two' WHERE rowid = 2")
        one.execute("DELETE FROM party WHERE rowid = 3; COMMIT")
        two.execute("UPDATE party SET name = 'two' WHERE rowid = 1; INSERT INTO party (rowid) VALUES (3); COMMIT")
    sandbox.rewound()
    sandbox.expect_baseline()


def test_a_rewind_that_is_killed_has_not_happened(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES, SLOW)
    sandbox.happen("UPDATE party SET name = 'x'")
    changed = sandbox.admin.execute("SELECT * FROM party ORDER BY 1").fetchall()
    pid = sandbox.connection.info.backend_pid
    with sandbox.application() as killer:
        killer.execute("RESET SESSION AUTHORIZATION")
        killer.pgconn.send_query(f"SELECT pg_sleep(0.1), pg_terminate_backend({pid})".encode())
        with pytest.raises(PostgresError, match="was not rewound: terminating connection"):
            sandbox.rewind()
        while killer.pgconn.get_result():
            pass
    assert sandbox.admin.execute("SELECT * FROM party ORDER BY 1").fetchall() == changed
    sandbox.reconnect()
    sandbox.rewound()
    sandbox.expect_baseline()


def test_dropping_leaves_no_trace(sandbox: JournalledSandbox) -> None:
    sandbox.make(PARTIES, TOUCHED)
    before = sandbox.admin.execute("SELECT count(*), (SELECT count(*) FROM pg_trigger) FROM pg_class").fetchone()
    install_journal(sandbox.connection, ROLE, BASELINE)
    assert has_journal(sandbox.connection)
    drop_journal(sandbox.connection, ROLE)
    assert not has_journal(sandbox.connection)
    assert (
        sandbox.admin.execute("SELECT count(*), (SELECT count(*) FROM pg_trigger) FROM pg_class").fetchone() == before
    )


@pytest.mark.parametrize("writing", ["UPDATE party SET name = 'x'", "SELECT pg_current_xact_id()"], ids=["has", "may"])
def test_installing_waits_for_writers(sandbox: JournalledSandbox, writing: str) -> None:
    sandbox.make(PARTIES)
    with sandbox.application() as application, application.transaction():
        application.execute("SET application_name = 'slow one'")
        application.execute(writing.encode())
        with pytest.raises(PostgresError, match=r"others write for longer than 0:00:00\.3.*\n.*slow one"):
            sandbox.journal()
    assert not has_journal(sandbox.connection)


def test_installing_again_begins_a_new_baseline(sandbox: JournalledSandbox) -> None:
    sandbox.journal(PARTIES)
    sandbox.happen("UPDATE party SET name = 'x'")
    sandbox.journal()
    sandbox.happen("UPDATE party SET name = 'y'")
    sandbox.rewound()
    sandbox.expect_baseline()
