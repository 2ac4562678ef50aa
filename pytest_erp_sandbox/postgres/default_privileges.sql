-- The role's default privileges (ALTER DEFAULT PRIVILEGES), as statements: DROP OWNED takes them along. Those in schemas
-- that are the role's own go with these; public alone is made again. Parameter: role.
WITH given AS (
    SELECT
        format(
            'ALTER DEFAULT PRIVILEGES%%s',
            CASE WHEN defaclnamespace <> 0 THEN ' IN SCHEMA ' || defaclnamespace::regnamespace ELSE '' END
        ) AS alter,
        CASE defaclobjtype
            WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES'
            WHEN 'n' THEN 'SCHEMAS' WHEN 'L' THEN 'LARGE OBJECTS'
        END AS kind,
        defaclnamespace AS namespace, defaclacl AS acl
    FROM pg_default_acl
    LEFT JOIN pg_namespace ON pg_namespace.oid = defaclnamespace
    WHERE
        defaclrole = to_regrole(%(role)s)
        AND (defaclnamespace = 0 OR nspname = 'public' OR nspowner <> to_regrole(%(role)s))
)
SELECT statement
FROM (
    -- Those that hold everywhere stand in place of PostgreSQL's own, which give PUBLIC something.
    SELECT 1 AS place, format('%%s REVOKE ALL ON %%s FROM PUBLIC', alter, kind) AS statement
    FROM given
    WHERE namespace = 0 AND kind IN ('ROUTINES', 'TYPES')
    UNION ALL
    SELECT
        2,
        format(
            '%%s GRANT %%s ON %%s TO %%s%%s',
            alter, string_agg(privilege_type, ', '), kind,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
            CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        )
    FROM given CROSS JOIN LATERAL aclexplode(acl)
    WHERE grantee <> to_regrole(%(role)s)
    GROUP BY alter, kind, grantee, is_grantable
) AS statements
ORDER BY place
