CREATE TRIGGER erp_sandbox_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows
    EXECUTE FUNCTION erp_sandbox_journal.{writer}();
CREATE TRIGGER erp_sandbox_update AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    EXECUTE FUNCTION erp_sandbox_journal.{writer}();
CREATE TRIGGER erp_sandbox_delete AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows
    EXECUTE FUNCTION erp_sandbox_journal.{writer}();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER erp_sandbox_insert, ENABLE ALWAYS TRIGGER erp_sandbox_update,
    ENABLE ALWAYS TRIGGER erp_sandbox_delete
