#variable_conflict use_column
BEGIN
    WITH {undo} {tally} INTO relation, removed, changed, restored, is_wrong;
EXCEPTION WHEN unique_violation OR exclusion_violation THEN
    WITH {replacing_undo} {replacing_tally} INTO relation, removed, changed, restored, is_wrong;
END
