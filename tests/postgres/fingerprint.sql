-- Everything in schema public: (name, definition).
WITH object (classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, oid FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation WHERE collnamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprnamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxnamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config WHERE cfgnamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict WHERE dictnamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid
        WHERE relnamespace = 'public'::regnamespace AND NOT tgisinternal
    UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_policy AS p JOIN pg_class AS c ON c.oid = polrelid
        WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = ev_class
        WHERE relnamespace = 'public'::regnamespace
)
SELECT
    pg_describe_object(classid, objid, 0),
    concat_ws(
        E'\n',
        obj_description(objid, classid::regclass::name),
        CASE classid
            WHEN 'pg_class'::regclass THEN (
                SELECT concat_ws(' ', relkind, relpersistence, relispopulated, relrowsecurity, relforcerowsecurity, relreplident,
                    relispartition, reloptions, pg_get_expr(relpartbound, oid),
                    CASE relkind WHEN 'v' THEN pg_get_viewdef(oid) WHEN 'm' THEN pg_get_viewdef(oid)
                        WHEN 'i' THEN pg_get_indexdef(oid) WHEN 'I' THEN pg_get_indexdef(oid)
                        WHEN 'p' THEN pg_get_partkeydef(oid) END,
                    (SELECT concat_ws(' ', indisclustered, indisreplident, indisvalid) FROM pg_index WHERE indexrelid = c.oid),
                    (SELECT concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)
                        FROM pg_sequence WHERE seqrelid = c.oid),
                    (SELECT string_agg(inhparent::regclass::text, ' ' ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid),
                    (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
                        attgenerated, attinhcount > 0, attislocal, attcollation::regcollation, attstorage,
                        pg_get_expr(adbin, adrelid), col_description(c.oid, attnum),
                        pg_get_serial_sequence(c.oid::regclass::text, attname)), E'\n' ORDER BY attnum)
                        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND relkind NOT IN ('i', 'I', 'S')))
                FROM pg_class AS c WHERE oid = objid
            )
            WHEN 'pg_proc'::regclass THEN (
                SELECT CASE prokind WHEN 'a' THEN (SELECT concat_ws(' ', aggtransfn, aggfinalfn, aggtranstype::regtype, agginitval)
                    FROM pg_aggregate WHERE aggfnoid = objid) ELSE pg_get_functiondef(objid) END
                FROM pg_proc WHERE oid = objid
            )
            WHEN 'pg_type'::regclass THEN (
                SELECT concat_ws(' ', typtype, typnotnull, typdefault, format_type(typbasetype, typtypmod), typcollation::regcollation,
                    (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = objid))
                FROM pg_type WHERE oid = objid
            )
            WHEN 'pg_constraint'::regclass THEN (
                SELECT concat_ws(' ', pg_get_constraintdef(oid), convalidated, condeferrable) FROM pg_constraint WHERE oid = objid
            )
            WHEN 'pg_trigger'::regclass THEN (SELECT concat_ws(' ', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE oid = objid)
            WHEN 'pg_rewrite'::regclass THEN pg_get_ruledef(objid)
            WHEN 'pg_statistic_ext'::regclass THEN pg_get_statisticsobjdef(objid)
            WHEN 'pg_policy'::regclass THEN (
                SELECT concat_ws(' ', polcmd, polpermissive, (SELECT array_agg(coalesce(nullif(r, 0)::regrole::text, 'PUBLIC')) FROM unnest(polroles) AS r),
                    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy WHERE oid = objid
            )
            WHEN 'pg_operator'::regclass THEN (
                SELECT concat_ws(' ', oprcode, oprcom::regoperator, oprnegate::regoperator, oprresult::regtype) FROM pg_operator WHERE oid = objid
            )
            WHEN 'pg_collation'::regclass THEN (
                SELECT concat_ws(' ', collprovider, collcollate, collisdeterministic) FROM pg_collation WHERE oid = objid
            )
            WHEN 'pg_ts_config'::regclass THEN (
                SELECT string_agg(concat_ws(' ', maptokentype, mapseqno, mapdict::regdictionary), ',' ORDER BY maptokentype, mapseqno)
                FROM pg_ts_config_map WHERE mapcfg = objid
            )
            WHEN 'pg_ts_dict'::regclass THEN (SELECT dictinitoption FROM pg_ts_dict WHERE oid = objid)
        END
    )
FROM object
