CREATE TRIGGER erp_sandbox_mark AFTER INSERT OR UPDATE OR DELETE ON {table}
    EXECUTE FUNCTION erp_sandbox_journal.mark();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER erp_sandbox_mark
