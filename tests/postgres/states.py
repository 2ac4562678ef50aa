"""What a database holds, read by other code than the rewind's: to compare before with after."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

__all__ = ["state"]

Connection = psycopg.Connection[tuple[Any, ...]]

_CATALOGUE = {
    "relations": "SELECT oid::regclass::text, relkind, relowner, relhasrules, relrowsecurity, relforcerowsecurity,"
    " relacl::text, reloptions, relfilenode, obj_description(oid, 'pg_class')",
    "columns": "SELECT attrelid::regclass::text, attname, attnum, atttypid, atttypmod, attnotnull, attstorage,"
    " attstattarget, attidentity, attgenerated, attisdropped, attacl::text, pg_get_expr(adbin, adrelid)",
    "constraints": "SELECT conname, conrelid::regclass::text, condeferrable, condeferred, convalidated,"
    " pg_get_constraintdef(oid)",
    "triggers": "SELECT tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid)",
    "functions": "SELECT oid::regprocedure::text, prosrc, prosecdef, proconfig",
    "types": "SELECT oid::regtype::text, typtype",
    "labels": "SELECT enumtypid::regtype::text, enumlabel, enumsortorder",
    "rules": "SELECT ev_class::regclass::text, rulename, pg_get_ruledef(oid)",
}
_FROM = {
    "relations": "FROM pg_class WHERE relpersistence <> 't' AND relnamespace IN",
    "columns": "FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
    " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE relpersistence <> 't' AND relnamespace IN",
    "constraints": "FROM pg_constraint WHERE connamespace IN",
    "triggers": "FROM pg_trigger WHERE tgfoid NOT IN (SELECT oid FROM pg_proc WHERE pronamespace ="
    " to_regnamespace('erp_sandbox_journal')) AND NOT tgisinternal AND (SELECT relnamespace FROM pg_class"
    " WHERE oid = tgrelid) IN",
    "functions": "FROM pg_proc WHERE pronamespace IN",
    "types": "FROM pg_type WHERE typnamespace IN",
    "labels": "FROM pg_enum WHERE (SELECT typnamespace FROM pg_type WHERE oid = enumtypid) IN",
    "rules": "FROM pg_rewrite WHERE (SELECT relnamespace FROM pg_class WHERE oid = ev_class) IN",
}
_SCHEMAS = (
    "(SELECT oid FROM pg_namespace WHERE nspname NOT IN ('erp_sandbox_journal', 'pg_catalog', 'information_schema',"
    " 'pg_toast') AND nspname !~ '^pg_(toast_)?temp_')"
)


def state(connection: Connection) -> dict[str, list[Any]]:
    """Every table's rows, every sequence, and the catalogue; as a superuser, to whom nothing is hidden."""
    with connection.transaction():
        connection.execute("SET LOCAL datestyle = 'ISO'; SET LOCAL extra_float_digits = 3; SET LOCAL timezone = 'UTC'")
        connection.execute("SET LOCAL search_path = pg_catalog")
        found = {
            name: connection.execute(f"{what} {_FROM[name]} {_SCHEMAS} ORDER BY 1, 2".encode()).fetchall()
            for name, what in _CATALOGUE.items()
        }
        for schema, name, kind in connection.execute(
            "SELECT nspname, relname, relkind FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            f" WHERE relkind IN ('r', 'm', 'S') AND relpersistence <> 't' AND relnamespace IN {_SCHEMAS}".encode()
        ).fetchall():
            what = sql.SQL("last_value, is_called" if kind == "S" else "CAST(t.* AS text)")
            query = sql.SQL("SELECT {} FROM ONLY {} AS t").format(what, sql.Identifier(schema, name))
            found[f"{schema}.{name}"] = sorted(connection.execute(query).fetchall())
    return found
