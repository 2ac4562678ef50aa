-- A role that can read prod, for pg_dump, and change nothing: neither by mistake nor on purpose.
--
--   psql -d erp -v owner=erp_role -f dump-role.sql
--
-- Run it in prod's database, as a superuser, or as a role that may create roles and is a member of the owner.
-- It can be run again, for instance with another owner. Variables (-v name=value):
--
--   owner      who owns prod's tables, now and in future; needed
--   role       the role to make; erp_dump
--   login      a login to make, which begins each session as that role; none
--   bypassrls  on: it reads the rows of tables with row level security, too; needs a superuser; off
--   admin      who makes logins for the role, such as Vault's own login (deploy/vault); nobody
--
-- A login has no password until it is given one, which no command line should show: psql -d erp -c '\password erp_dumper'
--
-- What protects prod is that this role owns nothing and has no privilege but SELECT. Its logins are read-only by a
-- setting besides (default_transaction_read_only): that guards against mistakes, and any client can switch it off.
--
-- Row level security: pg_dump says "SET row_security = off", with which the server refuses to read a table that would
-- show only some of its rows; a policy for the dump role, even USING (true), does not change that, and with pg_dump's
-- --enable-row-security a dump may lack rows without a word. So a role that dumps such tables needs BYPASSRLS. It lets
-- the role read rows, not write any.

\set ON_ERROR_STOP on
\set QUIET on

\if :{?owner}
\else
    -- Not \quit, which would say that all is well.
    DO $$ BEGIN RAISE EXCEPTION 'which role owns the tables? Say -v owner=...'; END $$;
\endif
\if :{?role}
\else
    \set role erp_dump
\endif
\if :{?bypassrls}
\else
    \set bypassrls off
\endif

BEGIN;
SET LOCAL client_min_messages = warning;

SELECT format('CREATE ROLE %I NOLOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role')
\gexec
\if :bypassrls
    ALTER ROLE :"role" BYPASSRLS;
\endif

GRANT CONNECT ON DATABASE :"DBNAME" TO :"role";
GRANT USAGE ON SCHEMA public TO :"role";
GRANT SELECT ON ALL TABLES IN SCHEMA public TO :"role";
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO :"role";
-- Tables that the owner makes later, when a module of the ERP is activated, for instance.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT ON TABLES TO :"role";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT ON SEQUENCES TO :"role";

\if :{?login}
    SELECT format('CREATE ROLE %I LOGIN', :'login')
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'login')
    \gexec
    GRANT :"role" TO :"login";
    -- Neither settings nor BYPASSRLS are inherited: the login begins as the role, and has the settings itself.
    ALTER ROLE :"login" SET role TO :'role';
    ALTER ROLE :"login" SET default_transaction_read_only TO on;
\endif
\if :{?admin}
    GRANT :"role" TO :"admin" WITH ADMIN OPTION;
\endif
COMMIT;

-- What this script leaves as it is, because others may depend on it.
SELECT
    has_schema_privilege(:'role', 'public', 'CREATE') AS may_create,
    EXISTS (SELECT FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace)
        AND NOT (SELECT rolbypassrls FROM pg_roles WHERE rolname = :'role') AS rows_hidden
\gset
\if :may_create
    \warn 'Everybody may create tables in schema public, this role too: REVOKE CREATE ON SCHEMA public FROM PUBLIC;'
\endif
\if :rows_hidden
    \warn 'There are tables with row level security, which pg_dump will refuse to read: say -v bypassrls=on'
\endif
