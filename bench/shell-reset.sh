#!/bin/sh
# What this plugin replaces, and is measured against: the shell script's way of putting a sandbox back.
#
#   shell-reset.sh BIN ROLE LIST DUMP
#
#   BIN   the folder of psql and pg_restore, of the server's own major version
#   ROLE  the role that owns the sandbox database and everything in it
#   LIST  the entries to restore, as `pg_restore --list` writes them
#   DUMP  a dump of prod, custom format
#
# The sandbox is where libpq's variables (PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD) lead.
set -eu
bin=$1 role=$2 list=$3 dump=$4

PGOPTIONS='-c client_min_messages=error' "$bin/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set="role=$role" <<'SQL'
DROP OWNED BY :"role" CASCADE;
SQL
"$bin/pg_restore" --no-owner --role="$role" --use-list="$list" --dbname="$PGDATABASE" "$dump"
