-- What a role has defined, outside of the journal: (what it is, all that defines it). Parameter: role.
WITH place AS (
    SELECT oid FROM pg_namespace WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'erp_sandbox_journal')
        AND nspname !~ '^pg_(temp|toast)'
), relation AS MATERIALIZED (
    SELECT pg_class.* FROM pg_class JOIN place ON place.oid = relnamespace WHERE relowner = to_regrole(%(role)s)
)
SELECT
    pg_describe_object('pg_class'::regclass, oid, 0),
    concat_ws(' ', relkind, relpersistence, relrowsecurity, relforcerowsecurity, reloptions, relacl, reltablespace,
        obj_description(oid, 'pg_class'), pg_get_expr(relpartbound, oid),
        CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) WHEN relkind IN ('i', 'I') THEN pg_get_indexdef(oid)
            WHEN relkind = 'p' THEN pg_get_partkeydef(oid) END,
        (SELECT concat_ws(' ', seqtypid, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
         FROM pg_sequence WHERE seqrelid = relation.oid),
        (SELECT string_agg(concat_ws(' ', attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
             attgenerated, attstorage, attcollation, attacl, attoptions, pg_get_expr(adbin, adrelid)), chr(10) ORDER BY attnum)
         FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
         WHERE attrelid = relation.oid AND attnum > 0 AND relkind NOT IN ('i', 'I', 'S')))
FROM relation
UNION ALL
SELECT pg_describe_object('pg_constraint'::regclass, pg_constraint.oid, 0),
    concat_ws(' ', pg_get_constraintdef(pg_constraint.oid), condeferrable, condeferred, convalidated)
FROM pg_constraint JOIN relation ON relation.oid = conrelid
UNION ALL
SELECT pg_describe_object('pg_trigger'::regclass, pg_trigger.oid, 0),
    concat_ws(' ', pg_get_triggerdef(pg_trigger.oid), tgenabled)
FROM pg_trigger JOIN relation ON relation.oid = tgrelid
UNION ALL
SELECT pg_describe_object('pg_rewrite'::regclass, pg_rewrite.oid, 0), concat_ws(' ', pg_get_ruledef(pg_rewrite.oid), ev_enabled)
FROM pg_rewrite JOIN relation ON relation.oid = ev_class
UNION ALL
SELECT pg_describe_object('pg_policy'::regclass, pg_policy.oid, 0), concat_ws(' ', polcmd, polpermissive, polroles,
    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM pg_policy JOIN relation ON relation.oid = polrelid
UNION ALL
SELECT pg_describe_object('pg_proc'::regclass, pg_proc.oid, 0), concat_ws(' ', prosrc, prosecdef, provolatile, proleakproof,
    proisstrict, proconfig, proacl, prorettype, proargnames, probin, prosupport)
FROM pg_proc JOIN place ON place.oid = pronamespace WHERE proowner = to_regrole(%(role)s)
UNION ALL
SELECT pg_describe_object('pg_type'::regclass, pg_type.oid, 0), concat_ws(' ', typtype, typnotnull, typdefault,
    format_type(typbasetype, typtypmod), typacl,
    (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid))
FROM pg_type JOIN place ON place.oid = typnamespace
WHERE typowner = to_regrole(%(role)s) AND typrelid = 0 AND typcategory <> 'A'
UNION ALL
SELECT pg_describe_object('pg_ts_config'::regclass, pg_ts_config.oid, 0), concat_ws(' ', cfgparser,
    (SELECT string_agg(concat_ws(' ', maptokentype, mapseqno, mapdict::regdictionary), ',' ORDER BY maptokentype, mapseqno)
     FROM pg_ts_config_map WHERE mapcfg = pg_ts_config.oid))
FROM pg_ts_config JOIN place ON place.oid = cfgnamespace WHERE cfgowner = to_regrole(%(role)s)
UNION ALL
SELECT pg_describe_object('pg_ts_dict'::regclass, pg_ts_dict.oid, 0), concat_ws(' ', dicttemplate, dictinitoption)
FROM pg_ts_dict JOIN place ON place.oid = dictnamespace WHERE dictowner = to_regrole(%(role)s)
UNION ALL
SELECT pg_describe_object('pg_namespace'::regclass, pg_namespace.oid, 0), concat_ws(' ', nspacl)
FROM pg_namespace JOIN place USING (oid) WHERE nspowner = to_regrole(%(role)s)
UNION ALL
SELECT 'large object ' || oid, lomacl::text FROM pg_largeobject_metadata WHERE lomowner = to_regrole(%(role)s)
