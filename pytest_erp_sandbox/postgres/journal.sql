-- The journal: its schema, its tables, and the functions that do not depend on the sandbox's tables.

CREATE SCHEMA erp_sandbox_journal;

CREATE TABLE erp_sandbox_journal.baseline (
    -- The row's own xmin is the last transaction of which nothing needs to be undone: younger ones left younger rows in
    -- the catalogue.
    id text NOT NULL,
    -- Which version of these scripts made the journal.
    form text NOT NULL,
    system_identifier bigint NOT NULL,
    database oid NOT NULL,
    -- What makes every rewind impossible, in words.
    obstacle text,
    -- Foreign keys between tables that are journalled and others, which are not, in words.
    outward text
);

-- Here and below: a publication FOR ALL TABLES, a platform's, would let no row be updated or deleted otherwise.
ALTER TABLE erp_sandbox_journal.baseline REPLICA IDENTITY FULL;

-- Emptied by a crash of the server, as are the sandbox's own unlogged tables.
CREATE UNLOGGED TABLE erp_sandbox_journal.uncrashed (yes boolean);
INSERT INTO erp_sandbox_journal.uncrashed VALUES (true);

-- A line for each statement that wrote: every writer holds a lock on this table until its transaction ends.
CREATE SEQUENCE erp_sandbox_journal.call_ids;
CREATE TABLE erp_sandbox_journal.calls (
    id bigint NOT NULL,
    relation oid NOT NULL,
    -- I, U, D; X for what cannot be undone.
    operation "char" NOT NULL,
    -- Whether it ran within another statement, of which the lines may be younger although it began earlier.
    nested boolean NOT NULL,
    -- When the statement that the client sent began.
    sent timestamptz NOT NULL,
    -- How many rows it wrote into the journal.
    lines bigint NOT NULL
) WITH (autovacuum_enabled = false);
ALTER TABLE erp_sandbox_journal.calls REPLICA IDENTITY FULL;

-- The rows that were written: old ones whole, new ones by their key, or whole where their table has none.
CREATE TABLE erp_sandbox_journal.rows (
    call bigint NOT NULL,
    relation oid NOT NULL,
    is_new boolean NOT NULL,
    key text[],
    image text
) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE erp_sandbox_journal.rows REPLICA IDENTITY FULL;

CREATE TABLE erp_sandbox_journal.catalogue (catalog text PRIMARY KEY, objects bigint NOT NULL);

-- How many of a table's rows were put back, and whether that is not what was to be.
CREATE TYPE erp_sandbox_journal.undone AS (
    relation oid, removed bigint, changed bigint, restored bigint, is_wrong boolean
);

-- What a sequence of the baseline's was; for those with a cache, sessions may hold values that nobody can take back.
CREATE TYPE erp_sandbox_journal.sequence_state AS (
    sequence oid, last_value bigint, is_called boolean, is_cached boolean
);

-- Notes that a table was written whose rows cannot be put back.
CREATE FUNCTION erp_sandbox_journal.mark() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO erp_sandbox_journal.calls
    VALUES (nextval('erp_sandbox_journal.call_ids'), TG_RELID, 'X', false, statement_timestamp(), 0);
    RETURN NULL;
END
$$;

-- Other sessions of this database that are writing to a table, by the locks that they hold on it. It becomes a part of
-- the query that asks for them, and is planned with that: for callers with a search_path of their own alone.
CREATE FUNCTION erp_sandbox_journal.writing() RETURNS TABLE (pid int) LANGUAGE sql STABLE AS $$
    SELECT pid FROM pg_locks JOIN pg_class ON pg_class.oid = relation
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND relation >= 16384 AND relkind IN ('r', 'p', 'f') AND relpersistence <> 't'
$$;

