-- A table's part of the statement that undoes its rows: common table expressions, and a query that says what they did.
CREATE TABLE erp_sandbox_journal.undo_forms (has_key boolean PRIMARY KEY, undo text NOT NULL, tally text NOT NULL);

-- The form with a table's pieces in it; in one go, as there may be braces in names, too.
CREATE FUNCTION erp_sandbox_journal.filled(form text, pieces jsonb) RETURNS text LANGUAGE sql AS $body$
SELECT string_agg(CASE n % 2 WHEN 1 THEN part ELSE pieces ->> part END, '' ORDER BY n)
FROM unnest(string_to_array(translate(form, '}', '{'), '{')) WITH ORDINALITY AS parts (part, n)
$body$;

-- What undoes the rows of these tables, all in one statement; those that are changed may be taken out and put in again.
-- For one table the session keeps it, as making it takes longer than running it; its name begins with ``prefix``. Those
-- that are ``kept`` already are not made again.
CREATE FUNCTION erp_sandbox_journal.undoing(these oid[], anew boolean, prefix text, kept text[]) RETURNS text
    LANGUAGE plpgsql AS $body$
DECLARE
    name text := CASE WHEN cardinality(these) = 1 THEN format('%s%s_%s', prefix, these[1], anew) END;
    statement text;
    stale text;
BEGIN
    IF name = ANY (kept) THEN
        RETURN format('EXECUTE %I', name);
    END IF;
    SELECT format('WITH %s SELECT array_agg(tally::erp_sandbox_journal.undone) FROM (%s) AS tally',
        string_agg(erp_sandbox_journal.filled(form.undo, pieces), ', '),
        string_agg(erp_sandbox_journal.filled(form.tally, pieces), ' UNION ALL '))
    INTO statement
    FROM erp_sandbox_journal.tables JOIN erp_sandbox_journal.undo_forms AS form ON has_key = (key_names IS NOT NULL)
    CROSS JOIN LATERAL (
        SELECT to_jsonb(tables) || jsonb_build_object('replace', must_replace OR anew AND may_replace)
    ) AS made (pieces)
    WHERE relation = ANY (these);
    IF name IS NULL THEN
        RETURN statement;
    END IF;
    FOR stale IN
        SELECT old.name FROM pg_prepared_statements AS old
        WHERE starts_with(old.name, 'erp_sandbox_undo_') AND NOT starts_with(old.name, prefix)
    LOOP
        EXECUTE format('DEALLOCATE %I', stale);
    END LOOP;
    EXECUTE format('PREPARE %I AS %s', name, statement);
    RETURN format('EXECUTE %I', name);
END
$body$;

-- Undoes the rows of these tables in one statement: foreign keys that act, or are checked, at its end find nothing to do,
-- and nothing missing.
CREATE FUNCTION erp_sandbox_journal.undo_together(
    these oid[], anew boolean, may_be_swapped boolean, prefix text, kept text[]
) RETURNS SETOF erp_sandbox_journal.undone LANGUAGE plpgsql AS $body$
DECLARE
    all_undone erp_sandbox_journal.undone[];
BEGIN
    IF may_be_swapped AND NOT anew THEN
        BEGIN
            EXECUTE erp_sandbox_journal.undoing(these, false, prefix, kept) INTO all_undone;
        EXCEPTION WHEN unique_violation OR exclusion_violation THEN
            -- Values that are unique: all rows are taken out before they are put back.
            EXECUTE erp_sandbox_journal.undoing(these, true, prefix, kept) INTO all_undone;
        END;
    ELSE
        EXECUTE erp_sandbox_journal.undoing(these, anew, prefix, kept) INTO all_undone;
    END IF;
    RETURN QUERY SELECT * FROM unnest(all_undone);
END
$body$;

