-- The tables that are journalled, with the pieces of SQL that their triggers and their undo are made of. In them ``t`` is
-- a row of the table, ``entry`` a line of its journal, ``old`` an image from there, and ``plan`` has the key's values as
-- k1, k2, ….
CREATE TABLE erp_sandbox_journal.tables AS
WITH candidate AS MATERIALIZED (
    SELECT pg_class.oid, relkind, relispartition, relhasrules, relrowsecurity AND relforcerowsecurity AS is_hidden,
        format('%I.%I', nspname, relname) AS name,
        relkind = 'r' AND pg_relation_size(pg_class.oid) > current_setting('erp_sandbox.large')::bigint AS is_large
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relowner = current_user::regrole AND relkind IN ('r', 'p', 'f') AND relpersistence <> 't'
        AND nspname <> 'erp_sandbox_journal'
), key AS (
    -- Unique, never null, checked at once, and equal where its columns' types say so.
    SELECT DISTINCT ON (indrelid) indrelid AS oid, indexrelid, indkey::int2[] AS indkey, indclass::oid[] AS indclass, indnkeyatts
    FROM pg_index
    WHERE indisunique AND indimmediate AND indisvalid AND NOT indisexclusion AND indpred IS NULL AND indexprs IS NULL
        AND indrelid IN (SELECT oid FROM candidate)
        AND NOT EXISTS (
            SELECT FROM generate_series(0, indnkeyatts - 1) AS n
            JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[n]
            JOIN pg_opclass ON pg_opclass.oid = indclass[n]
            WHERE NOT attnotnull OR attgenerated <> '' OR indcollation[n] <> attcollation OR NOT opcdefault
                OR opcmethod <> (SELECT oid FROM pg_am WHERE amname = 'btree'))
        -- From version 18 a column can be NOT NULL for new rows only.
        AND (indisprimary OR NOT EXISTS (
            SELECT FROM pg_constraint WHERE conrelid = indrelid AND contype = 'n' AND NOT convalidated))
    ORDER BY indrelid, NOT indisprimary, indnkeyatts, indexrelid
), key_column AS MATERIALIZED (
    SELECT oid, n, indkey[n - 1] AS number, indclass[n - 1] AS class FROM key CROSS JOIN generate_series(1, indnkeyatts) AS n
), key_pieces AS (
    SELECT key.oid, array_agg(attname::text ORDER BY n) AS names, string_agg('k' || n, ', ' ORDER BY n) AS k,
        string_agg(format('(entry.key)[%1$s]::%2$s%3$s AS k%1$s', n, format_type(atttypid, -1),
            CASE WHEN attcollation NOT IN (0, 100) THEN ' COLLATE ' || attcollation::regcollation ELSE '' END),
            ', ' ORDER BY n) AS k_of_text,
        string_agg(format('entry.%I AS k%s', attname, n), ', ' ORDER BY n) AS k_of_own,
        string_agg(format('t.%I OPERATOR(%I.%s) plan.k%s', attname, nspname, oprname, n), ' AND ' ORDER BY n) AS match,
        string_agg(format('t.%I IS NOT NULL', attname), ' AND ' ORDER BY n) AS is_there,
        string_agg(format('k%s IS NULL', n), ' OR ' ORDER BY n) AS is_lost,
        string_agg(format('CAST(%I AS text)', attname), ', ' ORDER BY n) AS texts,
        string_agg(format('NULL AS %I', attname), ', ' ORDER BY n) AS nulls,
        string_agg(quote_ident(attname), ', ' ORDER BY n) AS quoted
    FROM key_column AS key
    JOIN pg_attribute ON attrelid = key.oid AND attnum = number
    JOIN pg_opclass ON pg_opclass.oid = class
    JOIN pg_amop ON amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype
        AND amopstrategy = 3
    JOIN pg_operator ON pg_operator.oid = amopopr
    JOIN pg_namespace ON pg_namespace.oid = oprnamespace
    GROUP BY key.oid
), column_pieces AS (
    -- Sorted below, once for all of these.
    SELECT oid, array_agg(attname::text) AS names,
        string_agg(name, ', ') AS columns,
        string_agg('t.' || name, ', ') AS of_t,
        string_agg('old.' || name, ', ') FILTER (WHERE is_large) AS of_own,
        string_agg('(old.image).' || name, ', ') AS of_text,
        string_agg(name || ' = old.' || name, ', ')
            FILTER (WHERE is_large AND attidentity <> 'a') AS set_to_own,
        string_agg(name || ' = (old.image).' || name, ', ')
            FILTER (WHERE attidentity <> 'a') AS set_to_text,
        string_agg(format('CAST(%1$s AS %2$s) AS %1$s', name, type), ', ')
            FILTER (WHERE is_large) AS typed,
        string_agg(format('CAST(NULL AS %2$s) AS %1$s', name, type), ', ')
            FILTER (WHERE is_large) AS nulls,
        string_agg(format('CAST(%1$s AS %2$s) AS %1$s', name, type), ', ')
            FILTER (WHERE is_large AND is_key) AS typed_keys,
        string_agg(CASE WHEN is_key THEN 'image.' || name ELSE 'NULL' END, ', ')
            FILTER (WHERE is_large) AS keys,
        string_agg(format('%s %s', name, type), ', ') FILTER (WHERE is_large) AS definitions,
        coalesce(bool_or(attidentity = 'a' AND NOT is_key), false) AS has_fixed_identity,
        count(*) <= 200 AND bool_and(atttypid < 16384 AND attcollation IN (0, 100)
            AND attname NOT IN ('call', 'is_new') AND attname !~ '^k[0-9]+$') FILTER (WHERE is_large) AS is_plain
    FROM (
        SELECT candidate.oid, is_large, attnum, attname, attidentity, atttypid, attcollation, quote_ident(attname) AS name,
            CASE WHEN is_large THEN format_type(atttypid, -1) END AS type,
            EXISTS (SELECT FROM key_column AS key WHERE key.oid = attrelid AND number = attnum) AS is_key
        FROM candidate JOIN pg_attribute ON attrelid = candidate.oid
        WHERE attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY candidate.oid, attnum
    ) AS columns GROUP BY oid
), foreign_keys AS (
    SELECT side_of AS oid, bool_or(NOT condeferrable OR confdeltype <> 'a' OR confupdtype <> 'a') AS entangled,
        bool_or(side = 'referenced' AND confdeltype <> 'a') AS acts,
        bool_or(side = 'referencing' AND writes) AS obeys,
        bool_or(side = 'referenced' AND writes AND NOT convalidated) AS endangers
    FROM (
        SELECT confdeltype NOT IN ('a', 'r') OR confupdtype NOT IN ('a', 'r') AS writes, *
        FROM pg_constraint
        CROSS JOIN LATERAL (VALUES (conrelid, 'referencing'), (confrelid, 'referenced')) AS sides (side_of, side)
        WHERE contype = 'f'
    ) AS foreign_key GROUP BY side_of
), unique_too AS (
    SELECT DISTINCT indrelid AS oid FROM pg_index LEFT JOIN key ON key.oid = indrelid
    WHERE (indisunique OR indisexclusion) AND pg_index.indexrelid IS DISTINCT FROM key.indexrelid
), tree AS (
    SELECT candidate.oid,
        bool_or(part.relkind = 'f' OR part.relhasrules OR part.relrowsecurity) AS is_unusual,
        bool_or(EXISTS (SELECT FROM pg_trigger WHERE tgrelid = part.oid AND NOT tgisinternal)) AS has_triggers
    FROM candidate CROSS JOIN LATERAL pg_partition_tree(candidate.oid) AS member
    JOIN pg_class AS part ON part.oid = member.relid
    WHERE candidate.relkind = 'p' GROUP BY candidate.oid
)
SELECT candidate.oid AS relation, candidate.oid::text AS oid, candidate.name,
    -- Why what is written into it cannot be undone, in words.
    obstacle,
    -- Its journal, if it has one of its own; otherwise that is erp_sandbox_journal.rows.
    own, definitions,
    -- The columns that tell one row from another; NULL where no key does.
    key_pieces.names AS key_names, coalesce(column_pieces.names, '{}') AS column_names,
    -- Whether foreign keys write to it: perhaps to a row more than once within one statement, and told in any order.
    coalesce(obeys, false) AS obeys,
    -- Whether foreign keys act, or cannot wait for the end of the transaction: then it is undone in one statement with
    -- others.
    coalesce(entangled, false) AS entangled,
    -- Rows may have to be deleted and inserted anew, for unique values' or a fixed identity's sake …
    coalesce(has_fixed_identity, false) AS must_replace,
    unique_too.oid IS NOT NULL AS may_have_to_replace,
    -- … which foreign keys that act on a deletion would take for one.
    NOT coalesce(acts, false) AS may_replace,
    -- Whether that spares switching triggers off, which costs more where rows are few: none but those on updates, for each row.
    NOT coalesce(acts, false) AND NOT coalesce(entangled, false) AND relkind = 'r' AND key_pieces.oid IS NOT NULL
        AND (SELECT bool_and(tgtype & 13 = 1) AND bool_or(tgtype & 16 > 0) FROM pg_trigger
            WHERE tgrelid = candidate.oid AND NOT tgisinternal) IS TRUE AS spares_triggers,
    CASE WHEN own IS NOT NULL THEN 'write_' || candidate.oid
        ELSE 'write_' || coalesce(md5(key_pieces.texts), 'whole') END AS writer,
    -- What the text of a value depends on.
    CASE WHEN own IS NULL THEN ' SET datestyle = ''ISO, YMD'' SET intervalstyle = ''postgres'' SET extra_float_digits = 1'
        ' SET bytea_output = ''hex'' SET timezone = ''UTC'' SET lc_monetary = ''C''' ELSE '' END AS settings,
    -- Another one once the table is rewritten.
    pg_relation_filenode(candidate.oid)::text AS filenode,
    -- What notes the rows as they were, as they are, and both of an update.
    insertion || old_lines AS old_rows, insertion || new_lines AS new_rows,
    insertion || old_lines || ' UNION ALL ' || new_lines AS both_rows,
    k, CASE WHEN own IS NULL THEN k_of_text ELSE k_of_own END AS k_values, match, is_there, is_lost,
    columns, of_t AS t_columns, CASE WHEN own IS NULL THEN of_text ELSE of_own END AS old_columns,
    -- A table of nothing but an identity: there is nothing to set, and setting nothing is not a statement.
    coalesce(CASE WHEN own IS NULL THEN set_to_text ELSE set_to_own END, quoted || ' = DEFAULT') AS assignments,
    coalesce(own || ' AS entry', 'erp_sandbox_journal.rows AS entry') AS journal,
    CASE WHEN own IS NULL THEN format('entry.relation = %s', candidate.oid) ELSE 'true' END AS is_ours,
    CASE WHEN own IS NOT NULL THEN format('JOIN %s AS old ON old.ctid = plan.place', own)
        ELSE format('CROSS JOIN LATERAL (SELECT entry.image::%s AS image FROM erp_sandbox_journal.rows AS entry'
            ' WHERE entry.ctid = plan.place OFFSET 0) AS old', candidate.name) END AS images
