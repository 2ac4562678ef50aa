-- The extensions, but for plpgsql, and whether anything that people made depends on one: an index on its operator class,
-- a column of its type.
WITH member AS (
    SELECT classid, objid, refobjid AS extension
    FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
)
SELECT
    extname, extnamespace::regnamespace::text,
    EXISTS (
        SELECT FROM member
        JOIN pg_depend AS use ON use.refclassid = member.classid AND use.refobjid = member.objid AND use.deptype = 'n'
        WHERE
            member.extension = pg_extension.oid
            -- Neither a member of one itself nor a part of a member, such as a view's rule or a type's constraint.
            AND (use.classid, use.objid) NOT IN (SELECT classid, objid FROM member)
            AND NOT EXISTS (
                SELECT FROM pg_depend AS whole
                WHERE whole.classid = use.classid AND whole.objid = use.objid AND whole.deptype IN ('i', 'a')
                    AND (whole.refclassid, whole.refobjid) IN (SELECT classid, objid FROM member)
            )
    )
FROM pg_extension
WHERE extname <> 'plpgsql'
ORDER BY extname
