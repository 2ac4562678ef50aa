# ruff: noqa: E501 - SQL
"""Schemas that have a rewind's traps, and statements that step into them, as hypothesis strategies."""

from __future__ import annotations

import re

from hypothesis import strategies as st

__all__ = ["SETTINGS", "TABLES", "meddling", "schemas", "statements"]

_TOUCH = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.tms = clock_timestamp(); RETURN NEW; END';
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO log (what) VALUES (TG_OP); RETURN NULL;
END $$;
CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE thing SET code = 'n' || NEW.id WHERE id = NEW.id AND code IS NULL; RETURN NULL;
END $$;
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE thing SET x = -1 WHERE id = NEW.id AND x = 7; RETURN NULL;
END $$;
"""

# Each with a table that the others do without; ``{…}`` is drawn.
_TABLES = {
    "thing": """
CREATE TABLE log (id serial PRIMARY KEY, what text);
CREATE TABLE thing (id serial PRIMARY KEY, code text UNIQUE, x float8, d date, i interval, tms timestamp);
INSERT INTO thing (code, x, d, i) SELECT 'c' || n, n * 0.1::float8 + 0.2::float8, date '2026-03-04' + n, (3 - n) * interval '1 day 2 hours'
FROM generate_series(1, 6) AS n;
{touch}; {tell}; {go_on}; {again}""",
    "child": """
CREATE TABLE parent (id int PRIMARY KEY, v text);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent {action} {deferrable},
    boss int REFERENCES child {boss_action}, code int UNIQUE, v text, friend int REFERENCES parent {friend_action});
INSERT INTO parent SELECT n, 'p' || n FROM generate_series(1, 4) AS n;
INSERT INTO child SELECT n, 1 + n % 4, nullif(n / 2, 0), n, 'c' || n, 4 - n % 4 FROM generate_series(1, 6) AS n""",
    "line": """
CREATE TABLE head (id int PRIMARY KEY);
CREATE TABLE line (id int PRIMARY KEY, head int REFERENCES head DEFERRABLE);
INSERT INTO head SELECT generate_series(1, 4);
INSERT INTO line SELECT n, 1 + n % 4 FROM generate_series(1, 6) AS n""",
    "bag": """
CREATE TABLE bag (a int, b text);
INSERT INTO bag SELECT n % 3, 'b' FROM generate_series(1, 6) AS n""",
    "pair": """
CREATE TABLE pair (a int, b text, v text, PRIMARY KEY (a, b));
INSERT INTO pair SELECT n % 3, n::text, 'v' FROM generate_series(1, 6) AS n""",
    "slot": """
CREATE TABLE slot (id int PRIMARY KEY, u int UNIQUE {deferrable});
INSERT INTO slot SELECT n, n FROM generate_series(1, 6) AS n""",
    "made": """
CREATE TABLE made (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED
);
INSERT INTO made (a) SELECT n FROM generate_series(1, 6) AS n""",
    "part": """
