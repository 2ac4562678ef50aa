#variable_conflict use_column
BEGIN
    WITH {undo} {tally} INTO relation, removed, changed, restored, is_wrong;
END
