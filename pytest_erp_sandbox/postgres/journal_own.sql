CREATE TABLE {own} (call bigint NOT NULL, is_new boolean NOT NULL, {definitions})
    WITH (autovacuum_enabled = false);
ALTER TABLE {own} REPLICA IDENTITY FULL
