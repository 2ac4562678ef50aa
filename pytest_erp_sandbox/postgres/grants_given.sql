-- The recorded grants as statements, for those objects and roles that exist now. The server itself quotes every name,
-- and knows the privileges: a record that was tampered with gives no other statement than a GRANT. Parameter: grants.
SELECT
    CASE
        WHEN privileges IS NULL THEN format('REVOKE ALL ON %%s %%s FROM PUBLIC', kind, object)
        ELSE format(
            'GRANT %%s ON %%s %%s TO %%s%%s',
            (
                SELECT string_agg(privilege || coalesce(' (' || quote_ident(part) || ')', ''), ', ')
                FROM unnest(string_to_array(privileges, ', ')) AS privilege
                WHERE privilege ~ '^[A-Z ]+$'
            ),
            kind, object, coalesce(quote_ident(grantee), 'PUBLIC'),
            CASE WHEN grantable THEN ' WITH GRANT OPTION' ELSE '' END
        )
    END
FROM (
    SELECT
        kind, part, grantee, privileges, grantable,
        CASE kind
            WHEN 'TABLE' THEN (
                SELECT oid::regclass::text FROM pg_class WHERE oid = to_regclass(object) AND relkind IN ('r', 'v', 'm', 'p', 'f')
            )
            WHEN 'SEQUENCE' THEN (SELECT oid::regclass::text FROM pg_class WHERE oid = to_regclass(object) AND relkind = 'S')
            WHEN 'ROUTINE' THEN to_regprocedure(object)::text
            WHEN 'TYPE' THEN to_regtype(object)::text
            WHEN 'SCHEMA' THEN to_regnamespace(object)::text
        END AS object
    FROM jsonb_to_recordset(%(grants)s) AS recorded (
        kind text, object text, part text, grantee text, privileges text, grantable boolean
    )
) AS now
WHERE
    object IS NOT NULL
    AND (grantee IS NULL OR to_regrole(quote_ident(grantee)) IS NOT NULL)
    AND (
        part IS NULL
        OR EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = to_regclass(object) AND attname = part AND NOT attisdropped
        )
    )
