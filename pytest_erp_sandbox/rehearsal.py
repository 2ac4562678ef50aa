"""What the steps of a scenario tell one another, and how they compare it with what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx
    import psycopg

    from .asking import Asked

__all__ = ["NO_VALUE", "Rehearsal", "content", "expect", "expect_rows", "has_values", "shown"]

NO_VALUE = "NULL"
"""How a table says that something has no value."""

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_KEPT = re.compile(r"\{(\w+)\}")
_LONGEST_QUOTE = 600


@dataclass
class Rehearsal:
    """A scenario's memory.

    Attributes:
        kept: values, by the names under which the scenario kept them.
        explained: changes that a step has named, so that they are nothing else.
        asked: what the agent's process was asked, and answered.
    """

    kept: dict[str, str] = field(default_factory=dict)
    explained: set[str] = field(default_factory=set)
    asked: list[Asked] = field(default_factory=list)
    _answer: httpx.Response | None = None

    @property
    def answer(self) -> httpx.Response:
        """What the ERP answered to the agent's last call."""
        if self._answer is None:
            raise AssertionError("the agent has not called anything yet")
        return self._answer

    @answer.setter
    def answer(self, answer: httpx.Response) -> None:
        self._answer = answer

    def at(self, path: str) -> str:
        """The answer's value at ``path``, such as ``lines.0.desc``, as text."""
        part = content(self.answer)
        for name in path.split("."):
            if isinstance(part, dict) and name in part:
                part = part[name]
            elif isinstance(part, list) and name.isdecimal() and int(name) < len(part):
                part = part[int(name)]
            else:
                raise AssertionError(f"the answer has no {path!r}; {shown(self.answer)}")
        return _text(part)

    def expect_values(self, values: Mapping[str, str]) -> None:
        """Compare values of the answer, by their paths; all that differ are named."""
        found = {path: self.at(path) for path in values}
        wrong = [
            f"{path} is {found[path]!r}, not {values[path]!r}"
            for path in values
            if not _same(found[path], values[path])
        ]
        expect(not wrong, "\n".join([*wrong, shown(self.answer)]))

    def filled(self, said: str) -> str:
        """What a step says, with kept values where it names them: ``thirdparties/{customer}``."""

        def value(match: re.Match[str]) -> str:
            expect(match[1] in self.kept, f"{match[0]} was not kept; kept is: {', '.join(self.kept) or 'nothing'}")
            return self.kept[match[1]]

        return _KEPT.sub(value, said)

    def pairs(self, table: Sequence[Sequence[str]]) -> dict[str, str]:
        """A table's names and values, with kept values filled in."""
        expect(all(len(row) == 2 for row in table), "the table has to have two columns: a name and a value")
        return {name: self.filled(value) for name, value in table}


def expect(holds: object, otherwise: str) -> None:
    """Go on only if something holds; in a step, ``otherwise`` is all that is shown.

    Raises:
        AssertionError: it does not.
    """
    if not holds:
        raise AssertionError(otherwise)


def expect_rows(
    connection: psycopg.Connection[Any], place: str, count: str, table: str, values: Mapping[str, str]
) -> None:
    """Compare how many rows of ``table`` have ``values``, by column; ``count`` is a number, or ``no``."""
    wanted = 0 if count == "no" else int(count)
    found = _count_rows(connection, table, values)
    if found == wanted:
        return
    each = [
        f"{_count_rows(connection, table, {name: value})} where {name} is {value!r}" for name, value in values.items()
    ]
    in_all = f"{_count_rows(connection, table, {})} in all"
    raise AssertionError(f"{place} has {found}, not {wanted}; rows in {table}: {', '.join([in_all, *each])}")


def has_values(row: Mapping[str, object], values: Mapping[str, str]) -> bool:
    """Whether a row has these values, by column: numbers are compared as numbers, everything else as text."""
    return all(_same(_text_of(row[column]), value) for column, value in values.items())


def _text_of(value: object) -> str:
    """A value of a row as a step would write it."""
    return NO_VALUE if value is None else str(value)


def _count_rows(connection: psycopg.Connection[Any], table: str, values: Mapping[str, str]) -> int:
    from psycopg import sql

    conditions: list[sql.Composable] = [
        sql.SQL("{} IS NOT DISTINCT FROM %s").format(sql.Identifier(column)) for column in values
    ]
    query = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(
        sql.Identifier(*table.split(".")), sql.SQL(" AND ").join([sql.SQL("true"), *conditions])
    )
    # Sent without a type, text is read by PostgreSQL as the column's.
    parameters = [None if value == NO_VALUE else value for value in values.values()]
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return int(row[0])


def content(answer: httpx.Response) -> object:
    """What the ERP answered: JSON, or else text."""
    try:
        return answer.json()
    except ValueError:
        return answer.text


def _text(value: object) -> str:
    """A value of an answer as a step would write it."""
    if value is None:
        return NO_VALUE
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shown(answer: httpx.Response) -> str:
    """What was called and what came of it, for messages; a long answer is cut."""
    request = answer.request
    said = answer.text if len(answer.text) <= _LONGEST_QUOTE else f"{answer.text[:_LONGEST_QUOTE]}…"
    return f"{request.method} {request.url.path} was answered {answer.status_code}: {said}"


def _same(found: str, wanted: str) -> bool:
    if _NUMBER.fullmatch(found) and _NUMBER.fullmatch(wanted):
        return Decimal(found) == Decimal(wanted)
    return found == wanted
