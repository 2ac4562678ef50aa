from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.errors import NotASandboxError
from pytest_erp_sandbox.postgres.adoption import adopt, is_adopted, read_mark, require_mark, write_mark
from pytest_erp_sandbox.postgres.connection import SandboxDatabase, as_owner

from ..servers import connect
from .pairs import PASSWORD, Side, make_sandbox, make_side

STRANGE_NAMES = [
    'it\'s "quoted"',
    "with spaces ",
    "ünïcode-沙盒",
    "a=b host=nowhere",
    "-dash",
    "%s {} $1",
    "postgres://x/y",
]


@pytest.fixture
def sandbox(server: Server) -> Side:
    return make_sandbox(server, adopted=False)


def comment(side: Side) -> object:
    return side.values(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    )[0]


def write_comment(side: Side, text: object) -> None:
    with connect(side.server.dsn(side.name)) as connection:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(side.name), sql.Literal(text)))


def test_nothing_is_adopted_by_itself(sandbox: Side) -> None:
    with sandbox.sandbox.connect() as connection:
        assert not is_adopted(connection)
        with pytest.raises(NotASandboxError, match=f"'{sandbox.name}'.*nothing in it was touched"):
            require_mark(connection)


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_database_of_any_name_can_be_adopted(server: Server, name: str) -> None:
    create = sql.SQL("CREATE DATABASE {} OWNER {{role}}").format(sql.Identifier(name.replace("{}", "{{}}")))
    side = make_side(server, "adoption", is_member=True, create=create.as_string())
    database = SandboxDatabase(server.dsn(name, side.login, PASSWORD), "sandbox.dsn", side.role)
    try:
        with database.connect() as connection:
            with as_owner(connection, side.role):
                adopt(connection)
            assert is_adopted(connection)
    finally:
        with connect(server.dsn()) as admin:
            admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def test_a_copied_comment_adopts_nothing(sandbox: Side, server: Server) -> None:
    write_comment(sandbox, comment(make_sandbox(server)))

    with sandbox.sandbox.connect() as connection:
        assert not is_adopted(connection)


@pytest.mark.parametrize(
    "text",
    [
        "one line",
        "two\nlines\n",
        "\n\nempty lines \r\nand others' ends\x0b\x0c\u2028\x85 of lines",
        "erp-sandbox: is what this is for\nerp-sandbox:",
        "erp-sandbox: adopted=1/2 and more words",
        'it\'s "quoted" \\ %s {}',
    ],
)
def test_what_people_wrote_stays_as_they_wrote_it(sandbox: Side, text: str) -> None:
    write_comment(sandbox, text)

    with sandbox.sandbox.connect() as connection:
        for baseline in ("a", "b", None):
            with as_owner(connection, sandbox.role):
                write_mark(connection, adopt(connection), baseline=baseline)

    lines = str(comment(sandbox)).split("\n")
    assert "\n".join(lines[:-1]) == text
    assert lines[-1].startswith("erp-sandbox: adopted=")


def test_what_people_add_below_the_mark_or_above_it_stays_too(sandbox: Side) -> None:
    adopt_it(sandbox)
    write_comment(sandbox, f"above\n{comment(sandbox)}\nbelow")

    with sandbox.sandbox.connect() as connection, as_owner(connection, sandbox.role):
        write_mark(connection, require_mark(connection), baseline="x")

    above, below, mark = str(comment(sandbox)).split("\n")
    assert (above, below) == ("above", "below")
    assert mark.endswith(" baseline=x")


@pytest.mark.parametrize(
    "value", ["plain/1f", "two words", "x\nerp-sandbox: adopted=1/1", "a grants=b", "ü%20+=", "{}~`"]
)
def test_no_value_makes_a_mark_say_something_else(sandbox: Side, value: str) -> None:
    adopt_it(sandbox)
    with sandbox.sandbox.connect() as connection:
        with as_owner(connection, sandbox.role):
            write_mark(connection, require_mark(connection), kept=value)
        mark = read_mark(connection)

    assert mark is not None
    assert (mark.kept, mark.grants, mark.baseline) == (value, None, None)
    assert str(comment(sandbox)).count("\n") == 0


def test_a_mark_is_found_whatever_the_environment_says_of_encodings(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = "CREATE DATABASE {name} OWNER {role} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    side = make_side(server, "adoption", is_member=True, create=create)
    write_comment(side, "ümläut")

    with monkeypatch.context() as environment:
        environment.setenv("PGCLIENTENCODING", "SQL_ASCII")
        adopt_it(side)

    assert str(comment(side)).startswith("ümläut\nerp-sandbox: ")


def adopt_it(side: Side) -> None:
    with side.sandbox.connect() as connection, as_owner(connection, side.role):
        adopt(connection)


def test_whoever_does_not_own_the_database_cannot_adopt_it(sandbox: Side) -> None:
    with connect(sandbox.server.dsn()) as admin:
        admin.execute(f'ALTER DATABASE "{sandbox.name}" OWNER TO postgres'.encode())
    with sandbox.sandbox.connect() as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), as_owner(connection, sandbox.role):
            adopt(connection)
        assert not is_adopted(connection)
