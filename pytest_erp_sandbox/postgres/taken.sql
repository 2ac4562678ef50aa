-- What DROP OWNED BY a role CASCADE takes in this database, as nodes of pg_depend: the start of a query that reads
-- from "taken". Parameter: role.
WITH RECURSIVE goes_with AS MATERIALIZED (
    -- Each step joins all of it: some thousand look-ups in pg_depend took half as long again.
    -- Whatever depends on it: of all of it when it goes as a whole, of a column when only that goes.
    SELECT refclassid, refobjid, refobjsubid, true AS of_its_parts_too, classid, objid, objsubid
    FROM pg_depend
  UNION ALL
    -- Whatever it is a part of, which cannot stay without it: a rule's view, an extension's member.
    SELECT classid, objid, objsubid, false, refclassid, refobjid, refobjsubid
    FROM pg_depend
    WHERE deptype IN ('i', 'e')
), taken AS (
    -- The role's own objects; and policies that name it, on whoever's table.
    SELECT classid, objid, objsubid
    FROM pg_shdepend
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND refclassid = 'pg_authid'::regclass
      AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %(role)s)
      AND deptype IN ('o', 'r')
  UNION
    SELECT next.classid, next.objid, next.objsubid
    FROM taken
    JOIN goes_with AS next ON next.refclassid = taken.classid AND next.refobjid = taken.objid
      AND (next.refobjsubid = taken.objsubid OR taken.objsubid = 0 AND next.of_its_parts_too)
)
