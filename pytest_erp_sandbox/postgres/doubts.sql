-- Keys that were written more than once within one statement of a client's, not all of it by the statement itself:
-- which of the old images is the oldest is not known.
SELECT count(*) FROM (
    SELECT {k_values} FROM {journal} JOIN erp_sandbox_journal.calls ON calls.id = entry.call
    WHERE {is_ours} AND NOT entry.is_new
    GROUP BY {k}, calls.sent HAVING count(*) > 1 AND bool_or(calls.nested)
) AS doubtful
