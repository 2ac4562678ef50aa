-- The grants that others have on the role's own objects in schema public, and on the schema where it is the role's:
-- (kind, object, column, grantee, privileges, grantable), a row for each object and grantee. A NULL grantee is PUBLIC;
-- NULL privileges say that PUBLIC was denied what it has by default. Parameter: role.
WITH owned (kind, object, part, acl) AS (
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text, NULL::text, relacl
    FROM pg_class
    WHERE relowner = to_regrole(%(role)s) AND relnamespace = to_regnamespace('public')
        AND relkind IN ('r', 'v', 'm', 'p', 'f', 'S')
    UNION ALL
    SELECT 'TABLE', attrelid::regclass::text, attname::text, attacl
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relowner = to_regrole(%(role)s) AND relnamespace = to_regnamespace('public') AND NOT attisdropped
    UNION ALL
    SELECT 'ROUTINE', oid::regprocedure::text, NULL, proacl
    FROM pg_proc
    WHERE proowner = to_regrole(%(role)s) AND pronamespace = to_regnamespace('public')
    UNION ALL
    SELECT 'TYPE', oid::regtype::text, NULL, typacl
    FROM pg_type
    WHERE typowner = to_regrole(%(role)s) AND typnamespace = to_regnamespace('public')
    UNION ALL
    SELECT 'SCHEMA', oid::regnamespace::text, NULL, nspacl
    FROM pg_namespace
    WHERE nspowner = to_regrole(%(role)s) AND nspname = 'public'
)
SELECT
    kind, object, part, pg_get_userbyid(nullif(grantee, 0))::text, string_agg(privilege_type, ', '), is_grantable
FROM owned CROSS JOIN LATERAL aclexplode(acl)
WHERE grantee <> to_regrole(%(role)s)
GROUP BY kind, object, part, grantee, is_grantable
UNION ALL
SELECT kind, object, NULL, NULL, NULL, false
FROM owned
WHERE kind IN ('ROUTINE', 'TYPE') AND acl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(acl) WHERE grantee = 0)
ORDER BY 1, 2, 3 NULLS FIRST, 4 NULLS FIRST