-- Other sessions of this database that have written, or are about to, and not yet ended their transactions, in words. Not
-- autovacuum's, which are no login's, and only note what they find out about tables: they would be waited for in vain.
CREATE FUNCTION erp_sandbox_journal.writers() RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(who, '; ' ORDER BY who) FROM (
        SELECT DISTINCT format('pid %s, login %s, application %s', activity.pid, usename,
            coalesce(nullif(application_name, ''), 'unnamed')) AS who
        FROM pg_locks JOIN pg_stat_activity AS activity ON activity.pid = pg_locks.pid
        WHERE (locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
                OR activity.pid IN (SELECT pid FROM erp_sandbox_journal.writing()))
            AND datname = current_database() AND activity.pid <> pg_backend_pid()
            AND usesysid IS NOT NULL
        UNION ALL
        SELECT format('the prepared transaction %L of %s', gid, owner)
        FROM pg_prepared_xacts WHERE database = current_database()
    ) AS found
$$;

-- For how long this transaction waits for a lock; 0 would be for ever.
CREATE FUNCTION erp_sandbox_journal.limit_waiting(patience interval) RETURNS text LANGUAGE sql AS $$
SELECT set_config('lock_timeout', greatest(1, extract(epoch FROM patience) * 1000)::int::text, true)
$$;

-- Waits until no other session's transaction has written anything, and keeps new ones from it until the commit. Raises
-- ES002 for those that do not end within ``patience``; and ES003 for those that had only begun to write: they cannot end
-- unless this transaction does, after ``grace``.
CREATE FUNCTION erp_sandbox_journal.await_writers(patience interval, grace interval) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deadline timestamptz;
    late text;
BEGIN
    BEGIN
        PERFORM erp_sandbox_journal.limit_waiting(patience);
        LOCK TABLE erp_sandbox_journal.calls IN EXCLUSIVE MODE;
    EXCEPTION WHEN lock_not_available THEN
        RAISE EXCEPTION USING ERRCODE = 'ES002', MESSAGE = coalesce(erp_sandbox_journal.writers(), 'a session');
    END;
    -- Who began to write before that lock and has not come to the journal yet. Mostly nobody: then no transaction that
    -- is still running is older than this one, and nobody holds a lock for writing.
    deadline := clock_timestamp() + grace;
    WHILE pg_snapshot_xmin(pg_current_snapshot()) <> pg_current_xact_id()
        OR EXISTS (SELECT FROM erp_sandbox_journal.writing())
    LOOP
        late := erp_sandbox_journal.writers();
        EXIT WHEN late IS NULL;
        IF clock_timestamp() > deadline THEN
            RAISE EXCEPTION USING ERRCODE = 'ES003', MESSAGE = late;
        END IF;
        PERFORM pg_sleep(0.002);
    END LOOP;
    -- Likewise, those who are about to.
    PERFORM erp_sandbox_journal.limit_waiting(grace);
END
$$;

-- How many keys of the table were written more than once within one statement of a client's, not all of it by the
-- statement itself, but within it, or for a foreign key's sake: which of the old images is the oldest is not known.
CREATE FUNCTION erp_sandbox_journal.doubts(of_table oid) RETURNS bigint LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pieces erp_sandbox_journal.tables;
    keys bigint := 0;
BEGIN
    SELECT * INTO pieces FROM erp_sandbox_journal.tables WHERE relation = of_table;
    IF pieces.key_names IS NOT NULL THEN
        EXECUTE format(
            'SELECT count(*) FROM (SELECT %s FROM %s JOIN erp_sandbox_journal.calls ON calls.id = entry.call'
            ' WHERE %s AND NOT entry.is_new GROUP BY %s, calls.sent'
            ' HAVING count(*) > 1 AND (bool_or(calls.nested) OR %L)) AS doubtful',
            pieces.k_values, pieces.journal, pieces.is_ours, pieces.k, pieces.obeys) INTO keys;
    END IF;
    RETURN keys;
END
$$;

-- Why the journal is not whole, in words; NULL if it is.
CREATE FUNCTION erp_sandbox_journal.lost(dirty oid[]) RETURNS text LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing bigint := (SELECT coalesce(sum(lines), 0) FROM erp_sandbox_journal.calls)
        - (SELECT count(*) FROM erp_sandbox_journal.rows);
    counts text;
    found bigint := 0;
