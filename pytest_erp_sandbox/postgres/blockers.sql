-- Sessions that hold locks on objects that are not the system's, or have written something that is not committed; and
-- transactions that are prepared, and no session's. Parameter: mode (NULL: any).
WITH held AS (
    SELECT
        pid, virtualtransaction,
        array_remove(array_agg(DISTINCT relation::regclass::text) FILTER (WHERE relkind IN ('r', 'p')), NULL) AS tables
    FROM pg_locks LEFT JOIN pg_class ON pg_class.oid = relation
    WHERE granted
      AND CASE
        WHEN %(mode)s::text IS NOT NULL THEN locktype = 'relation' AND relation >= 16384 AND mode = %(mode)s
        ELSE relation >= 16384 OR objid >= 16384 AND locktype = 'object' OR locktype = 'transactionid'
      END
      AND (database IS NULL OR database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
    GROUP BY pid, virtualtransaction
), found AS (
    SELECT pid, usename AS login, application_name, state, xact_start AS since, tables, NULL AS gid
    FROM held JOIN pg_stat_activity USING (pid)
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    UNION ALL
    SELECT NULL, owner, NULL, NULL, prepared, tables, quote_literal(gid)
    FROM held JOIN pg_locks AS own USING (virtualtransaction) JOIN pg_prepared_xacts ON transaction = transactionid
    WHERE pg_prepared_xacts.database = current_database() AND held.pid IS NULL AND own.pid IS NULL
)
SELECT
    pid, login, application_name, state, date_trunc('second', now() - since),
    CASE WHEN cardinality(tables) > 3 THEN format('%%s tables', cardinality(tables)) ELSE array_to_string(tables, ', ') END,
    gid
FROM found ORDER BY pid, gid
