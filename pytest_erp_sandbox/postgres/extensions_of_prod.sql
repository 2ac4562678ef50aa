-- The extensions, but for plpgsql, and whether anything that people made depends on one: an index on its operator class,
-- a column of its type.
SELECT
    extname, extnamespace::regnamespace::text,
    EXISTS (
        SELECT FROM pg_depend AS member
        JOIN pg_depend AS use ON use.refclassid = member.classid AND use.refobjid = member.objid
        WHERE
            member.refclassid = 'pg_extension'::regclass AND member.refobjid = pg_extension.oid AND member.deptype = 'e'
            -- Not a part of the member itself, such as a type's array type, nor of any extension.
            AND use.deptype NOT IN ('e', 'i')
            AND NOT EXISTS (
                SELECT FROM pg_depend AS own
                WHERE own.classid = use.classid AND own.objid = use.objid AND own.deptype IN ('e', 'i')
                    AND own.refclassid IN ('pg_extension'::regclass, 'pg_opfamily'::regclass)
            )
    )
FROM pg_extension
WHERE extname <> 'plpgsql'
ORDER BY extname
