-- What in this database belongs to logins that are members of the role, and not to the role; administrators, who are
-- members of what they made, aside. Parameter: role.
WITH RECURSIVE member (oid) AS (
    SELECT member FROM pg_auth_members WHERE roleid = to_regrole(%(role)s)
  UNION
    SELECT m.member FROM pg_auth_members m JOIN member ON m.roleid = member.oid
)
SELECT rolname, array_agg(type || ' ' || identity ORDER BY type, identity)
FROM member
JOIN pg_roles USING (oid)
JOIN pg_shdepend ON refclassid = 'pg_authid'::regclass AND refobjid = pg_roles.oid AND deptype = 'o'
CROSS JOIN LATERAL pg_identify_object(classid, objid, objsubid)
WHERE
    dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND rolcanlogin AND NOT rolsuper AND NOT rolcreaterole
    AND classid <> 'pg_default_acl'::regclass
    AND coalesce(schema, '') !~ '^pg_(temp|toast)' AND identity !~ '^pg_temp'
GROUP BY rolname
ORDER BY rolname
