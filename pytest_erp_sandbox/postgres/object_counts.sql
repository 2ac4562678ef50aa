-- How many objects of each kind a role has in a schema. Parameters: role, schema.
WITH
owner AS (SELECT oid FROM pg_roles WHERE rolname = %(role)s),
place AS (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s),
relation AS (
    SELECT oid, relkind
    FROM pg_class
    WHERE relnamespace = (SELECT oid FROM place) AND relowner = (SELECT oid FROM owner)
)
SELECT 'tables', count(*) FROM relation WHERE relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'indexes', count(*) FROM relation WHERE relkind IN ('i', 'I')
UNION ALL
SELECT 'sequences', count(*) FROM relation WHERE relkind = 'S'
UNION ALL
SELECT 'views', count(*) FROM relation WHERE relkind IN ('v', 'm')
UNION ALL
-- From version 18 on, every NOT NULL is a constraint.
SELECT 'constraints', count(*) FROM pg_constraint WHERE contype <> 'n' AND conrelid IN (SELECT oid FROM relation)
UNION ALL
SELECT 'triggers', count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM relation)
UNION ALL
-- By way of pg_shdepend: pg_proc has thousands of rows of the system's, and no index on owners.
SELECT 'functions', count(*)
FROM pg_shdepend JOIN pg_proc ON pg_proc.oid = objid AND pronamespace = (SELECT oid FROM place)
WHERE
    refclassid = 'pg_authid'::regclass AND refobjid = (SELECT oid FROM owner) AND deptype = 'o'
    AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = 'pg_proc'::regclass
UNION ALL
-- Composite types are relations; the row type of a table and arrays come with what they are of.
SELECT 'types', (SELECT count(*) FROM relation WHERE relkind = 'c') + count(*)
FROM pg_type
WHERE
    typnamespace = (SELECT oid FROM place) AND typowner = (SELECT oid FROM owner)
    AND typrelid = 0 AND typcategory <> 'A'
