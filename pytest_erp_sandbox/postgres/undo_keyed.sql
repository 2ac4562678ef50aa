-- What to do with each key: its lines of the journal add up to whether its row has come or gone, and the first of the
-- old images is what it was.
touched_{oid} AS MATERIALIZED (
    SELECT {k_values}, sum(CASE WHEN entry.is_new THEN 1 ELSE -1 END) AS net,
        (array_agg(entry.ctid ORDER BY entry.call) FILTER (WHERE NOT entry.is_new))[1] AS place
    FROM {journal} WHERE {is_ours} GROUP BY {k}
), plan_{oid} AS MATERIALIZED (
    SELECT plan.*, t.ctid AS spot, {is_there} AS is_there, ({is_there})::int - plan.net AS was_there
    FROM touched_{oid} AS plan LEFT JOIN {name} AS t ON {match}
-- In this order: what is removed makes room for unique values.
), removed_{oid} AS (
    DELETE FROM {name} AS t USING plan_{oid} AS plan
    WHERE {again} AND plan.is_there AND (plan.was_there = 0 OR {replace}) RETURNING 1
), changed_{oid} AS (
    UPDATE {name} AS t SET {assignments} FROM plan_{oid} AS plan {images}
    WHERE {again} AND plan.is_there AND plan.was_there = 1 AND NOT {replace}
        AND (SELECT count(*) FROM removed_{oid}) >= 0 RETURNING 1
), restored_{oid} AS (
    INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {old_columns} FROM plan_{oid} AS plan {images}
    WHERE plan.was_there = 1 AND (NOT plan.is_there OR {replace})
        AND (SELECT count(*) FROM removed_{oid}) >= 0 AND (SELECT count(*) FROM changed_{oid}) >= 0 RETURNING 1
)
