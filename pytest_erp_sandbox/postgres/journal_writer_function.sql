CREATE FUNCTION erp_sandbox_journal.{writer}() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp{settings} AS {body}
