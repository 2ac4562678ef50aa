-- Functions of others that some roles may run with their owners' rights, and that may write. Parameter: roles (oids).
SELECT pg_describe_object('pg_proc'::regclass, p.oid, 0), pg_get_userbyid(p.proowner)
FROM pg_proc p
WHERE
    p.prosecdef AND p.provolatile = 'v'
    AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
    AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    AND p.proowner <> ALL (%(roles)s::bigint[])
    AND EXISTS (
        SELECT FROM unnest(%(roles)s::bigint[]) AS role
        WHERE has_function_privilege(role::oid, p.oid, 'EXECUTE')
          AND has_schema_privilege(role::oid, p.pronamespace, 'USAGE')
    )
ORDER BY 1
