-- What some roles may change in the connected database. Parameters: roles (oids), table_privileges.
WITH
holder AS (SELECT oid, rolname FROM pg_roles WHERE oid = ANY (%(roles)s::bigint[])),
place AS (
    SELECT oid, nspname
    FROM pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'
),
here AS (SELECT oid, datname FROM pg_database WHERE datname = current_database())
-- Columns too: a grant on one is a way to write. Not asked of each: few have grants of their own.
SELECT pg_describe_object('pg_class'::regclass, c.oid, 0) AS object, holder.rolname, privilege
FROM pg_class c
JOIN place ON place.oid = c.relnamespace
CROSS JOIN holder
CROSS JOIN unnest(%(table_privileges)s::text[]) AS privilege
WHERE
    c.relkind IN ('r', 'p', 'v', 'f', 'm')
    AND (
        has_table_privilege(holder.oid, c.oid, privilege)
        OR privilege IN ('INSERT', 'UPDATE', 'REFERENCES')
        AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL)
        AND has_any_column_privilege(holder.oid, c.oid, privilege)
    )
UNION ALL
SELECT pg_describe_object('pg_class'::regclass, c.oid, 0), holder.rolname, privilege
FROM pg_class c
JOIN place ON place.oid = c.relnamespace
CROSS JOIN holder
CROSS JOIN unnest(ARRAY['USAGE', 'UPDATE']) AS privilege
WHERE c.relkind = 'S' AND has_sequence_privilege(holder.oid, c.oid, privilege)
UNION ALL
SELECT pg_describe_object('pg_namespace'::regclass, place.oid, 0), holder.rolname, 'CREATE'
FROM place CROSS JOIN holder
WHERE has_schema_privilege(holder.oid, place.oid, 'CREATE')
UNION ALL
SELECT format('database %%I', here.datname), holder.rolname, 'CREATE'
FROM here CROSS JOIN holder
WHERE has_database_privilege(holder.oid, here.oid, 'CREATE')
UNION ALL
-- What ALTER DEFAULT PRIVILEGES will give on objects that are yet to be made.
SELECT
    format('future %%s of %%I', CASE defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' ELSE 'schemas' END,
        pg_get_userbyid(defaclrole)),
    COALESCE(holder.rolname, 'PUBLIC'),
    granted.privilege_type
FROM pg_default_acl
CROSS JOIN LATERAL aclexplode(defaclacl) AS granted
LEFT JOIN holder ON holder.oid = granted.grantee
WHERE
    (holder.oid IS NOT NULL OR granted.grantee = 0)
    AND granted.grantee <> defaclrole
    AND CASE defaclobjtype
        WHEN 'r' THEN granted.privilege_type = ANY (%(table_privileges)s::text[])
        WHEN 'S' THEN granted.privilege_type IN ('USAGE', 'UPDATE')
        WHEN 'n' THEN granted.privilege_type = 'CREATE'
    END
UNION ALL
SELECT pg_describe_object(classid, objid, objsubid), holder.rolname, 'ownership'
FROM pg_shdepend
JOIN holder ON holder.oid = refobjid
WHERE
    refclassid = 'pg_authid'::regclass AND deptype = 'o' AND classid <> 'pg_default_acl'::regclass
    AND dbid = (SELECT oid FROM here)
UNION ALL
SELECT format('database %%I', datname), holder.rolname, 'ownership'
FROM pg_database
JOIN holder ON holder.oid = datdba
WHERE datname = current_database()
