"""The service itself: HTTP, commits, a database that is away."""

from __future__ import annotations

import threading

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from pytest_erp_sandbox.demo.erp import Erp
from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.postgres.connection import SandboxDatabase

from ...dolibarr.sandboxes import fill, wipe
from ...servers import connect, run
from .conftest import UNIQUE_ID, error_of


@pytest.mark.parametrize("content", [b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_400(api: httpx.Client, content: bytes) -> None:
    error_of(api.post("thirdparties", content=content), 400)


@pytest.mark.parametrize("path", ["nothing", "thirdparties/1/nothing", "thirdparties/x", "/api/", "/"])
def test_an_unknown_path_is_404(erp: Erp, api: httpx.Client, path: str) -> None:
    error_of(api.get(f"{erp.url}{path}" if path.startswith("/") else path), 404)


def test_a_switched_off_api_answers_without_json(database: SandboxDatabase, api: httpx.Client) -> None:
    run(database.dsn, "UPDATE llx_const SET value = '0' WHERE name = 'MAIN_MODULE_API'")
    response = api.get("status")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_it_shows_as_itself_in_the_servers_activity(
    server: Server, database: SandboxDatabase, api: httpx.Client
) -> None:
    seen = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dolibarr-demo'"
    with connect(database.dsn) as blocker, connect(server.dsn()) as watcher:
        with blocker.transaction():
            blocker.execute("LOCK TABLE llx_societe")
            asking = threading.Thread(target=api.get, args=("thirdparties",))
            asking.start()
            while watcher.execute(seen).fetchone() != (1,):
                asking.join(0.01)
                assert asking.is_alive()
        asking.join()


def test_what_it_answers_with_is_committed(database: SandboxDatabase, api: httpx.Client) -> None:
    made = api.post("thirdparties", json={"name": "Committed"}).json()
    with connect(database.dsn) as connection:
        rows = connection.execute("SELECT nom FROM llx_societe WHERE rowid = %s", [made]).fetchall()
    assert rows == [("Committed",)]


def test_it_answers_503_while_its_tables_are_away(database: SandboxDatabase, api: httpx.Client) -> None:
    with database.connect() as connection:
        wipe(connection, database)
    error_of(api.get("thirdparties"), 503)
    fill(database)
    error_of(api.get("thirdparties"), 401)


def test_it_answers_503_when_its_session_is_ended(server: Server, database: SandboxDatabase, api: httpx.Client) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dolibarr-demo'"
    answers: list[httpx.Response] = []
    with connect(database.dsn) as blocker, connect(server.dsn()) as admin, blocker.transaction():
        blocker.execute("LOCK TABLE llx_societe")
        asking = threading.Thread(target=lambda: answers.append(api.get("thirdparties")))
        asking.start()
        while not admin.execute(end).fetchall():
            asking.join(0.01)
            assert asking.is_alive()
        asking.join()
    error_of(answers[0], 503)
    assert api.get("thirdparties").is_success


def test_it_answers_503_without_a_server() -> None:
    erp = Erp(SecretStr("postgresql://127.0.0.1:1/erp"), UNIQUE_ID)
    erp.start()
    try:
        error_of(httpx.get(f"{erp.url}/api/index.php/status"), 503)
    finally:
        erp.stop()


def test_it_starts_again_at_the_same_url(database: SandboxDatabase) -> None:
    erp = Erp(database.dsn, UNIQUE_ID)
    erp.start()
    erp.start()
    url = erp.url
    erp.stop()
    erp.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    erp.start()
    try:
        assert erp.url == url
        assert httpx.get(f"{url}/api/index.php/status").status_code == 401
    finally:
        erp.stop()


def test_its_secrets_do_not_show(erp: Erp, database: SandboxDatabase) -> None:
    password = conninfo_to_dict(database.dsn.get_secret_value())["password"]
    shown = repr(erp) + repr(vars(erp)) + repr(vars(erp._server))
    assert str(password) not in shown
    assert UNIQUE_ID.get_secret_value() not in shown
