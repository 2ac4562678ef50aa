-- Some roles, and every role that they are members of, directly or not; with the shortest way there.
-- Whatever a membership's options: ADMIN lets a member give itself the others, INHERIT lets it use what the role owns,
-- a SECURITY DEFINER function of the role's for instance. Parameter: names.
WITH RECURSIVE reached AS (
    SELECT oid, ARRAY[rolname::text] AS way
    FROM pg_roles
    WHERE rolname = ANY (%(names)s)
  UNION ALL
    SELECT r.oid, reached.way || r.rolname::text
    FROM reached
    JOIN pg_auth_members m ON m.member = reached.oid
    JOIN pg_roles r ON r.oid = m.roleid
)
SELECT
    oid::bigint,
    rolname,
    way,
    array_remove(ARRAY[
        CASE WHEN rolsuper THEN 'SUPERUSER' END,
        CASE WHEN rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
        CASE WHEN rolreplication THEN 'REPLICATION' END,
        CASE WHEN rolbypassrls THEN 'BYPASSRLS' END
    ], NULL)
FROM reached JOIN pg_roles USING (oid)
ORDER BY cardinality(way), rolname
