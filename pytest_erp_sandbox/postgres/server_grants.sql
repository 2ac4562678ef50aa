-- Powers over the whole server that were granted singly to some roles; for PUBLIC too. Parameter: roles (oids).
SELECT 'ALTER SYSTEM', format('ALTER SYSTEM SET %%s of %%s', parname, COALESCE(rolname, 'PUBLIC'))
FROM pg_parameter_acl
CROSS JOIN LATERAL aclexplode(paracl) AS granted
LEFT JOIN pg_roles ON pg_roles.oid = granted.grantee
WHERE granted.privilege_type = 'ALTER SYSTEM' AND granted.grantee = ANY (ARRAY[0] || %(roles)s::bigint[])
UNION ALL
-- The system's own functions that not everybody may run: they read or write the server's files, or steer it.
SELECT 'EXECUTE', format('EXECUTE on %%s of %%s', p.oid::regprocedure, rolname)
FROM pg_proc p
CROSS JOIN LATERAL aclexplode(p.proacl) AS granted
JOIN pg_roles ON pg_roles.oid = granted.grantee
WHERE p.pronamespace = 'pg_catalog'::regnamespace
  AND granted.grantee = ANY (%(roles)s::bigint[])
  AND rolname !~ '^pg_'
ORDER BY 1, 2
