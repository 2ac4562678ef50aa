CREATE FUNCTION erp_sandbox_journal.undo_{oid}(
    anew boolean,
    OUT relation oid, OUT removed bigint, OUT changed bigint, OUT restored bigint, OUT is_wrong boolean
) LANGUAGE plpgsql AS {body}
