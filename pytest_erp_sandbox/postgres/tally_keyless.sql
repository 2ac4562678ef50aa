SELECT {oid}::oid, removed, 0::bigint, restored, (removed, restored) IS DISTINCT FROM (to_remove, to_restore)
FROM (SELECT count(*) FROM removed_{oid}) AS a (removed),
    (SELECT count(*) FROM restored_{oid}) AS b (restored),
    (SELECT coalesce(sum(net) FILTER (WHERE net > 0), 0)::bigint,
        coalesce(-sum(net) FILTER (WHERE net < 0), 0)::bigint
    FROM touched_{oid}) AS c (to_remove, to_restore)
