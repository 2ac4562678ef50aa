-- What to do with each key: its lines of the journal add up to whether its row has come (1) or gone (-1); where they
-- cancel out (0), it is there if it was. The first of the old images is what it was.
plan_{oid} AS MATERIALIZED (
    SELECT {k}, sum(CASE WHEN is_new THEN 1 ELSE -1 END) AS net,
        (array_agg(place) FILTER (WHERE NOT is_new))[1] AS place
    FROM (
        SELECT {k_values}, entry.is_new, entry.ctid AS place FROM {journal} WHERE {is_ours} ORDER BY {k}, entry.call
    ) AS line GROUP BY {k}
-- In this order: what is removed makes room for unique values.
), removed_{oid} AS (
    DELETE FROM {name} AS t USING plan_{oid} AS plan
    WHERE {match} AND (plan.net = 1 OR plan.net = 0 AND {replace}) RETURNING plan.net, plan.place
), changed_{oid} AS (
    UPDATE {name} AS t SET {assignments} FROM plan_{oid} AS plan {images}
    WHERE {match} AND plan.net = 0 AND NOT {replace} AND (SELECT count(*) FROM removed_{oid}) >= 0 RETURNING 1
), restored_{oid} AS (
    INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {old_columns} FROM (
        SELECT place FROM plan_{oid} WHERE net = -1 UNION ALL SELECT place FROM removed_{oid} WHERE net = 0
    ) AS plan {images}
    WHERE (SELECT count(*) FROM removed_{oid}) >= 0 AND (SELECT count(*) FROM changed_{oid}) >= 0 RETURNING 1
)
