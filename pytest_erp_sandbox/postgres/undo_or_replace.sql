#variable_conflict use_column
BEGIN
    IF NOT anew THEN
        BEGIN
            WITH {undo} {tally} INTO relation, removed, changed, restored, is_wrong;
            RETURN;
        EXCEPTION WHEN unique_violation OR exclusion_violation THEN
            -- Values that are unique were swapped.
        END;
    END IF;
    WITH {replacing_undo} {replacing_tally} INTO relation, removed, changed, restored, is_wrong;
END
