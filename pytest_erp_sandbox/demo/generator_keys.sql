SELECT pg_class.relname, attname
FROM pg_constraint
JOIN pg_class ON pg_class.oid = conrelid
JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
WHERE contype = 'p'
  AND cardinality(conkey) = 1
  AND atttypid = 'integer'::regtype
  AND relnamespace = current_schema()::regnamespace
ORDER BY pg_class.oid
