-- One line for each row that has gone or come.
WITH touched AS (
    SELECT entry.image, sum(CASE WHEN entry.is_new THEN 1 ELSE -1 END) AS net
    FROM {journal} WHERE {is_ours} GROUP BY entry.image HAVING sum(CASE WHEN entry.is_new THEN 1 ELSE -1 END) <> 0
)
SELECT row_number() OVER (ORDER BY touched.image), touched.net > 0, {old_columns}
FROM touched CROSS JOIN LATERAL generate_series(1, abs(touched.net))
    CROSS JOIN LATERAL (SELECT touched.image::{name} AS image OFFSET 0) AS old
ORDER BY 1
