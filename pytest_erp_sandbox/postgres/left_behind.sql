-- What of prod a dump of schema public does not have, although it belongs to what people made: (label, reason).
SELECT format('event trigger %s', quote_ident(evtname)) AS label, 'only a superuser makes them' AS reason
FROM pg_event_trigger AS t
WHERE NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_event_trigger'::regclass AND objid = t.oid AND deptype = 'e'
)
UNION ALL
SELECT 'large objects', 'they belong to no schema, and a dump of schema public has none'
WHERE EXISTS (SELECT FROM pg_largeobject_metadata)
UNION ALL
SELECT format('cast %s', identity), 'it belongs to no schema, and a dump of schema public has none'
FROM pg_cast AS c
CROSS JOIN LATERAL pg_identify_object('pg_cast'::regclass, c.oid, 0)
WHERE c.oid >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_cast'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 1
