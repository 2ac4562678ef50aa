-- What of prod cannot come along in a dump of schema public, although it belongs to what people made: (label, reason,
-- object). The object, as a dump's list names it, can be left out of a restore.
WITH needing AS (
    -- Whatever stands in one schema and needs another: a view its tables, a column its type, a default its function.
    SELECT needs.classid, needs.objid, needed.identity AS needed,
        CASE classid
            WHEN 'pg_class'::regclass THEN objid
            WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE oid = objid)
            WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef WHERE oid = objid)
            WHEN 'pg_constraint'::regclass THEN (SELECT nullif(conrelid, 0) FROM pg_constraint WHERE oid = objid)
            WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = objid)
            WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = objid)
        END AS relation,
        -- Defaults and checks are made with their table.
        CASE classid
            WHEN 'pg_constraint'::regclass THEN (SELECT conname FROM pg_constraint WHERE oid = objid AND contype <> 'c')
            WHEN 'pg_trigger'::regclass THEN (SELECT tgname FROM pg_trigger WHERE oid = objid)
            WHEN 'pg_policy'::regclass THEN (SELECT polname FROM pg_policy WHERE oid = objid)
        END AS part
    FROM pg_depend AS needs
    CROSS JOIN LATERAL pg_identify_object(refclassid, refobjid, 0) AS needed
    WHERE objid >= 16384 AND refobjid >= 16384 AND deptype = 'n'
      AND needed.schema NOT IN ('public', 'pg_toast')
      AND NOT EXISTS (
          SELECT FROM pg_depend AS e
          WHERE (e.classid, e.objid) = (needs.refclassid, needs.refobjid) AND e.deptype = 'e'
      )
), named AS (
    SELECT needed,
        CASE
            WHEN relation IS NULL THEN format('%s %s', type, identity)
            WHEN part IS NOT NULL THEN format('%s %I on %I.%I', type, part, nspname, relname)
            ELSE format('%s %I.%I',
                CASE WHEN relkind IN ('v', 'm') THEN 'view' WHEN relkind IN ('i', 'I') THEN 'index' ELSE 'table' END,
                nspname, relname)
        END AS label,
        CASE WHEN relation IS NULL THEN identity ELSE concat_ws(' ', 'public.' || relname, part) END AS object
    FROM needing
    CROSS JOIN LATERAL pg_identify_object(classid, objid, 0)
    LEFT JOIN pg_class ON pg_class.oid = relation
    LEFT JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE coalesce(nspname, schema) = 'public'
)
SELECT label, format('it needs %s, which no dump of schema public has', string_agg(DISTINCT needed, ', ')) AS reason, object
FROM named GROUP BY label, object
UNION ALL
SELECT format('event trigger %s', quote_ident(evtname)), 'only a superuser makes them', ''
FROM pg_event_trigger AS t
WHERE NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_event_trigger'::regclass AND objid = t.oid AND deptype = 'e'
)
UNION ALL
SELECT 'large objects', 'they belong to no schema, and a dump of schema public has none', ''
WHERE EXISTS (SELECT FROM pg_largeobject_metadata)
UNION ALL
SELECT format('cast %s', identity), 'it belongs to no schema, and a dump of schema public has none', ''
FROM pg_cast AS c
CROSS JOIN LATERAL pg_identify_object('pg_cast'::regclass, c.oid, 0)
WHERE c.oid >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_cast'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 1
