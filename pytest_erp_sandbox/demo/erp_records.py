"""What the demo's ERP does with all kinds of records alike: list, read, create, change, delete."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from .erp_access import ApiError, Caller

__all__ = ["Records", "Request", "as_json", "column_value"]

_DEFAULT_LIMIT = 100


@dataclass(frozen=True)
class Request:
    """An authenticated request.

    Attributes:
        argument: what its path names, an id or a login; empty where it names nothing.
        query: its query's parameters.
        body: its JSON object.
    """

    connection: psycopg.Connection[tuple[Any, ...]]
    caller: Caller
    argument: str
    query: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def id(self) -> int:
        """The id that the path names."""
        return int(self.argument)


@dataclass(frozen=True)
class Records:
    """A kind of record and its table.

    Attributes:
        noun: what messages call it.
        table: where it is stored.
        module: Dolibarr's module, whose rights are asked for.
        fields: the API's names of columns that requests may write.
        shown: the API's names of further columns.
        required: the fields without which none can be made.
        author: the column for who made it.
        used_in: a column elsewhere that keeps a record from being deleted.
    """

    noun: str
    table: str
    module: str
    fields: Mapping[str, str]
    shown: Mapping[str, str]
    required: tuple[str, ...] = ()
    author: str = "fk_user_author"
    used_in: Mapping[str, str] = field(default_factory=dict)

    def list_page(self, request: Request) -> list[dict[str, Any]]:
        """Answer ``GET``, a page of ``limit`` records from ``page`` (0, 1, …)."""
        request.caller.require(f"{self.module}.lire")
        if "sqlfilters" in request.query:
            raise ApiError(400, "the demo knows no sqlfilters")
        limit = _number(request.query, "limit", _DEFAULT_LIMIT)
        page = sql.SQL("{} WHERE entity = %s ORDER BY rowid LIMIT %s OFFSET %s").format(self._select())
        offset = limit * _number(request.query, "page", 0)
        with request.connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(page, [request.caller.entity, limit or None, offset]).fetchall()
        return [as_json(row) for row in rows]

    def get(self, request: Request) -> dict[str, Any]:
        """Answer ``GET …/{id}``."""
        request.caller.require(f"{self.module}.lire")
        return self.fetch(request)

    def post(self, request: Request, extra: Mapping[str, Any] = MappingProxyType({})) -> int:
        """Answer ``POST`` with the new record's id; ``extra`` columns come with those of the request."""
        request.caller.require(f"{self.module}.creer")
        for name in self.required:
            if request.body.get(name) in (None, ""):
                raise ApiError(400, f"{name} field missing")
        own = {"entity": request.caller.entity, self.author: request.caller.id, **extra}
        values = {**self._written(request.body), **own}
        statement = sql.SQL("INSERT INTO {} (datec, {}) VALUES (now(), {}) RETURNING rowid").format(
            sql.Identifier(self.table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join([sql.Placeholder()] * len(values)),
        )
        row = request.connection.execute(statement, list(values.values())).fetchone()
        assert row is not None
        return int(row[0])

    def put(self, request: Request) -> dict[str, Any]:
        """Answer ``PUT …/{id}`` with the changed record."""
        request.caller.require(f"{self.module}.creer")
        self.fetch(request)
        written = self._written(request.body)
        if written:
            changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in written)
            update = sql.SQL("UPDATE {} SET {} WHERE rowid = %s").format(sql.Identifier(self.table), changes)
            request.connection.execute(update, [*written.values(), request.id])
        return self.fetch(request)

    def delete(self, request: Request) -> dict[str, Any]:
        """Answer ``DELETE …/{id}``."""
        request.caller.require(f"{self.module}.supprimer")
        self.fetch(request)
        for table, column in self.used_in.items():
            used = sql.SQL("SELECT FROM {} WHERE {} = %s LIMIT 1").format(sql.Identifier(table), sql.Identifier(column))
            if request.connection.execute(used, [request.id]).fetchone() is not None:
                raise ApiError(409, f"Can't delete, that {self.noun.lower()} is probably used")
        remove = sql.SQL("DELETE FROM {} WHERE rowid = %s").format(sql.Identifier(self.table))
        request.connection.execute(remove, [request.id])
        return {"success": {"code": 200, "message": f"{self.noun} deleted"}}

    def fetch(self, request: Request) -> dict[str, Any]:
        """Read the record that the path names.

        Raises:
            ApiError: 404, there is none.
        """
        one = sql.SQL("{} WHERE entity = %s AND rowid = %s").format(self._select())
        with request.connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(one, [request.caller.entity, request.id]).fetchone()
        if row is None:
            raise ApiError(404, f"{self.noun} not found")
        return as_json(row)

    def _written(self, body: Mapping[str, Any]) -> dict[str, str | None]:
        # Like Dolibarr, pass over fields that are not known.
        return {self.fields[name]: column_value(name, value) for name, value in body.items() if name in self.fields}

    def _select(self) -> sql.Composed:
        columns = {"id": "rowid", **self.fields, **self.shown, "date_creation": "datec", "date_modification": "tms"}
        shown = [sql.SQL("{} AS {}").format(sql.Identifier(c), sql.Identifier(n)) for n, c in columns.items()]
        return sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(shown), sql.Identifier(self.table))


def column_value(name: str, value: object) -> str | None:
    """Give what a column is set to; PostgreSQL reads numbers from text.

    Raises:
        ApiError: 400, it is a list or an object.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise ApiError(400, f"{name} has to be a single value")


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as Dolibarr's API shows it: dates as Unix time, other numbers as text."""
    return {name: _json_value(value) for name, value in row.items()}


def _json_value(value: object) -> object:
    if isinstance(value, datetime.datetime):
        return int(value.replace(tzinfo=datetime.UTC).timestamp())
    if isinstance(value, datetime.date):
        return int(datetime.datetime.combine(value, datetime.time(), datetime.UTC).timestamp())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, int | Decimal) else value


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise ApiError(400, f"Invalid value specified for `{name}`")
    return int(text)
