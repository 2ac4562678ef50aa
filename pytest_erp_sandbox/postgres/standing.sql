-- What stands in schema public and is not the role's: its sort, and the name that pg_dump gives it in a dump's list.
-- Argument types are named as seen from an empty search path. Parameter: role.
SELECT 'relation', relname::text FROM pg_class
WHERE relnamespace = to_regnamespace('public') AND relowner <> to_regrole(%(role)s)
UNION ALL
SELECT
    'routine',
    format('%%s(%%s)', proname, CASE WHEN prokind = 'a' AND pronargs = 0 THEN '*' ELSE oidvectortypes(proargtypes) END)
FROM pg_proc
WHERE pronamespace = to_regnamespace('public') AND proowner <> to_regrole(%(role)s)
UNION ALL
SELECT 'type', typname FROM pg_type
WHERE typnamespace = to_regnamespace('public') AND typowner <> to_regrole(%(role)s) AND typrelid = 0
UNION ALL
SELECT 'COLLATION', collname FROM pg_collation
WHERE collnamespace = to_regnamespace('public') AND collowner <> to_regrole(%(role)s)
UNION ALL
SELECT 'CONVERSION', conname FROM pg_conversion
WHERE connamespace = to_regnamespace('public') AND conowner <> to_regrole(%(role)s)
UNION ALL
SELECT 'STATISTICS', stxname FROM pg_statistic_ext
WHERE stxnamespace = to_regnamespace('public') AND stxowner <> to_regrole(%(role)s)
UNION ALL
SELECT 'OPERATOR CLASS', opcname FROM pg_opclass
WHERE opcnamespace = to_regnamespace('public') AND opcowner <> to_regrole(%(role)s)
UNION ALL
SELECT 'OPERATOR FAMILY', opfname FROM pg_opfamily
WHERE opfnamespace = to_regnamespace('public') AND opfowner <> to_regrole(%(role)s)
UNION ALL
SELECT 'TEXT SEARCH CONFIGURATION', cfgname FROM pg_ts_config
WHERE cfgnamespace = to_regnamespace('public') AND cfgowner <> to_regrole(%(role)s)
UNION ALL
SELECT 'TEXT SEARCH DICTIONARY', dictname FROM pg_ts_dict
WHERE dictnamespace = to_regnamespace('public') AND dictowner <> to_regrole(%(role)s)
UNION ALL
SELECT 'TEXT SEARCH PARSER', prsname FROM pg_ts_parser WHERE prsnamespace = to_regnamespace('public')
UNION ALL
SELECT 'TEXT SEARCH TEMPLATE', tmplname FROM pg_ts_template WHERE tmplnamespace = to_regnamespace('public')
