-- What people would call an object, of everything in "taken" (taken.sql): parts that come and go with their whole are
-- left out (a view's rule, a row type, an index behind a constraint, an extension's member). Parameters: role, and the
-- schemas whose objects are left out where they are the role's, for finding thousands of names takes time.
, holder (classid, objid, owner, namespace) AS (
    -- pg_shdepend does not know what the bootstrap superuser owns: the catalogs do.
    SELECT 'pg_class'::regclass::oid, oid, relowner, relnamespace FROM pg_class
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, pronamespace FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, typowner, typnamespace FROM pg_type
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner, oprnamespace FROM pg_operator
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner, opcnamespace FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner, opfnamespace FROM pg_opfamily
    UNION ALL SELECT 'pg_collation'::regclass, oid, collowner, collnamespace FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner, connamespace FROM pg_conversion
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner, stxnamespace FROM pg_statistic_ext
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner, cfgnamespace FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner, dictnamespace FROM pg_ts_dict
    UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, NULL FROM pg_namespace
    UNION ALL SELECT 'pg_extension'::regclass, oid, extowner, NULL FROM pg_extension
    UNION ALL SELECT 'pg_language'::regclass, oid, lanowner, NULL FROM pg_language
    UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner, NULL FROM pg_publication
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid, evtowner, NULL FROM pg_event_trigger
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwowner, NULL FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner, NULL FROM pg_foreign_server
    UNION ALL SELECT 'pg_user_mapping'::regclass, umid, NULLIF(umuser, 0), NULL FROM pg_user_mappings
    UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner, NULL FROM pg_largeobject_metadata
    UNION ALL SELECT 'pg_default_acl'::regclass, oid, defaclrole, NULLIF(defaclnamespace, 0) FROM pg_default_acl
    -- Parts of a table, or of a publication, have its owner.
    UNION ALL
    SELECT part.classid, part.objid, c.relowner, c.relnamespace
    FROM (
        SELECT 'pg_constraint'::regclass, oid, conrelid FROM pg_constraint
        UNION ALL SELECT 'pg_trigger'::regclass, oid, tgrelid FROM pg_trigger
        UNION ALL SELECT 'pg_rewrite'::regclass, oid, ev_class FROM pg_rewrite
        UNION ALL SELECT 'pg_policy'::regclass, oid, polrelid FROM pg_policy
        UNION ALL SELECT 'pg_attrdef'::regclass, oid, adrelid FROM pg_attrdef
    ) AS part (classid, objid, relid)
    JOIN pg_class c ON c.oid = part.relid
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid, t.typowner, t.typnamespace
    FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid
    UNION ALL
    SELECT member.classid, member.objid, p.pubowner, NULL
    FROM (
        SELECT 'pg_publication_rel'::regclass, oid, prpubid FROM pg_publication_rel
        UNION ALL SELECT 'pg_publication_namespace'::regclass, oid, pnpubid FROM pg_publication_namespace
    ) AS member (classid, objid, pubid)
    JOIN pg_publication p ON p.oid = member.pubid
)
SELECT
    identified.type,
    quote_ident(n.nspname),
    CASE
        -- Of a publication's member, the publication is what people know.
        WHEN identified.type LIKE 'publication %%'
            THEN (SELECT object_args[1] FROM pg_identify_object_as_address(classid, objid, objsubid))
        ELSE replace(identified.identity, 'pg_catalog.', '')
    END,
    COALESCE(pg_get_userbyid(holder.owner), '')
FROM taken
LEFT JOIN holder USING (classid, objid)
LEFT JOIN pg_namespace n ON n.oid = holder.namespace
CROSS JOIN LATERAL pg_identify_object(classid, objid, objsubid) AS identified
WHERE
    NOT COALESCE(n.nspname = ANY (%(but_own_in)s::name[]) AND pg_get_userbyid(holder.owner) = %(role)s, FALSE)
    AND NOT EXISTS (
        SELECT FROM pg_depend part
        WHERE part.classid = taken.classid AND part.objid = taken.objid AND part.objsubid = taken.objsubid
          AND (
              part.deptype IN ('i', 'e')
              OR part.refclassid = 'pg_opfamily'::regclass AND (part.refclassid, part.refobjid, 0) IN (SELECT * FROM taken)
          )
    )
    -- A column of a table that goes anyway.
    AND NOT (objsubid <> 0 AND (classid, objid, 0) IN (SELECT * FROM taken))
    AND NOT (
        classid = 'pg_constraint'::regclass
        AND EXISTS (SELECT FROM pg_constraint WHERE oid = objid AND contype = 'n')
    )
    -- What other sessions hold for themselves, and what tables keep beside them.
    AND COALESCE(n.nspname, '') !~ '^pg_(temp|toast)'
ORDER BY n.nspname NULLS FIRST, identified.type, identified.identity
