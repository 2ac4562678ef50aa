SELECT {oid}::oid, removed, changed + replaced, restored - replaced,
    wrong > 0 OR (removed, restored - replaced) IS DISTINCT FROM (to_remove, to_restore)
FROM (SELECT count(*) FILTER (WHERE net = 1), count(*) FILTER (WHERE net = 0) FROM removed_{oid}) AS a (removed, replaced),
    (SELECT count(*) FROM changed_{oid}) AS b (changed),
    (SELECT count(*) FROM restored_{oid}) AS c (restored),
    (SELECT count(*) FILTER (WHERE net = 1), count(*) FILTER (WHERE net = -1),
        count(*) FILTER (WHERE net NOT IN (-1, 0, 1) OR {is_lost})
    FROM plan_{oid}) AS d (to_remove, to_restore, wrong)
