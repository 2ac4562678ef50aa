-- What DROP OWNED BY a role CASCADE takes in this database, as nodes of pg_depend: the start of a query that reads
-- from "taken". Parameter: role.
WITH RECURSIVE taken AS (
    -- The role's own objects; and policies that name it, on whoever's table.
    SELECT classid, objid, objsubid
    FROM pg_shdepend
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND refclassid = 'pg_authid'::regclass
      AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %(role)s)
      AND deptype IN ('o', 'r')
  UNION
    SELECT next.*
    FROM taken,
    LATERAL (
        -- Whatever depends on it: of all of it when it goes as a whole, of a column when only that goes.
        SELECT d.classid, d.objid, d.objsubid
        FROM pg_depend d
        WHERE d.refclassid = taken.classid
          AND d.refobjid = taken.objid
          AND (taken.objsubid = 0 OR d.refobjsubid = taken.objsubid)
      UNION ALL
        -- Whatever it is a part of, which cannot stay without it: a rule's view, an extension's member.
        SELECT d.refclassid, d.refobjid, d.refobjsubid
        FROM pg_depend d
        WHERE d.classid = taken.classid
          AND d.objid = taken.objid
          AND d.objsubid = taken.objsubid
          AND d.deptype IN ('i', 'e')
    ) AS next
)
