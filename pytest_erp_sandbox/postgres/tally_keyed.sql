SELECT {oid}::oid, removed, changed, restored,
    wrong > 0 OR (removed, changed, restored) IS DISTINCT FROM (to_remove, to_change, to_restore)
FROM (SELECT count(*) FROM removed_{oid}) AS a (removed),
    (SELECT count(*) FROM changed_{oid}) AS b (changed),
    (SELECT count(*) FROM restored_{oid}) AS c (restored),
    (SELECT count(*) FILTER (WHERE is_there AND (was_there = 0 OR {replace})),
        count(*) FILTER (WHERE is_there AND was_there = 1 AND NOT {replace}),
        count(*) FILTER (WHERE was_there = 1 AND (NOT is_there OR {replace})),
        count(*) FILTER (WHERE was_there NOT IN (0, 1) OR was_there = 1 AND place IS NULL OR {is_lost})
    FROM plan_{oid}) AS d (to_remove, to_change, to_restore, wrong)