FROM candidate
LEFT JOIN key_pieces ON key_pieces.oid = candidate.oid
LEFT JOIN column_pieces ON column_pieces.oid = candidate.oid
LEFT JOIN foreign_keys ON foreign_keys.oid = candidate.oid
LEFT JOIN unique_too ON unique_too.oid = candidate.oid
LEFT JOIN tree ON tree.oid = candidate.oid
-- OFFSET 0, here and in the next: found out once, and not copied into each expression that uses it.
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN relkind = 'f' THEN 'it is a foreign table'
        WHEN is_hidden THEN 'it has row level security, forced on its owner too'
        WHEN relhasrules THEN 'it has rules'
        WHEN relispartition THEN 'it is a partition, written to directly'
        WHEN relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE candidate.oid IN (inhrelid, inhparent))
            THEN 'it inherits, or is inherited from'
        WHEN key_pieces.oid IS NULL AND EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = candidate.oid AND attgenerated = 'v'
        ) THEN 'it has no key, and columns that are not stored'
        WHEN relkind = 'p' AND key_pieces.oid IS NULL THEN 'it is partitioned and has no key'
        WHEN tree.has_triggers THEN 'it is partitioned and has triggers'
        WHEN tree.is_unusual THEN 'it has unusual partitions'
        WHEN endangers THEN 'a foreign key acts upon rows that refer to it, and was never validated'
        WHEN has_fixed_identity AND acts THEN 'its identity cannot be set, nor its rows be deleted for a moment'
        WHEN column_pieces.oid IS NULL THEN 'it has no columns'
    END OFFSET 0
) AS obstacles (obstacle)
CROSS JOIN LATERAL (
    SELECT CASE WHEN obstacle IS NULL AND key_pieces.oid IS NOT NULL AND is_large AND column_pieces.is_plain
        THEN 'erp_sandbox_journal.rows_' || candidate.oid END OFFSET 0
) AS journals (own)
-- Columns may get other names, and go: what rows no longer have is found one level further out, where it is NULL. To
-- the writer that is no error; and the next rewind sees that the catalogue is not as it was.
CROSS JOIN LATERAL (
    SELECT 'INSERT INTO erp_sandbox_journal.rows ', 'erp_sandbox.relation, ', coalesce(key_pieces.nulls, 'NULL'),
        coalesce('ARRAY[' || key_pieces.texts || ']', 'NULL::text[]') || ', CAST(old_rows.* AS text)',
        coalesce('ARRAY[' || key_pieces.texts || '], NULL', 'NULL::text[], CAST(new_rows.* AS text)'), 'image.*'
    WHERE own IS NULL
    UNION ALL
    SELECT format('INSERT INTO %s ', own), '', column_pieces.nulls, typed, typed_keys, keys
    WHERE own IS NOT NULL
) AS images (insertion, relation, nulls, of_old_row, of_new_row, keys_alone)
CROSS JOIN LATERAL (
    SELECT format(line, relation, 'false', 'image.*', images.nulls, of_old_row, 'old_rows'),
        format(line, relation, 'true', keys_alone, images.nulls, of_new_row, 'new_rows')
    FROM (SELECT 'SELECT erp_sandbox.call, %s%s, %s FROM (SELECT %s) AS missing'
        ' CROSS JOIN LATERAL (SELECT %s FROM %s) AS image') AS form (line)
) AS statements (old_lines, new_lines)
ORDER BY candidate.oid
