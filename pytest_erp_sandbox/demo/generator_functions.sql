-- Dolibarr's helpers for SQL that was written for MySQL, by name and signature. A blank line parts the statements.

CREATE FUNCTION unix_timestamp(timestamp without time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT
    AS $$ SELECT extract(epoch FROM $1)::bigint $$;

CREATE FUNCTION unix_timestamp(timestamp with time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT
    AS $$ SELECT extract(epoch FROM $1)::bigint $$;

CREATE FUNCTION date_format(timestamp without time zone, text) RETURNS text
    LANGUAGE sql STABLE STRICT
    AS $$ SELECT to_char($1, replace(replace(replace($2, '%Y', 'YYYY'), '%m', 'MM'), '%d', 'DD')) $$;

CREATE FUNCTION year(timestamp without time zone) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT extract(year FROM $1)::integer $$;

CREATE FUNCTION year(timestamp with time zone) RETURNS integer
    LANGUAGE sql STABLE STRICT AS $$ SELECT extract(year FROM $1)::integer $$;

CREATE FUNCTION year(date) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT extract(year FROM $1)::integer $$;

CREATE FUNCTION month(timestamp without time zone) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT extract(month FROM $1)::integer $$;

CREATE FUNCTION month(timestamp with time zone) RETURNS integer
    LANGUAGE sql STABLE STRICT AS $$ SELECT extract(month FROM $1)::integer $$;

CREATE FUNCTION month(date) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT extract(month FROM $1)::integer $$;

CREATE FUNCTION day(timestamp without time zone) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT extract(day FROM $1)::integer $$;

CREATE FUNCTION day(timestamp with time zone) RETURNS integer
    LANGUAGE sql STABLE STRICT AS $$ SELECT extract(day FROM $1)::integer $$;

CREATE FUNCTION day(date) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT extract(day FROM $1)::integer $$;

CREATE FUNCTION update_modified_column_date_m() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN NEW.date_m := now(); RETURN NEW; END $$;

CREATE FUNCTION dol_util_rebuild_sequences() RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    owned record;
    rebuilt integer := 0;
BEGIN
    FOR owned IN
        SELECT pg_get_serial_sequence(quote_ident(table_name), column_name) AS sequence, table_name, column_name
        FROM information_schema.columns
        WHERE table_schema = current_schema() AND column_default LIKE 'nextval(%'
    LOOP
        EXECUTE format('SELECT setval(%L, coalesce(max(%I), 0) + 1, false) FROM %I',
            owned.sequence, owned.column_name, owned.table_name);
        rebuilt := rebuilt + 1;
    END LOOP;
    RETURN rebuilt;
END $$;

CREATE FUNCTION dol_util_triggerall(doenable boolean) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    changed text;
    tables integer := 0;
BEGIN
    FOR changed IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'llx\_%'
    LOOP
        EXECUTE format('ALTER TABLE %I %s TRIGGER USER', changed, CASE WHEN doenable THEN 'ENABLE' ELSE 'DISABLE' END);
        tables := tables + 1;
    END LOOP;
    RETURN tables;
END $$;
