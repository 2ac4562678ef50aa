-- A table that is rewritten may have columns of other types than its own journal.
    IF pg_relation_filenode(TG_RELID) <> {filenode} THEN
        INSERT INTO erp_sandbox_journal.calls
        VALUES (erp_sandbox.call, erp_sandbox.relation, 'X', false, statement_timestamp(), 0);
        RETURN NULL;
    END IF;
