#!/bin/sh
# A dynamic login of Vault's for prod's dump: made for each lease, read-only, gone when the lease ends.
#
# Once, as a superuser in prod's database, where vault is Vault's own login there (CREATEROLE, and no superuser):
#
#   psql -d erp -v owner=erp_role -v admin=vault -f deploy/dump-role.sql
#
# Vault's database secrets engine must know prod: vault write database/config/erp plugin_name=postgresql-database-plugin ...
# Then, in this folder, as somebody whom Vault lets write its roles:
set -eu
cd "$(dirname "$0")"
# A dump's connections are opened while the lease runs, and go on after it: an hour is enough for the largest.
vault write database/roles/erp-dump \
    db_name="${1:-erp}" \
    default_ttl=1h \
    max_ttl=4h \
    creation_statements=@creation.sql \
    revocation_statements=@revocation.sql
# Whoever refreshes needs no more than this policy.
vault policy write erp-dump - <<POLICY
path "database/creds/erp-dump" { capabilities = ["read"] }
POLICY
