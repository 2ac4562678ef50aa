-- Who may do what in schema public, and by default, a line for each privilege.
SELECT concat_ws(' ', what, coalesce(pg_get_userbyid(nullif(grantee, 0)), 'PUBLIC'), privilege_type, is_grantable)
FROM (
    SELECT
        oid::regclass::text,
        coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner))
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
    UNION ALL
    SELECT format('%s.%s', attrelid::regclass, attname), attacl
    FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384
    UNION ALL
    SELECT oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT oid::regtype::text, coalesce(typacl, acldefault('T', typowner))
    FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
    UNION ALL
    SELECT format('default %s %s', defaclobjtype, nullif(defaclnamespace, 0)::regnamespace), defaclacl
    FROM pg_default_acl
) AS granted (what, acl), aclexplode(acl)
ORDER BY 1
