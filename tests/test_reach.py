"""Databases whose credentials stand elsewhere, and may change at any moment."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from pytest_erp_sandbox import ClusterError, PostgresError, SettingsError
from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.loading import load_settings
from pytest_erp_sandbox.postgres.program import run
from pytest_erp_sandbox.reach import reached
from pytest_erp_sandbox.settings import Settings

from .servers import connect

NewLogin = Callable[[], str]


@pytest.fixture
def rotate(server: Server, tmp_path: Path) -> NewLogin:
    """Makes a login and puts it into the mounted secret, in the place of the one before, which is dropped."""
    logins: list[str] = []

    def new() -> str:
        login, password = f"v-{secrets.token_hex(4)}", secrets.token_hex(8)
        with connect(server.dsn()) as admin:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(login), sql.Literal(password))
            )
            for old in logins:
                admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(old)))
        logins.append(login)
        version = tmp_path / "mount" / f"..{login}"
        version.mkdir(parents=True)
        (version / "username").write_text(login)
        (version / "password").write_text(password)
        (tmp_path / "mount" / "..tmp").symlink_to(version.name)
        (tmp_path / "mount" / "..tmp").rename(tmp_path / "mount" / "..data")
        return login

    return new


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> Settings:
    where = conninfo_to_dict(server.dsn().get_secret_value())
    dsn = f"host={where['host']} port={where['port']} dbname=postgres"
    (tmp_path / "erp-sandbox.toml").write_text(
        f'prod = {{ dsn = "{dsn}", credentials = "mount" }}\nsandbox = {{ dsn = "{dsn}", credentials = "mount" }}\n'
    )
    loaded = load_settings(tmp_path)
    assert loaded is not None
    return loaded


def test_where_nothing_is_refreshed_prod_s_credentials_are_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "erp-sandbox.toml"
    text = (
        'prod = { dsn = "host=prod dbname=erp", credentials = "not-there" }\nsandbox.dsn = "host=sandbox dbname=erp"\n'
    )
    for refresh in ("auto", "never"):
        file.write_text(f'refresh = "{refresh}"\n{text}')
        loaded = load_settings(tmp_path)
        assert loaded is not None
        with ExitStack() as stack:
            if refresh == "auto":
                stack.enter_context(pytest.raises(ClusterError, match="not-there"))
            assert stack.enter_context(reached(loaded, print)).prod == loaded.prod


def user_of(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    with connection:
        row = connection.execute("SELECT session_user").fetchone()
        assert row is not None
        return row[0]


def test_each_connection_has_the_credentials_of_its_moment(settings: Settings, rotate: NewLogin) -> None:
    first = rotate()
    with reached(settings) as complete:
        prod, sandbox = complete.prod.database(), complete.all_sandboxes[0].database()
        assert prod is not None
        assert (user_of(prod.connect()), user_of(sandbox.connect())) == (first, first)
        second = rotate()
        assert (user_of(prod.connect()), user_of(sandbox.connect())) == (second, second)


def test_a_session_that_is_open_outlives_the_login_and_programs_get_the_new_one(
    settings: Settings, rotate: NewLogin, server: Server
) -> None:
    rotate()
    with reached(settings) as complete:
        sandbox = complete.all_sandboxes[0].database()
        with sandbox.connect() as before:
            second = rotate()
            assert before.execute("SELECT 1").fetchone() == (1,)
            said: list[str] = []
            statement = "DO $$ BEGIN RAISE WARNING '%', session_user; END $$"
            run(
                [server.programs / "psql", "-Xq", "-c", statement, "-d", sandbox.public_conninfo()],
                sandbox.secret_environment(),
                doing="psql",
                watch=said.append,
            )
            assert second in "\n".join(said)


def test_no_command_line_and_no_name_has_the_password(settings: Settings, rotate: NewLogin, tmp_path: Path) -> None:
    rotate()
    password = (tmp_path / "mount" / "..data" / "password").read_text()
    with reached(settings) as complete:
        sandbox = complete.all_sandboxes[0].database()
        assert password not in f"{sandbox.public_conninfo()} {sandbox} {sandbox!r} {complete!r}"
        assert password in [secret.get_secret_value() for secret in complete.secrets()]


def test_credentials_that_do_not_work_any_more_are_said_without_the_password(
    settings: Settings, rotate: NewLogin, tmp_path: Path
) -> None:
    rotate()
    (tmp_path / "mount" / "..data" / "password").write_text("a wrong one")
    with reached(settings) as complete, pytest.raises(PostgresError, match="password authentication failed") as failure:
        complete.all_sandboxes[0].database().connect()
    assert "a wrong one" not in str(failure.value)


def say(folder: Path, key: str, value: str) -> Settings:
    """The settings, where the sandbox has one more."""
    file = folder / "erp-sandbox.toml"
    file.write_text(file.read_text().replace('sandbox = { dsn = "', f'sandbox = {{ {key} = {value}, dsn = "'))
    loaded = load_settings(folder)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("key", ["instance-unique-id", "DOLI_INSTANCE_UNIQUE_ID"])
def test_a_sandboxs_secret_may_hold_its_erps_unique_id(
    settings: Settings, rotate: NewLogin, tmp_path: Path, key: str
) -> None:
    rotate()
    (tmp_path / "mount" / "..data" / key).write_text("the-erps-own-id\n")
    if key != "instance-unique-id":
        settings = say(tmp_path, "secret-keys", f'{{ instance-unique-id = "{key}" }}')
    with reached(settings) as complete:
        (place,) = complete.all_sandboxes
        assert place.erp.instance_unique_id is not None
        assert place.erp.instance_unique_id.get_secret_value() == "the-erps-own-id"
        assert place.erp.instance_unique_id in list(complete.secrets())
        assert user_of(place.database().connect()) == (tmp_path / "mount" / "..data" / "username").read_text()


@pytest.mark.usefixtures("settings")
def test_a_unique_id_in_the_settings_is_kept(rotate: NewLogin, tmp_path: Path) -> None:
    rotate()
    (tmp_path / "mount" / "..data" / "instance-unique-id").write_text("another")
    with reached(say(tmp_path, "erp", '{ instance-unique-id = "the-settings-own" }')) as complete:
        (place,) = complete.all_sandboxes
        assert place.erp.instance_unique_id == SecretStr("the-settings-own")


def test_prods_own_unique_id_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "erp-sandbox.toml").write_text(
        'prod = { dsn = "", credentials = "mount", secret-keys = { instance-unique-id = "x" } }\nsandbox.dsn = ""\n'
    )
    with pytest.raises(SettingsError, match="prod's own instance-unique-id is never read"):
        load_settings(tmp_path)
