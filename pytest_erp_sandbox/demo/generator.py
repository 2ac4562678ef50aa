"""Makes a prod of Dolibarr's real size and shape out of the demo's core tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from typing import Any, NamedTuple, TypedDict

import psycopg
from psycopg import sql
from psycopg.rows import args_row

from .generator_words import COLUMNS, HUBS, MODULES, PARTS, WITHOUT_KEY

__all__ = ["DOLIBARR", "LARGE", "SMALL", "Shape", "Size", "census", "fill"]


class Shape(NamedTuple):
    """How many objects of each kind a schema holds; indexes include those of keys."""

    tables: int
    without_key: int
    indexes: int
    sequences: int
    foreign_keys: int
    triggers: int
    functions: int


DOLIBARR = Shape(tables=276, without_key=3, indexes=760, sequences=248, foreign_keys=159, triggers=107, functions=16)
"""A stock Dolibarr 22, freshly installed."""


class Size(TypedDict):
    """How many rows are added to the four tables that grow."""

    parties: int
    invoices: int
    lines: int
    events: int


SMALL: Size = {"parties": 0, "invoices": 0, "lines": 0, "events": 0}
LARGE: Size = {"parties": 50_000, "invoices": 200_000, "lines": 800_000, "events": 500_000}


def fill(
    connection: psycopg.Connection[Any], *, parties: int = 0, invoices: int = 0, lines: int = 0, events: int = 0
) -> None:
    """Bring the demo's core schema to ``DOLIBARR``'s shape, and add rows; always the same ones.

    What is made belongs to whoever ``connection`` acts as.

    Args:
        connection: to a database whose current schema holds the core tables.
        parties: third parties to add.
        invoices: invoices to add, spread over all third parties.
        lines: invoice lines to add, spread over all invoices.
        events: agenda events to add, spread over all third parties.
    """
    with connection.transaction():
        connection.execute(_script("indexes"))
        for table in _missing_tables(connection):
            connection.execute(table.definition())
        _add_functions(connection)
        for rows, count in {"parties": parties, "invoices": invoices, "lines": lines, "events": events}.items():
            connection.execute(_script(rows), {"count": count})


def census(connection: psycopg.Connection[Any]) -> Shape:
    """Count what the current schema holds."""
    with connection.cursor(row_factory=args_row(Shape)) as cursor:
        shape = cursor.execute(_script("census")).fetchone()
    assert shape is not None
    return shape


class _Column(NamedTuple):
    name: str
    kind: str


class _Key(NamedTuple):
    table: str
    column: str


@dataclass(frozen=True)
class _Table:
    """A table to be made, with what belongs to it."""

    name: str
    key: str
    """The type of its ``rowid``; empty where it has none."""
    columns: list[_Column]
    references: list[_Key]
    indexes: int
    touched: bool
    """Whether it has a ``tms``, which a trigger keeps."""

    def definition(self) -> sql.Composed:
        return sql.SQL(";\n").join([self._table(), *self._indexes(), *self._triggers()])

    def _links(self) -> list[_Column]:
        return [_Column(f"fk_{key.table.removeprefix('llx_')}_{n}", "integer") for n, key in enumerate(self.references)]

    def _table(self) -> sql.Composed:
        rowid = [_Column("rowid", f"{self.key} PRIMARY KEY")] if self.key else []
        tms = [_Column("tms", "timestamp DEFAULT now()")] if self.touched else []
        columns = [
            sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.kind))
            for column in [*rowid, *self._links(), *self.columns, *tms]
        ]
        constraints = [
            sql.SQL("CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}) DEFERRABLE INITIALLY IMMEDIATE").format(
                *map(sql.Identifier, (f"fk_{self.name}_{link.name}", link.name, *key))
            )
            for link, key in zip(self._links(), self.references, strict=True)
        ]
        body = sql.SQL(", ").join([*columns, *constraints])
        return sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(self.name), body)

    def _indexes(self) -> Iterator[sql.Composed]:
        for column in [*self._links(), *self.columns][: self.indexes]:
            names = (f"idx_{self.name}_{column.name}", self.name, column.name)
            yield sql.SQL("CREATE INDEX {} ON {} ({})").format(*map(sql.Identifier, names))

    def _triggers(self) -> Iterator[sql.Composed]:
        if self.touched:
            yield sql.SQL(
                "CREATE TRIGGER update_customer_modtime BEFORE UPDATE ON {}"
                " FOR EACH ROW EXECUTE FUNCTION update_modified_column_tms()"
            ).format(sql.Identifier(self.name))


def _missing_tables(connection: psycopg.Connection[Any]) -> Iterator[_Table]:
    """The tables that the schema lacks, everything else that it lacks spread evenly over them."""
    missing = Shape(*(wanted - present for wanted, present in zip(DOLIBARR, census(connection), strict=True)))
    keyed = missing.tables - missing.without_key
    with connection.cursor(row_factory=args_row(_Key)) as cursor:
        keys = cursor.execute(_script("keys")).fetchall()
    hubs = [key for key in keys if key.table in HUBS]
    for n, name in enumerate(_free_names(connection, missing)):
        key = ""
        if n >= missing.without_key:
            key = "serial" if _portion(missing.sequences, keyed, n - missing.without_key) else "integer"
        links = _portion(missing.foreign_keys, missing.tables, n)
        yield _Table(
            name,
            key,
            columns=_columns(n),
            references=[hubs[link // 2 % len(hubs)] if link % 2 else keys[link % len(keys)] for link in links],
            indexes=len(_portion(missing.indexes - keyed, missing.tables, n)),
            touched=bool(_portion(missing.triggers, missing.tables, n)),
        )
        if key:
            keys.append(_Key(name, "rowid"))


def _portion(total: int, among: int, n: int) -> range:
    """Which of ``total`` things go to place ``n``, when they are spread evenly ``among`` places."""
    return range(total * n // among, total * (n + 1) // among)


def _columns(n: int) -> list[_Column]:
    """The columns of table number ``n``: often few, sometimes many, as in Dolibarr."""
    width = 9 + int(45 * (n * 37 % 101 / 101) ** 3)
    return [_Column(*COLUMNS[(n * 11 + place) % len(COLUMNS)]) for place in range(width)]


def _free_names(connection: psycopg.Connection[Any], missing: Shape) -> list[str]:
    """Names for the missing tables, those of the ones without a key first."""
    taken = {name for (name,) in connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'llx%'")}
    without_key = [name for name in WITHOUT_KEY if name not in taken][: missing.without_key]
    others = [f"llx_{module}_{part}" for part, module in product(PARTS, MODULES)]
    return [*without_key, *(name for name in others if name not in taken)][: missing.tables]


def _add_functions(connection: psycopg.Connection[Any]) -> None:
    for statement in _script("functions").split(b"\n\n"):
        # The core may have this one already.
        with suppress(psycopg.errors.DuplicateFunction), connection.transaction():
            connection.execute(statement)


def _script(name: str) -> bytes:
    return (files(__package__) / f"generator_{name}.sql").read_bytes()
