-- The role's default privileges (ALTER DEFAULT PRIVILEGES), as statements: DROP OWNED takes them along.
SELECT format(
    'ALTER DEFAULT PRIVILEGES%%s GRANT %%s ON %%s TO %%s%%s',
    CASE WHEN defaclnamespace <> 0 THEN ' IN SCHEMA ' || defaclnamespace::regnamespace ELSE '' END,
    string_agg(privilege_type, ', '),
    CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' END,
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
)
FROM pg_default_acl CROSS JOIN LATERAL aclexplode(defaclacl)
WHERE
    defaclrole = to_regrole(%(role)s) AND defaclobjtype IN ('r', 'S', 'f', 'T') AND grantee <> defaclrole
    AND defaclnamespace IN (0, coalesce(to_regnamespace('public'), 0))
GROUP BY defaclnamespace, defaclobjtype, grantee, is_grantable
