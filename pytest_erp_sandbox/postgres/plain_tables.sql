-- Those of some tables of schema public all of whose columns have types that are the same, bit for bit, in every database
-- of every version, in COPY's binary format. Parameter: tables.
SELECT relname::text
FROM pg_class
JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = to_regnamespace('public') AND relkind = 'r' AND relname = ANY(%(tables)s)
GROUP BY relname
HAVING bool_and(atttypid = ANY(ARRAY[
    'boolean', 'smallint', 'integer', 'bigint', 'real', 'double precision', 'numeric',
    'text', 'character varying', 'character', 'bytea', 'uuid', 'json', 'jsonb',
    'date', 'time', 'time with time zone', 'timestamp', 'timestamp with time zone', 'interval'
]::regtype[]))
