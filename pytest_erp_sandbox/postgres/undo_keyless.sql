-- Without a key, rows are what they read as: so many copies are to go, so many to come.
touched_{oid} AS MATERIALIZED (
    SELECT entry.image, sum(CASE WHEN entry.is_new THEN 1 ELSE -1 END) AS net
    FROM {journal} WHERE {is_ours} GROUP BY entry.image HAVING sum(CASE WHEN entry.is_new THEN 1 ELSE -1 END) <> 0
), surplus_{oid} AS MATERIALIZED (
    SELECT t.ctid AS place, row_number() OVER (PARTITION BY touched.image) AS copy, touched.net
    FROM touched_{oid} AS touched JOIN {name} AS t ON CAST(t.* AS text) = touched.image WHERE touched.net > 0
), removed_{oid} AS (
    DELETE FROM {name} AS t USING surplus_{oid} AS surplus
    WHERE t.ctid = surplus.place AND surplus.copy <= surplus.net RETURNING 1
), restored_{oid} AS (
    INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {old_columns} FROM touched_{oid} AS touched
        CROSS JOIN LATERAL generate_series(1, -touched.net)
        CROSS JOIN LATERAL (SELECT touched.image::{name} AS image OFFSET 0) AS old
    WHERE touched.net < 0 AND (SELECT count(*) FROM removed_{oid}) >= 0 RETURNING 1
)