CREATE TABLE part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (-100) TO (4);
CREATE TABLE part_2 (v text, id int NOT NULL);
ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (4) TO (100);
INSERT INTO part SELECT n, 'v' FROM generate_series(1, 6) AS n""",
    "steps": "CREATE SEQUENCE steps; CREATE SEQUENCE used; SELECT nextval('used')",
}

TABLES = tuple(_TABLES)
"""What a schema can have."""

_DRAWN = {
    "{touch}": ["", "CREATE TRIGGER touched BEFORE UPDATE ON thing FOR EACH ROW EXECUTE FUNCTION touch()"],
    "{tell}": [
        "",
        "CREATE TRIGGER told AFTER INSERT OR UPDATE OR DELETE ON thing FOR EACH ROW EXECUTE FUNCTION tell()",
        "CREATE TRIGGER told AFTER DELETE OR UPDATE ON thing EXECUTE FUNCTION tell();"
        "ALTER TABLE thing ENABLE ALWAYS TRIGGER told",
    ],
    "{go_on}": ["", "CREATE TRIGGER gone_on AFTER INSERT ON thing FOR EACH ROW EXECUTE FUNCTION go_on()"],
    "{again}": ["", "CREATE TRIGGER again AFTER UPDATE ON thing FOR EACH ROW EXECUTE FUNCTION again()"],
    "{action}": ["", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE CASCADE ON UPDATE CASCADE"],
    "{boss_action}": ["", "ON DELETE CASCADE", "DEFERRABLE"],
    "{friend_action}": ["", "ON DELETE SET NULL", "ON DELETE SET NULL ON UPDATE CASCADE"],
    "{deferrable}": ["", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"],
}

SETTINGS = [
    "SET datestyle = 'SQL, DMY'; SET extra_float_digits = -3; SET timezone = 'Asia/Kolkata'",
    "SET intervalstyle = 'sql_standard'; SET datestyle = 'German'; SET extra_float_digits = 0",
    "SET default_transaction_isolation = 'repeatable read'",
    "SET default_transaction_isolation = 'serializable'",
    "RESET ALL",
]


@st.composite
def schemas(draw: st.DrawFn, tables: tuple[str, ...] = TABLES) -> tuple[str, ...]:
    """A schema with some of these tables, as statements."""
    chosen = draw(st.sets(st.sampled_from(sorted(tables)), min_size=1, max_size=4))
    made = [_TOUCH]
    for table in sorted(chosen):
        text = _TABLES[table]
        for placeholder, choices in _DRAWN.items():
            if placeholder in text:
                text = text.replace(placeholder, draw(st.sampled_from(choices)))
        made.append(text)
    return tuple(made)


_NUMBERS = st.integers(0, 9)
_TEXTS = st.sampled_from(["'x'", "'c1'", "'c2'", "NULL", "''", "'quote '' \" \\ ,()'"])
_FLOATS = st.sampled_from(["0.1::float8 + 0.2", "'NaN'", "'-infinity'", "7", "NULL"])

# {n}, {m}: numbers; {t}: a text; {f}: a float.
_FORMS = [
    "INSERT INTO thing (code, x, d) VALUES ({t}, {f}, '2026-05-06')",
    "INSERT INTO thing (id, code) VALUES ({n}, {t}) ON CONFLICT (id) DO UPDATE SET x = {f}",
    "INSERT INTO thing (code) VALUES ({t}) ON CONFLICT DO NOTHING",
    "UPDATE thing SET x = {f}, code = coalesce(code, {t}) WHERE id > {n}",
    "UPDATE thing SET d = d + 1, i = i * 2 WHERE id <= {n}",
    "UPDATE thing SET code = {t} WHERE id = {n}",
    "UPDATE thing SET id = id + {n} WHERE id > {m}",
    "UPDATE thing SET id = -id",
    "DELETE FROM thing WHERE id = {n} OR id = {m}",
    "WITH gone AS (DELETE FROM thing WHERE id = {n} RETURNING *) INSERT INTO thing SELECT id, code, {f} FROM gone",
    "MERGE INTO thing USING (VALUES ({n}), ({m} + 10)) AS source (n) ON id = n"
    " WHEN MATCHED AND x > 0.5 THEN DELETE WHEN MATCHED THEN UPDATE SET x = {f}"
    " WHEN NOT MATCHED THEN INSERT VALUES (n)",
    "INSERT INTO parent VALUES ({n}, {t})",
    "UPDATE parent SET v = {t} WHERE id <> {n}",
    "UPDATE parent SET id = {n} WHERE id = {m}",
    "UPDATE parent SET id = id + 10 WHERE id > {n}",
    "DELETE FROM parent WHERE id = {n}",
    "DELETE FROM parent WHERE id > {n}",
    "INSERT INTO child VALUES ({n}, {m}, NULL, {m}, {t})",
    "INSERT INTO parent VALUES ({n} + 10); INSERT INTO child VALUES ({m} + 10, {n} + 10, NULL, {m} + 10, {t}, {n} + 10)",
    "UPDATE child SET parent = {n} WHERE id > {m}",
    "UPDATE child SET boss = {n} WHERE id = {m}",
    "UPDATE child SET friend = {n}, code = {m} WHERE id = {m}",
    "UPDATE child SET code = code + 100 WHERE id < 3; UPDATE child SET code = 103 - code WHERE id < 3",
    "UPDATE child SET id = {n} WHERE id = {m}",
    "DELETE FROM child WHERE id IN ({n}, {m})",
    "DELETE FROM child; DELETE FROM parent",
    "INSERT INTO head VALUES ({n} + 10); INSERT INTO line VALUES ({m} + 10, {n} + 10)",
    "UPDATE line SET head = {n} WHERE id = {m}",
    "DELETE FROM line; DELETE FROM head",
    "DELETE FROM line WHERE head = {n}; DELETE FROM head WHERE id = {n}",
    "INSERT INTO bag SELECT {n} % 3, 'b' FROM generate_series(1, {m})",
    "INSERT INTO bag VALUES (NULL, {t})",
    "UPDATE bag SET a = {n} % 3 WHERE a = {m} % 3",
    "UPDATE bag SET b = {t} WHERE a IS NULL",
    "DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE a = {n} % 3 LIMIT 1)",
    "INSERT INTO pair VALUES ({n} % 3, '{m}', {t}) ON CONFLICT (a, b) DO UPDATE SET v = 'upserted'",
    "UPDATE pair SET a = a + {n} % 2, v = {t}",
    "DELETE FROM pair WHERE b = '{n}'",
    "UPDATE slot SET u = 7 - u",
    "UPDATE slot SET u = -1 WHERE id = 1; UPDATE slot SET u = 1 WHERE id = {n}; UPDATE slot SET u = {n} WHERE id = 1",
    "UPDATE slot SET id = id + 10 WHERE id = {n}",
    "DELETE FROM slot WHERE id = {n}",
    "INSERT INTO slot VALUES ({n}, {m})",
    "INSERT INTO made (a) VALUES ({n})",
    "UPDATE made SET a = {n} WHERE id <> {m}",
    "DELETE FROM made WHERE id = {n}",
    "UPDATE part SET id = 7 - id",
    "UPDATE part SET v = {t} WHERE id > {n}",
    "INSERT INTO part VALUES ({n} - 20, {t})",
    "DELETE FROM part WHERE id = {n}",
    "SELECT nextval('steps'), nextval('used')",
    "SELECT setval('steps', {n} + 1, false)",
    "SELECT setval('used', {n} + 1)",
]


@st.composite
def statements(draw: st.DrawFn, made: tuple[str, ...]) -> str:
    """A statement about a table of the schema."""
    whole = " ".join(made)
    forms = [form for form in _FORMS if re.search(rf"(TABLE|SEQUENCE) {_about(form)}\b", whole)]
    form = draw(st.sampled_from(forms))
    return form.format(n=draw(_NUMBERS), m=draw(_NUMBERS), t=draw(_TEXTS), f=draw(_FLOATS))


def _about(form: str) -> str:
    """The table, or the sequence, that the form is about."""
    found = re.search(r"\b(thing|parent|child|head|line|bag|pair|slot|made|part|steps|used)\b", form)
    assert found is not None
    return found[1]


@st.composite
def meddling(draw: st.DrawFn, made: tuple[str, ...]) -> str:
    """What cannot be undone: a definition, a truncation, a trigger off for a moment."""
    whole = " ".join(made)
    tables = [table for table in ("thing", "child", "bag", "pair", "slot", "made") if f"TABLE {table} " in whole]
    if not tables:
        return "CREATE TABLE other (id int)"
    table = draw(st.sampled_from(tables))
    off = (
        f"ALTER TABLE {table} DISABLE TRIGGER erp_sandbox_delete; DELETE FROM {table};"
        f" ALTER TABLE {table} ENABLE ALWAYS TRIGGER erp_sandbox_delete"
    )
    return draw(st.sampled_from([off, f"ALTER TABLE {table} ADD COLUMN more int", f"TRUNCATE {table} CASCADE", off]))
