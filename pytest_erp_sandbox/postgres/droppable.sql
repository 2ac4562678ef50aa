-- What of a role's DROP can name, by kind; parts that come and go with their whole are left out (a row type, an array, an
-- identity's sequence, a partition, an extension's member). The newest first: they depend on older ones, and not the other
-- way round. Parameter: role.
SELECT kind, nspname::text, name::text, arguments
FROM (
    SELECT
        CASE relkind
            WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE'
            ELSE 'TABLE'
        END,
        'pg_class'::regclass, oid, relnamespace, relname, NULL::text[]
    FROM pg_class
    WHERE
        relowner = to_regrole(%(role)s) AND relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
        AND NOT relispartition AND relpersistence <> 't'
    UNION ALL
    SELECT
        'ROUTINE', 'pg_proc'::regclass, oid, pronamespace, proname,
        -- Each type's schema and name, one after the other.
        ARRAY(
            SELECT unnest(ARRAY[nspname::text, typname::text])
            FROM unnest(proargtypes) WITH ORDINALITY AS argument (type, place)
            JOIN pg_type ON pg_type.oid = argument.type
            JOIN pg_namespace ON pg_namespace.oid = typnamespace
            ORDER BY place
        )
    FROM pg_proc
    WHERE proowner = to_regrole(%(role)s)
    UNION ALL
    SELECT 'TYPE', 'pg_type'::regclass, oid, typnamespace, typname, NULL
    FROM pg_type
    WHERE typowner = to_regrole(%(role)s)
) AS owned (kind, classid, objid, namespace, name, arguments)
JOIN pg_namespace ON pg_namespace.oid = namespace
WHERE
    NOT EXISTS (
        SELECT FROM pg_depend
        WHERE pg_depend.classid = owned.classid AND pg_depend.objid = owned.objid AND deptype IN ('i', 'e')
    )
    AND nspname !~ '^pg_(temp|toast)'
ORDER BY objid DESC
