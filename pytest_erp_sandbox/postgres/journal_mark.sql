CREATE TRIGGER erp_sandbox_mark AFTER INSERT OR UPDATE OR DELETE ON {name}
    EXECUTE FUNCTION erp_sandbox_journal.mark();
ALTER TABLE {name} ENABLE ALWAYS TRIGGER erp_sandbox_mark
