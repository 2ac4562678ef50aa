CREATE TRIGGER erp_sandbox_insert AFTER INSERT ON {name} REFERENCING NEW TABLE AS new_rows
    EXECUTE FUNCTION erp_sandbox_journal.{writer}();
CREATE TRIGGER erp_sandbox_update AFTER UPDATE ON {name} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    EXECUTE FUNCTION erp_sandbox_journal.{writer}();
CREATE TRIGGER erp_sandbox_delete AFTER DELETE ON {name} REFERENCING OLD TABLE AS old_rows
    EXECUTE FUNCTION erp_sandbox_journal.{writer}();
ALTER TABLE {name} ENABLE ALWAYS TRIGGER erp_sandbox_insert, ENABLE ALWAYS TRIGGER erp_sandbox_update,
    ENABLE ALWAYS TRIGGER erp_sandbox_delete