BEGIN
    -- In one statement: making it takes longer than running it.
    SELECT string_agg(format('(SELECT count(*) FROM %s)', own), ' + ') INTO counts
    FROM erp_sandbox_journal.tables WHERE tables.relation = ANY (dirty) AND own IS NOT NULL;
    IF counts IS NOT NULL THEN
        EXECUTE 'SELECT ' || counts INTO found;
    END IF;
    RETURN CASE WHEN missing <> found THEN 'lines of the journal were lost, or are of others' END;
END
$$;

-- The catalogue as far as it is the users': how many rows each part has, and whether one is younger than
-- ``since``. Not counted (reading that takes longest) are rows that never go alone: with them one of pg_class goes, or
-- one of pg_attribute changes. Not read at all is pg_attrdef: a default comes and goes, for another one too, with an
-- update of its column in pg_attribute.
-- ``known_objects`` is quick and counts temporary objects too, ``lasting_objects`` leaves them out.
DO $$
DECLARE
    counting text := 'SELECT %1$L, count(*), coalesce(min(age(xmin)) < since, false) FROM pg_catalog.%1$I WHERE %2$s';
    not_counting text := 'SELECT %1$L, 0::bigint, count(*) > 0 FROM pg_catalog.%1$I WHERE age(xmin) < since AND %2$s';
    going_along text[] := '{pg_attribute,pg_foreign_table,pg_index,pg_partitioned_table,pg_sequence}';
    temporary text := '(SELECT oid FROM pg_class WHERE relpersistence = ''t'')';
    temporary_schemas text := '(SELECT oid FROM pg_namespace WHERE nspname ~ ''^pg_(toast_)?temp_'')';
    parts text[] := ARRAY[
        ['pg_aggregate', 'aggfnoid', ''],
        ['pg_amop', 'oid', ''],
        ['pg_amproc', 'oid', ''],
        ['pg_attribute', 'attrelid', 'attrelid NOT IN ' || temporary],
        ['pg_cast', 'oid', ''],
        ['pg_class', 'oid', 'oid NOT IN ' || temporary],
        ['pg_collation', 'oid', 'collnamespace NOT IN ' || temporary_schemas],
        ['pg_constraint', 'oid', 'connamespace NOT IN ' || temporary_schemas],
        ['pg_conversion', 'oid', ''],
        ['pg_default_acl', 'oid', ''],
        ['pg_description', 'objoid', 'objoid NOT IN ' || temporary],
        ['pg_enum', 'oid', ''],
        ['pg_event_trigger', 'oid', ''],
        ['pg_extension', 'oid', ''],
        ['pg_foreign_server', 'oid', ''],
        ['pg_foreign_table', 'ftrelid', ''],
        ['pg_index', 'indexrelid', 'indrelid NOT IN ' || temporary],
        ['pg_inherits', 'inhrelid', 'inhrelid NOT IN ' || temporary],
        ['pg_language', 'oid', ''],
        ['pg_largeobject_metadata', 'oid', ''],
        ['pg_opclass', 'oid', ''],
        ['pg_operator', 'oid', ''],
        ['pg_opfamily', 'oid', ''],
        ['pg_partitioned_table', 'partrelid', 'partrelid NOT IN ' || temporary],
        ['pg_policy', 'oid', ''],
        ['pg_proc', 'oid', 'pronamespace NOT IN ' || temporary_schemas],
        ['pg_publication', 'oid', ''],
        ['pg_publication_namespace', 'oid', ''],
        ['pg_publication_rel', 'oid', ''],
        ['pg_range', 'rngtypid', ''],
        ['pg_rewrite', 'oid', 'ev_class NOT IN ' || temporary],
        ['pg_seclabel', 'objoid', ''],
        ['pg_sequence', 'seqrelid', 'seqrelid NOT IN ' || temporary],
        ['pg_statistic_ext', 'oid', 'stxrelid NOT IN ' || temporary],
        ['pg_transform', 'oid', ''],
        ['pg_trigger', 'oid', 'tgrelid NOT IN ' || temporary],
        ['pg_ts_config', 'oid', ''],
        ['pg_ts_config_map', 'mapcfg', ''],
        ['pg_ts_dict', 'oid', ''],
        ['pg_type', 'oid', 'typnamespace NOT IN ' || temporary_schemas]
    ];
    -- Schemas are few, and the ones that come with the database can be changed too.
    schemas text := 'nspname !~ ''^pg_(toast_)?temp_''';
    quick text := format(counting, 'pg_namespace', schemas);
    exact text := quick;
    signature text := 'CREATE FUNCTION erp_sandbox_journal.%I(since int, OUT catalog text, OUT objects bigint,'
        ' OUT is_younger boolean) RETURNS SETOF record LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp'
        ' SET enable_seqscan = on AS %L';
    part text[];
    form text;
    not_the_servers text;