-- Begins to put back what was written since the baseline: from here on, nobody else writes. Gives the transaction's own
-- number, and whether no younger one on the whole server has ended by then; or NULL if nobody has written, and so
-- nothing but sequences can have moved, which are said to have or not. Raises ES001 for what cannot be put back, and
-- ES002 or ES003 for transactions that would not end.
CREATE FUNCTION erp_sandbox_journal.begin_rewind(
    expected_baseline text, expected_form text, patience interval, grace interval, sequences_have_moved boolean,
    OUT number xid8, OUT is_youngest boolean
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = 'force_generic_plan' AS $body$
DECLARE
    baseline record;
    reason text;
BEGIN
    SELECT *, age(xmin) AS since INTO baseline FROM erp_sandbox_journal.baseline;
    reason := CASE
        WHEN baseline.id IS NULL THEN 'the journal has no baseline'
        WHEN baseline.id <> expected_baseline THEN 'the journal is of another baseline'
        WHEN baseline.form <> expected_form THEN 'the journal was made by another version of this program'
        WHEN baseline.database <> (SELECT oid FROM pg_database WHERE datname = current_database())
            OR baseline.system_identifier <> (SELECT system_identifier FROM pg_control_system())
            THEN 'the journal was made for another database'
        WHEN NOT EXISTS (SELECT FROM erp_sandbox_journal.uncrashed)
            THEN 'the server has crashed since the baseline, and unlogged tables were emptied'
        WHEN baseline.outward IS NOT NULL AND current_setting('session_replication_role') = 'replica'
            THEN 'foreign keys of others, which a replica does not look at: ' || baseline.outward
        ELSE baseline.obstacle
    END;
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ES001', MESSAGE = reason;
    END IF;

    -- No transaction on the whole server has had a number since the last rewind's: nobody has written. (A snapshot would
    -- not tell, it leaves out the youngest that still run.) Only sequences can move without a number.
    IF baseline.since = 1 AND NOT sequences_have_moved THEN
        RETURN;
    END IF;

    -- First: what is still running is older than this, and what comes later is younger.
    number := pg_current_xact_id();
    PERFORM set_config('erp_sandbox.rewinding', number::text, true);
    PERFORM erp_sandbox_journal.await_writers(patience, grace);
    -- Of the younger ones, those that wrote here have ended by now.
    is_youngest := pg_snapshot_xmax(pg_current_snapshot()) = number;
    -- A sign for the survey: nobody else uses this lock.
    LOCK TABLE erp_sandbox_journal.catalogue IN ROW SHARE MODE;
END
$body$;

-- What another session finds out meanwhile: why the rows cannot be put back, if the catalogue is not the baseline's, and
-- which sequences have moved. Of what is being put back, it does not see anything.
-- It is asked for together with the rewind, and does not know its number. If all that have one have ended, on the whole
-- server, it looks at once, and gives the ``next`` number: where that is the rewind's, and no younger one has ended before
-- others could write no more, it has seen all that they did. Otherwise, if anybody has written, it is late: it waits until
-- the rewind, in the session ``undoer``, lets nobody write. If that takes longer than ``grace``, it gives no line. With NULL
-- for the ``undoer``, it looks at once.
CREATE FUNCTION erp_sandbox_journal.survey(undoer int, grace interval)
    RETURNS TABLE (reason text, moved erp_sandbox_journal.sequence_state[], next xid8, is_late boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = 'force_generic_plan' SET jit = off
    AS $body$
DECLARE
    before pg_snapshot := pg_current_snapshot();
    deadline timestamptz := clock_timestamp() + grace;
    since int;
BEGIN
    PERFORM erp_sandbox_journal.require_read_committed();
    SELECT age(xmin) INTO since FROM erp_sandbox_journal.baseline;
    IF pg_snapshot_xmin(before) = pg_snapshot_xmax(before) THEN
        next := pg_snapshot_xmax(before);
    END IF;
    is_late := next IS NULL AND since > 1 AND undoer IS NOT NULL;
    WHILE is_late AND NOT EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'relation' AND relation = 'erp_sandbox_journal.catalogue'::regclass
            AND mode = 'RowShareLock' AND granted AND pid = undoer
    ) LOOP
        IF clock_timestamp() > deadline THEN
            RETURN;
        END IF;
        PERFORM pg_sleep(0.001);
    END LOOP;
    PERFORM erp_sandbox_journal.limit_waiting(grace);
    -- Where nobody has written, nothing was defined.
    IF since > 1 THEN
        reason := 'the catalogue is not as it was (' || erp_sandbox_journal.altered(since) || ')';
    END IF;
    IF reason IS NULL THEN
        SELECT array_agg(state), string_agg(CASE WHEN (state).is_cached THEN format(
            'the sequence %s has moved, and sessions may hold values of it in store', (state).sequence::regclass) END, '; ')
        INTO moved, reason FROM erp_sandbox_journal.moved_sequences() AS state;
    END IF;
    RETURN NEXT;
END
$body$;

