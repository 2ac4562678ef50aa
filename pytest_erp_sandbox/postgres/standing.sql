-- What stands in schema public and is not the role's, by the names that pg_dump gives such objects in an archive's list.
SELECT relname::text FROM pg_catalog.pg_class
WHERE relnamespace = to_regnamespace('public') AND relowner <> to_regrole(%(role)s)
UNION ALL
SELECT proname || '(' || oidvectortypes(proargtypes) || ')' FROM pg_catalog.pg_proc
WHERE pronamespace = to_regnamespace('public') AND proowner <> to_regrole(%(role)s)
UNION ALL
SELECT typname FROM pg_catalog.pg_type
WHERE typnamespace = to_regnamespace('public') AND typowner <> to_regrole(%(role)s) AND typrelid = 0
UNION ALL
SELECT collname FROM pg_catalog.pg_collation
WHERE collnamespace = to_regnamespace('public') AND collowner <> to_regrole(%(role)s)
UNION ALL
SELECT cfgname FROM pg_catalog.pg_ts_config
WHERE cfgnamespace = to_regnamespace('public') AND cfgowner <> to_regrole(%(role)s)
UNION ALL
SELECT dictname FROM pg_catalog.pg_ts_dict
WHERE dictnamespace = to_regnamespace('public') AND dictowner <> to_regrole(%(role)s)
