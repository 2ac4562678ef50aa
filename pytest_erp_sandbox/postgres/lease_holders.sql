-- The sessions that hold the lease on the connected database. Parameter: key.
SELECT
    pid,
    format('pid %%s, login %%s, %%s, since %%s', pid, usename, application_name, date_trunc('second', backend_start))
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE
    locktype = 'advisory' AND granted AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = %(key)s