BEGIN
    FOREACH part SLICE 1 IN ARRAY parts LOOP
        form := CASE WHEN part[1] = ANY (going_along) THEN not_counting ELSE counting END;
        -- 16384: the first that is not the server's own. 2200 is schema public, whose comment can be changed.
        not_the_servers := part[2] || ' >= 16384';
        IF part[1] = 'pg_description' THEN
            not_the_servers := '(' || not_the_servers || ' OR objoid = 2200)';
        END IF;
        quick := quick || ' UNION ALL '
            || format(form, part[1], CASE form WHEN counting THEN not_the_servers ELSE 'true' END);
        exact := exact || ' UNION ALL ' || format(form, part[1],
            not_the_servers || CASE part[3] WHEN '' THEN '' ELSE ' AND ' || part[3] END);
    END LOOP;
    EXECUTE format(signature, 'known_objects', format('BEGIN RETURN QUERY %s; END', quick));
    -- Mostly asked once: a session that kept its plan would keep half a megabyte for each journal.
    EXECUTE format(signature, 'lasting_objects',
        format('BEGIN RETURN QUERY EXECUTE %L USING since; END', replace(exact, 'since', '$1')));
END
$$;

-- What is not as in the baseline's catalogue, in words; NULL if all is. ``since`` is the age of the baseline.
CREATE FUNCTION erp_sandbox_journal.altered(since int) RETURNS text LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text;
    things text;
BEGIN
    IF NOT EXISTS (
        SELECT FROM erp_sandbox_journal.known_objects(since) AS now
        JOIN erp_sandbox_journal.catalogue AS before ON before.catalog = now.catalog
        WHERE now.objects <> before.objects OR now.is_younger
    ) THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(now.catalog, ', ' ORDER BY now.catalog) INTO parts
    FROM erp_sandbox_journal.lasting_objects(since) AS now
    JOIN erp_sandbox_journal.catalogue AS before ON before.catalog = now.catalog
    WHERE now.objects <> before.objects OR now.is_younger;
    IF parts IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(thing, ', ' ORDER BY thing) INTO things FROM (
        SELECT oid::regclass::text AS thing FROM pg_class
        WHERE age(xmin) < since AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'
        UNION SELECT attrelid::regclass::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE age(pg_attribute.xmin) < since AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't'
        UNION SELECT tgrelid::regclass::text FROM pg_trigger WHERE age(xmin) < since
        UNION SELECT oid::regprocedure::text FROM pg_proc WHERE age(xmin) < since
        LIMIT 8
    ) AS found;
    RETURN parts || coalesce(': ' || things, '');
END
$$;

-- Makes moved_sequences(): what is not as it is now, with what it is now.
CREATE FUNCTION erp_sandbox_journal.note_sequences() RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sequence record;
    state record;
    queries text[] := ARRAY['SELECT NULL::oid, NULL::bigint, NULL::boolean, NULL::boolean WHERE false'];
