-- Two lines for a change, of which either may be missing: the row before, the row after.
WITH touched AS MATERIALIZED (
    SELECT {k_values}, sum(CASE WHEN entry.is_new THEN 1 ELSE -1 END) AS net,
        (array_agg(entry.ctid ORDER BY entry.call) FILTER (WHERE NOT entry.is_new))[1] AS place
    FROM {journal} WHERE {is_ours} GROUP BY {k}
), plan AS MATERIALIZED (
    SELECT plan.*, {is_there} AS is_there, ({is_there})::int - plan.net AS was_there
    FROM (SELECT *, row_number() OVER (ORDER BY {k}) AS number FROM touched) AS plan
    LEFT JOIN {name} AS t ON {match}
), same AS MATERIALIZED (
    SELECT plan.number FROM plan JOIN {name} AS t ON {match} {images}
    WHERE plan.was_there = 1 AND CAST(ROW({old_columns}) AS text) = CAST(ROW({t_columns}) AS text)
)
SELECT plan.number, false, {old_columns} FROM plan {images}
WHERE plan.was_there = 1 AND plan.number NOT IN (SELECT number FROM same)
UNION ALL
SELECT plan.number, true, {t_columns} FROM plan JOIN {name} AS t ON {match}
WHERE plan.is_there AND plan.number NOT IN (SELECT number FROM same)
ORDER BY 1, 2