-- Whether the journals are this transaction's alone from here on: nobody reads them, or is about to write to them.
CREATE FUNCTION erp_sandbox_journal.seize(journals text[]) RETURNS boolean LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', array_to_string(journals, ', '));
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$body$;

-- Once it has begun, and has a number, puts the rows back; a line for each table. Raises ES001 for what cannot be put back.
CREATE FUNCTION erp_sandbox_journal.undo(number xid8)
    RETURNS TABLE (table_name text, removed bigint, changed bigint, restored bigint, bloated text[])
    LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
    SET timezone = 'UTC' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content' SET row_security = off
    -- Plans are kept: they must be good for journals of any size. Tables are reached by their keys.
    SET plan_cache_mode = 'force_generic_plan' SET enable_seqscan = off SET enable_memoize = off SET jit = off
    SET max_parallel_workers_per_gather = 0 AS $body$
#variable_conflict use_column
DECLARE
    reason text;
    dirty oid[];
    nested oid[];
    replaced oid[];
    journals text[];
    is_long boolean;
    is_cut boolean;
    statement text;
    enabling text[] := '{}';
    touched record;
    undone record;
    told int := 0;
    prefix text := (SELECT format('erp_sandbox_undo_%s_', xmin) FROM erp_sandbox_journal.tables LIMIT 1);
    kept text[] := (SELECT array_agg(name) FROM pg_prepared_statements WHERE starts_with(name, prefix));
