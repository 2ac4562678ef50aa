-- What the provisioner leaves in each database: a pooler's way of looking up passwords (pgbouncer's auth_query).
CREATE FUNCTION public.user_lookup(i_username text, OUT uname text, OUT phash text) RETURNS record
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS $$ SELECT usename::text, passwd FROM pg_shadow WHERE usename = i_username $$;
REVOKE ALL ON FUNCTION public.user_lookup(text) FROM PUBLIC;