BEGIN
    FOR sequence IN
        SELECT pg_class.oid, format('%I.%I', nspname, relname) AS name, seqcache > 1 AS is_cached
        FROM pg_class
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        JOIN pg_sequence ON seqrelid = pg_class.oid
        WHERE relowner = current_user::regrole AND relpersistence <> 't' AND nspname <> 'erp_sandbox_journal'
    LOOP
        EXECUTE format('SELECT last_value, is_called FROM %s', sequence.name) INTO state;
        queries := queries || format(
            'SELECT %1$s::oid, %2$L::bigint, %3$L::boolean, %4$L::boolean FROM %5$s'
            ' WHERE last_value <> %2$L OR is_called <> %3$L',
            sequence.oid, state.last_value, state.is_called, sequence.is_cached, sequence.name);
    END LOOP;
    EXECUTE format('CREATE FUNCTION erp_sandbox_journal.moved_sequences() RETURNS SETOF'
        ' erp_sandbox_journal.sequence_state LANGUAGE plpgsql AS %L',
        'BEGIN RETURN QUERY ' || array_to_string(queries, ' UNION ALL ') || '; END');
END
$$;

CREATE FUNCTION erp_sandbox_journal.require_read_committed() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'a transaction that is % does not see what others have done', current_setting('transaction_isolation');
    END IF;
END
$$;

-- What verification knows of the baseline: of each table, sequence and definition, what it was.
CREATE TABLE erp_sandbox_journal.contents (name text NOT NULL, digest text NOT NULL);

-- The last step: from here on, what is written is journalled, and what is defined is noticed.
CREATE FUNCTION erp_sandbox_journal.begin_baseline(id text, form text, patience interval) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + patience;
    late text;
    grantee text;
BEGIN
    PERFORM erp_sandbox_journal.require_read_committed();
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA erp_sandbox_journal FROM PUBLIC;
    -- Default privileges may have opened it to others.
    FOR grantee IN
        SELECT DISTINCT coalesce(quote_ident(pg_get_userbyid(nullif(acl.grantee, 0))), 'PUBLIC')
        FROM pg_namespace CROSS JOIN LATERAL aclexplode(nspacl) AS acl
        WHERE nspname = 'erp_sandbox_journal' AND acl.grantee <> nspowner
    LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA erp_sandbox_journal FROM %s', grantee);
    END LOOP;
    BEGIN
        -- A subtransaction has a number of its own, younger than all that this transaction has defined.
        INSERT INTO erp_sandbox_journal.baseline
        SELECT begin_baseline.id, begin_baseline.form, (SELECT system_identifier FROM pg_control_system()),
            (SELECT oid FROM pg_database WHERE datname = current_database()),
            nullif(concat_ws('; ',
                (SELECT 'there are large objects, which cannot be journalled'
                 WHERE EXISTS (SELECT FROM pg_largeobject_metadata)),
                (SELECT 'materialized views can be refreshed unseen: ' || string_agg(indrelid::regclass::text, ', ')
                 FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relkind = 'm' AND indisunique)), ''),
            (SELECT string_agg(format('%I of %s', conname, conrelid::regclass), ', ')
             FROM pg_constraint
             LEFT JOIN erp_sandbox_journal.tables AS own ON own.relation = conrelid
             LEFT JOIN erp_sandbox_journal.tables AS other ON other.relation = confrelid
             WHERE contype = 'f' AND (own.relation IS NULL) <> (other.relation IS NULL));
    EXCEPTION WHEN division_by_zero THEN
        RAISE;
    END;
    -- Whoever is older and still runs can neither write, for the triggers' locks, nor define without being waited for.
    LOOP
        late := erp_sandbox_journal.writers();
        EXIT WHEN late IS NULL;
        IF clock_timestamp() > deadline THEN
            RAISE EXCEPTION USING ERRCODE = 'ES002', MESSAGE = late;
        END IF;
        PERFORM pg_sleep(0.005);
    END LOOP;
    INSERT INTO erp_sandbox_journal.catalogue
    SELECT catalog, objects FROM erp_sandbox_journal.lasting_objects(0);
END
$$;
