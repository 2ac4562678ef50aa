-- How many objects of each kind the current schema holds.
WITH here AS (
    SELECT pg_class.oid, relkind FROM pg_class WHERE relnamespace = current_schema()::regnamespace
), keyed AS (
    SELECT conrelid AS oid FROM pg_constraint WHERE contype = 'p'
)
SELECT
    (SELECT count(*) FROM here WHERE relkind = 'r') AS tables,
    (SELECT count(*) FROM here WHERE relkind = 'r' AND oid NOT IN (SELECT oid FROM keyed)) AS without_key,
    (SELECT count(*) FROM here WHERE relkind = 'i') AS indexes,
    (SELECT count(*) FROM here WHERE relkind = 'S') AS sequences,
    (SELECT count(*) FROM pg_constraint JOIN here ON here.oid = conrelid WHERE contype = 'f') AS foreign_keys,
    (SELECT count(*) FROM pg_trigger JOIN here ON here.oid = tgrelid WHERE NOT tgisinternal) AS triggers,
    (SELECT count(*) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace) AS functions
