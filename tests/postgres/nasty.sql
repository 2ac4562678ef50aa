-- Objects of all sorts, with names that are hard to read back; no two are of the same making.
CREATE TYPE "Mood Ü" AS ENUM ('fine', 'so "so"', 'it''s');
CREATE TYPE pair AS (a integer, "b c" text);
CREATE DOMAIN positive AS integer DEFAULT 1 CHECK (VALUE > 0);
COMMENT ON DOMAIN positive IS 'more than nothing';
CREATE COLLATION bytewise (provider = libc, locale = 'C');

CREATE FUNCTION f(integer) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''one''::text';
CREATE FUNCTION f(text, integer[]) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''two''::text';
CREATE FUNCTION f("Mood Ü") RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''three''::text';
COMMENT ON FUNCTION f(integer) IS E'-- Name: f; Type: FUNCTION; Schema: public; Owner: x\n\nCREATE POLICY p ON public.t TO nobody_here;';
CREATE FUNCTION body() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    -- SET transaction_timeout = 0;
    RETURN 'LANGUAGE c
    LANGUAGE c
SET transaction_timeout = 0;
COPY x FROM stdin;
\.
';
END $$;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE PROCEDURE run(INOUT x integer) LANGUAGE plpgsql AS 'BEGIN x := x + 1; END';
CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT lower($1) = lower($2)';
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = same, COMMUTATOR = ===);
CREATE AGGREGATE total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE AGGREGATE how_many(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0');
CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION search (COPY = english);
ALTER TEXT SEARCH CONFIGURATION search ALTER MAPPING FOR asciiword WITH plain;

CREATE TABLE "A table, ""quoted""" (
    id serial PRIMARY KEY,
    "a column" text COLLATE bytewise DEFAULT 'it''s',
    big bigint GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3),
    doubled integer GENERATED ALWAYS AS (length('x') * 2) STORED,
    mood "Mood Ü", pairing pair, few positive, bytes bytea, exact double precision, many text[], doc jsonb, at timestamptz,
    CONSTRAINT "a check" CHECK ("a column" <> 'x; DROP TABLE y')
);
INSERT INTO "A table, ""quoted""" ("a column", mood, pairing, few, bytes, exact, many, doc, at)
    VALUES (E'tab\tnewline\nback\\slash', 'so "so"', ROW(1, 'x'), 2, '\x00ff', 0.1 + 0.2, '{a,NULL,"b c"}', '{"k": [1, null]}', '2026-03-04 05:06:07.89+02'),
    (NULL, NULL, NULL, NULL, NULL, 'NaN', '{}', 'null', '-infinity'), ('ümläut 🎉', 'it''s', ROW(NULL, ''), 3, '', '-0', NULL, NULL, NULL);
COMMENT ON TABLE "A table, ""quoted""" IS E'two\nlines';
COMMENT ON COLUMN "A table, ""quoted"""."a column" IS 'it''s';
COMMENT ON CONSTRAINT "a check" ON "A table, ""quoted""" IS 'checked';
CREATE INDEX "an index" ON "A table, ""quoted""" (f(id), "a column" DESC) WHERE id > 0;
CREATE TRIGGER "a trigger" BEFORE UPDATE ON "A table, ""quoted""" FOR EACH ROW EXECUTE FUNCTION touch();
COMMENT ON TRIGGER "a trigger" ON "A table, ""quoted""" IS 'touches';
ALTER TABLE "A table, ""quoted""" DISABLE TRIGGER "a trigger";
CREATE STATISTICS "some statistics" ON id, big FROM "A table, ""quoted""";

CREATE TABLE line (id integer, fk integer REFERENCES "A table, ""quoted""" ON DELETE CASCADE DEFERRABLE, during int4range,
    EXCLUDE USING gist (during WITH &&));
INSERT INTO line VALUES (1, 1, '[1,5)'), (2, NULL, '[5,9)');
ALTER TABLE line ADD CONSTRAINT unproven CHECK (id > 1) NOT VALID;
CREATE RULE "a rule" AS ON DELETE TO line DO ALSO NOTHING;
CREATE TABLE kept (id integer, who text);
INSERT INTO kept VALUES (1, 'me');
ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
CREATE POLICY "mine; TO nobody" ON kept AS RESTRICTIVE FOR SELECT USING (who = CURRENT_USER);
COMMENT ON POLICY "mine; TO nobody" ON kept IS 'private';

CREATE TABLE parent (id integer, note text);
CREATE TABLE child (more text) INHERITS (parent);
INSERT INTO child VALUES (1, 'a', 'b');
CREATE TABLE parts (id integer, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE "parts 2026" PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
INSERT INTO parts VALUES (1, '2026-05-05'), (2, '2020-01-01');
CREATE UNLOGGED TABLE scratch (id integer) WITH (fillfactor = 70);
CREATE TABLE empty ();
CREATE VIEW "a view" WITH (security_barrier) AS SELECT id, "a column" FROM "A table, ""quoted""" WHERE f(id) = 'one';
CREATE MATERIALIZED VIEW gathered AS SELECT count(*) AS n FROM line;
CREATE UNIQUE INDEX ON gathered (n);
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
CREATE SEQUENCE untouched START 5;
CREATE SEQUENCE down INCREMENT -2 MINVALUE -100 MAXVALUE 10 START 10 CYCLE;
SELECT nextval('down'), nextval('down');
SELECT setval('untouched', 42, false);
