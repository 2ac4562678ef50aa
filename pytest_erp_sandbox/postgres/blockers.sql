-- Sessions that hold locks on objects that are not the system's, or have written something that is not committed.
-- Parameter: mode (NULL: any).
SELECT
    pid, usename, application_name, state, date_trunc('second', now() - xact_start),
    CASE WHEN cardinality(tables) > 3 THEN format('%%s tables', cardinality(tables)) ELSE array_to_string(tables, ', ') END
FROM pg_stat_activity
JOIN LATERAL (
    SELECT
        count(*) AS locks,
        array_remove(array_agg(DISTINCT relation::regclass::text) FILTER (WHERE relkind IN ('r', 'p')), NULL) AS tables
    FROM pg_locks LEFT JOIN pg_class ON pg_class.oid = relation
    WHERE pg_locks.pid = pg_stat_activity.pid AND granted
      AND CASE
        WHEN %(mode)s::text IS NOT NULL THEN locktype = 'relation' AND relation >= 16384 AND mode = %(mode)s
        ELSE relation >= 16384 OR objid >= 16384 AND locktype = 'object' OR locktype = 'transactionid'
      END
      AND (database IS NULL OR database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
) AS held ON locks > 0
WHERE datname = current_database() AND pid <> pg_backend_pid()
ORDER BY pid
