-- Those of some tables of schema public all of whose columns have types that are the same, bit for bit, in every database
-- of every version, in COPY's binary format. Parameter: tables.
--
-- Not those of extensions, of which pg_dump may leave out rows; and not those that were rewritten after the snapshot,
-- which would show none of their rows: the column is the snapshot's, the function tells what is now.
SELECT relname::text
FROM pg_class
JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = to_regnamespace('public') AND relkind = 'r' AND relname = ANY(%(tables)s)
    AND relfilenode = pg_relation_filenode(pg_class.oid)
    AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
    )
GROUP BY relname
HAVING bool_and(atttypid = ANY(ARRAY[
    'boolean', 'smallint', 'integer', 'bigint', 'real', 'double precision', 'numeric',
    'text', 'character varying', 'character', 'bytea', 'uuid', 'json', 'jsonb',
    'date', 'time', 'time with time zone', 'timestamp', 'timestamp with time zone', 'interval'
]::regtype[]))
