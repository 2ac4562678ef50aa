#variable_conflict use_column
<<erp_sandbox>>
DECLARE
    call bigint;
    stack text;
    relation oid := TG_RELID;
    is_affected boolean;
    lines bigint := 0;
BEGIN
    IF current_setting('erp_sandbox.rewinding', true) = pg_current_xact_id_if_assigned()::text THEN
        -- Below another trigger it is not one of the undo's own statements, but what a user's trigger made of one: of a
        -- table that a foreign key acts upon, and in which there is nothing to undo.
        IF pg_trigger_depth() > 1 THEN
            IF TG_OP = 'INSERT' THEN
                is_affected := EXISTS (SELECT FROM new_rows);
            ELSE
                is_affected := EXISTS (SELECT FROM old_rows);
            END IF;
            IF is_affected THEN
                RAISE EXCEPTION USING ERRCODE = 'ES001',
                    MESSAGE = format('undoing set off further changes in %s', erp_sandbox.relation::regclass);
            END IF;
        END IF;
        RETURN NULL;
    END IF;
    call := nextval('erp_sandbox_journal.call_ids');
    {guard}
    IF TG_OP = 'UPDATE' THEN
        {both_rows};
    ELSIF TG_OP = 'INSERT' THEN
        {new_rows};
    ELSE
        {old_rows};
    END IF;
    GET DIAGNOSTICS lines = ROW_COUNT;
    IF erp_sandbox.lines > 0 THEN
        GET DIAGNOSTICS stack = PG_CONTEXT;
        INSERT INTO erp_sandbox_journal.calls
        VALUES (erp_sandbox.call, erp_sandbox.relation, left(TG_OP, 1)::"char", strpos(stack, chr(10)) > 0,
            statement_timestamp(), erp_sandbox.lines);
    END IF;
    RETURN NULL;
END
