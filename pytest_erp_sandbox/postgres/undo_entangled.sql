UPDATE erp_sandbox_journal.tables
SET undo = {undo}, tally = {tally}, replacing_undo = {replacing_undo}, replacing_tally = {replacing_tally}
WHERE relation = {oid}