BEGIN
    SELECT coalesce(array_agg(DISTINCT relation), '{}'),
        coalesce(array_agg(DISTINCT relation) FILTER (WHERE calls.nested), '{}')
    INTO dirty, nested FROM erp_sandbox_journal.calls;

    reason := erp_sandbox_journal.lost(dirty);
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ES001', MESSAGE = reason;
    END IF;

    SELECT string_agg(format('%s was written, and %s', tables.name, tables.obstacle), '; ' ORDER BY tables.name)
    INTO reason FROM erp_sandbox_journal.tables WHERE tables.relation = ANY (dirty) AND obstacle IS NOT NULL;
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ES001', MESSAGE = reason;
    END IF;

    SELECT string_agg('one statement wrote a row of ' || tables.name || ' more than once', '; ')
    INTO reason FROM erp_sandbox_journal.tables
    WHERE tables.relation = ANY (dirty) AND (obeys OR tables.relation = ANY (nested))
        AND erp_sandbox_journal.doubts(tables.relation) > 0;
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ES001', MESSAGE = reason;
    END IF;

    -- A few rows are sooner taken out and put in again than triggers on updates are switched off, and plans made anew.
    SELECT coalesce(array_agg(tables.relation), '{}') INTO replaced
    FROM erp_sandbox_journal.tables
    JOIN (
        SELECT relation FROM erp_sandbox_journal.calls
        GROUP BY relation HAVING sum(lines) <= 100 AND bool_or(operation <> 'I')
    ) AS few ON few.relation = tables.relation
    WHERE spares_triggers AND current_setting('session_replication_role') <> 'replica';

    -- No trigger of the users' own may fire: the rows are to be exactly what they were. In a session that is a replica,
    -- hardly any would, and no foreign key is checked: the baseline's held.
    FOR touched IN
        SELECT tgrelid::regclass AS name,
            string_agg(format('DISABLE TRIGGER %I', tgname), ', ') AS disabling,
            string_agg(format('ENABLE %s TRIGGER %I',
                CASE tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END, tgname), ', ') AS enabling
        FROM pg_trigger
        JOIN (
            SELECT relation, bool_or(operation <> 'I') AS has_old, bool_or(operation <> 'D') AS has_new,
                bool_or(operation = 'U') AS has_both
            FROM erp_sandbox_journal.calls WHERE relation <> ALL (replaced) GROUP BY relation
        ) AS written ON written.relation = tgrelid
        WHERE NOT tgisinternal AND tgrelid = ANY (dirty)
            AND tgenabled IN ('A', CASE current_setting('session_replication_role') WHEN 'replica' THEN 'R' ELSE 'O' END)
            AND tgname <> ALL ('{erp_sandbox_insert,erp_sandbox_update,erp_sandbox_delete}')
            AND tgtype & 28 > 0
            -- Those for each statement fire even if there is no row.
            AND (has_both OR (has_old AND has_new) OR (has_old AND tgtype & 4 > 0) OR (has_new AND tgtype & 8 > 0)
                OR tgtype & 1 = 0)
        GROUP BY tgrelid
    LOOP
        -- This makes triggers as young as this transaction: that they were changed since the survey, if they were, could
        -- not be told any more.
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', touched.name);
        IF EXISTS (
            SELECT FROM pg_trigger, erp_sandbox_journal.baseline
            WHERE tgrelid = touched.name AND age(pg_trigger.xmin) < age(baseline.xmin)
        ) THEN
            RAISE EXCEPTION USING ERRCODE = 'ES001',
                MESSAGE = format('triggers of %s were changed while it was put back', touched.name);
        END IF;
        EXECUTE format('ALTER TABLE %s %s', touched.name, touched.disabling);
        enabling := enabling || format('ALTER TABLE %s %s', touched.name, touched.enabling);
    END LOOP;
    SET CONSTRAINTS ALL DEFERRED;

    -- What has grown long is cut off, which gives its room back at once, or else is vacuumed afterwards.
    SELECT '{erp_sandbox_journal.calls,erp_sandbox_journal.rows}' || array_agg(own) INTO journals
    FROM erp_sandbox_journal.tables WHERE tables.relation = ANY (dirty) AND own IS NOT NULL;
    is_long := (SELECT max(pg_table_size(journal)) >= 1048576 FROM unnest(journals) AS journal);
    is_cut := is_long AND erp_sandbox_journal.seize(journals);

    FOR undone IN
        SELECT undone.* FROM (
            SELECT ARRAY[tables.relation], tables.relation = ANY (replaced), may_have_to_replace AND may_replace
            FROM erp_sandbox_journal.tables WHERE tables.relation = ANY (dirty) AND NOT entangled
            UNION ALL
            -- Whatever unique indexes they have: those of a partition's own are not known here.
            SELECT array_agg(tables.relation), false, true
            FROM erp_sandbox_journal.tables WHERE tables.relation = ANY (dirty) AND entangled HAVING count(*) > 0
        ) AS statements (these, anew, may_be_swapped)
        CROSS JOIN LATERAL erp_sandbox_journal.undo_together(these, anew, may_be_swapped, prefix, kept) AS undone
    LOOP
        told := told + 1;
        SELECT tables.name INTO table_name FROM erp_sandbox_journal.tables WHERE tables.relation = undone.relation;
        IF undone.is_wrong THEN
            RAISE EXCEPTION USING ERRCODE = 'ES001',
                MESSAGE = format('the rows of %s do not add up to what the journal has of them', table_name);
        END IF;
        removed := undone.removed;
        changed := undone.changed;
        restored := undone.restored;
        bloated := CASE WHEN is_long AND NOT is_cut THEN journals ELSE '{}' END;
        -- As autovacuum has it, which comes too late where rewinds follow one upon another.
        IF is_long AND (
            SELECT sum(pg_stat_get_dead_tuples(oid)) > 50 + 0.2 * sum(greatest(reltuples, 0)) FROM pg_class
            WHERE oid IN (SELECT undone.relation UNION SELECT relid FROM pg_partition_tree(undone.relation))
                AND relkind = 'r'
        ) THEN
            bloated := bloated || table_name;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF told <> cardinality(dirty) THEN
        RAISE EXCEPTION USING ERRCODE = 'ES001', MESSAGE = 'a table was written that the journal does not know how to undo';
    END IF;
    IF is_long THEN
        -- Of the rows that this leaves behind, the next one shall know.
        PERFORM pg_stat_force_next_flush();
    END IF;
    SET CONSTRAINTS ALL IMMEDIATE;
    FOREACH statement IN ARRAY enabling LOOP
        EXECUTE statement;
    END LOOP;

    IF is_cut THEN
        EXECUTE format('TRUNCATE %s', array_to_string(journals, ', '));
    ELSE
        DELETE FROM erp_sandbox_journal.calls;
        DELETE FROM erp_sandbox_journal.rows;
        -- Some tables have one of their own.
        FOREACH statement IN ARRAY journals[3:] LOOP
            EXECUTE format('DELETE FROM %s', statement);
        END LOOP;
    END IF;
    -- Now it is as young as this transaction.
    UPDATE erp_sandbox_journal.baseline SET id = id;
END
$body$;

-- The last step: a sequence keeps its value even if the transaction fails.
CREATE FUNCTION erp_sandbox_journal.put_sequences_back(moved erp_sandbox_journal.sequence_state[]) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $body$
SELECT setval(sequence, last_value, is_called) FROM unnest(moved)
$body$
