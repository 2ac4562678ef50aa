from __future__ import annotations

import logging
import re
import socket
import traceback
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.demo.erp import Erp
from pytest_erp_sandbox.dolibarr.agent import provision_agent
from pytest_erp_sandbox.dolibarr.api import api_client, await_answer, check_api, erp_answers
from pytest_erp_sandbox.errors import AgentError
from pytest_erp_sandbox.postgres.connection import SandboxDatabase, as_owner

from .answers import answering

LOGIN = "ai_agent_sandbox"
UNIQUE_ID = SecretStr("0123456789abcdef0123456789abcdef")
KEY = SecretStr("a-key-that-nobody-may-see-77d1")


@pytest.fixture(scope="module")
def key(database: SandboxDatabase) -> SecretStr:
    """The key of an agent without any right, in the database."""
    with database.connect() as connection, as_owner(connection, database.role):
        return provision_agent(connection, login=LOGIN, rights=[], entity=1, unique_id=UNIQUE_ID)


@pytest.fixture(scope="module")
def erp(database: SandboxDatabase) -> Iterator[Erp]:
    erp = Erp(database.dsn, UNIQUE_ID)
    erp.start()
    yield erp
    erp.stop()


def refusal(url: str, key: SecretStr = KEY, login: str = LOGIN, timeout: float = 5.0) -> str:
    """What check_api says about this URL."""
    with pytest.raises(AgentError) as refused:
        check_api(url, key, login, timeout)
    shown = everything_shown_of(refused.value)
    assert key.get_secret_value() not in shown
    return str(refused.value)


def everything_shown_of(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True, compact=True).format())


@pytest.mark.parametrize("suffix", ["", "/", "/api/index.php", "/api/index.php/"])
def test_an_erp_that_serves_the_database_is_proven(erp: Erp, key: SecretStr, suffix: str) -> None:
    check_api(erp.url + suffix, key, LOGIN)


def test_an_erp_with_another_unique_id_is_refused(database: SandboxDatabase, key: SecretStr) -> None:
    erp = Erp(database.dsn, SecretStr("84b5bc91f83b56e458db71e0adac2b62"))
    erp.start()
    try:
        said = refusal(erp.url, key)
    finally:
        erp.stop()
    assert "answers 401 Unauthorized: Unauthorized: Error user not valid" in said
    assert "another database" in said
    assert "sandbox.erp.instance-unique-id" in said


def test_an_erp_whose_database_has_another_key_is_refused(erp: Erp) -> None:
    assert "The ERP serves another database than sandbox.dsn" in refusal(erp.url)


def test_an_erp_whose_api_is_off_is_refused(database: SandboxDatabase, erp: Erp, key: SecretStr) -> None:
    switch = "UPDATE llx_const SET value = %s WHERE name = 'MAIN_MODULE_API'"
    with database.connect() as connection:
        connection.execute(switch, ["0"])
        try:
            said = refusal(erp.url, key)
        finally:
            connection.execute(switch, ["1"])
    assert "something that is not Dolibarr's API" in said
    assert "MAIN_MODULE_API" in said


def test_an_erp_that_is_not_there_is_named() -> None:
    """Stands for an ERP that is down."""
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody_listens.getsockname()[1]}"
        said = refusal(url)
    assert f"the ERP at {url} cannot be reached" in said
    assert "sandbox.erp.url" in said


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_erp_is_waited_for_until_it_answers_and_not_only_what_is_before_it(status: int) -> None:
    """Stands for an Ingress that knows of no pod yet."""
    told = list[str]()

    def get_ready(said: str) -> None:
        told.append(said)
        server.status = 401

    with answering(status, "<h1>Unavailable</h1>") as server:
        assert not erp_answers(server.url)
        await_answer(server.url, get_ready)
        assert erp_answers(server.url)
        await_answer(server.url, get_ready)
    assert told == [f"waiting for the ERP at {server.url} to answer"]
    assert not erp_answers(server.url)


def test_dolibarrs_own_503_is_an_answer() -> None:
    """Stands for a Dolibarr whose database is away."""
    with answering(503, '{"error": {"code": 503, "message": "Service Unavailable: no database"}}') as server:
        assert erp_answers(server.url)


def test_an_erp_that_does_not_come_back_is_not_waited_for_longer_than_that() -> None:
    """Stands for a Service without a pod."""
    told, place = list[str](), "http://127.0.0.1:1"
    await_answer(place, told.append, timeout=0.3)
    assert told == [f"waiting for the ERP at {place} to answer", f"the ERP at {place} has not answered for 0.3 s"]


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://[", "ftp://127.0.0.1", "http://127.0.0.1:x"])
def test_a_url_that_leads_nowhere_is_named(url: str) -> None:
    assert "cannot be reached" in refusal(url)


def test_an_erp_that_never_answers_is_given_up_on() -> None:
    """Stands for an ERP that waits for its database."""
    with socket.create_server(("127.0.0.1", 0)) as listens:
        said = refusal(f"http://127.0.0.1:{listens.getsockname()[1]}", timeout=0.2)
    assert "did not answer within 0.2 s" in said


def test_an_erp_that_hangs_up_is_named() -> None:
    """Stands for an answer that breaks off."""
    with answering(body="", headers={"Transfer-Encoding": "chunked"}) as server:
        assert "cannot be reached" in refusal(server.url)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """Stands for a login page before the ERP, on another host."""
    with answering() as elsewhere, answering(status, headers={"Location": f"{elsewhere.url}/login"}) as server:
        said = refusal(server.url)
        assert server.requests == [(f"/api/index.php/users/login/{LOGIN}", KEY.get_secret_value())]
    assert elsewhere.requests == []
    assert f"redirects elsewhere ({status})" in said


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (403, "<h1>Forbidden</h1>", "something before it keeps us out"),  # a web application firewall
        (404, "<h1>Not Found</h1>", "no Dolibarr API at sandbox.erp.url"),  # another program
        (501, "The API with endpoint /users is forbidden by config API_ENDPOINT_RULES", "API_ENDPOINT_RULES"),
        (503, "APIs are not allowed from the IP 10.0.0.1", "API_RESTRICT_ON_IP"),
        (500, "Fatal error: Uncaught Error", "The ERP's own log"),  # PHP
    ],
)
def test_each_refusal_has_its_hint(status: int, body: str, hint: str) -> None:
    with answering(status, body) as server:
        said = refusal(server.url)
    assert f"the ERP at {server.url} answers {status}" in said
    assert hint in said


@pytest.mark.parametrize("body", ["<html>Welcome</html>", "[]", '"text"', "{}", '{"success": {"code": 200}}', "\xff"])
def test_an_answer_that_is_not_the_users_card_proves_nothing(body: str) -> None:
    """Stands for a login page, and for other programs that speak JSON."""
    with answering(body=body) as server:
        assert "something that is not Dolibarr's API" in refusal(server.url)


def test_another_user_in_the_answer_means_another_database() -> None:
    """Stands for a Dolibarr in which somebody else has this key."""
    with answering(body='{"login": "bob"}') as server:
        assert f"accepts the key of '{LOGIN}' as 'bob'" in refusal(server.url)


def test_a_login_with_special_characters_stays_in_its_place() -> None:
    with answering(body='{"login": "a/b?c@é"}') as server:
        check_api(server.url, KEY, "a/b?c@é")
    assert server.requests[0][0] == "/api/index.php/users/login/a%2Fb%3Fc%40%C3%A9"


def test_a_password_in_the_url_is_not_shown() -> None:
    with answering(500) as server:
        said = refusal(server.url.replace("http://", "http://user:hidden-word@"))
    assert server.url in said
    assert "hidden-word" not in said


def test_the_client_speaks_to_the_api(erp: Erp, key: SecretStr) -> None:
    with api_client(erp.url, key) as client:
        assert client.get("status").json()["success"]["dolibarr_version"] == "22.0.4"


def test_the_key_shows_in_no_header_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx")
    with answering(500) as server, api_client(server.url, KEY) as client:
        response = client.get("status")
        shown = repr((client.headers, client.__dict__, response, response.request.headers, response.request.__dict__))
    assert server.requests == [("/api/index.php/status", KEY.get_secret_value())]
    assert "status" in caplog.text
    assert KEY.get_secret_value() not in shown + caplog.text


@pytest.mark.parametrize("hidden", [True, False])
def test_the_key_shows_in_no_local_variable_of_a_failing_request(*, hidden: bool) -> None:
    """Stands for a connection that stalls while the request is written; with httpx alone the key is seen."""
    key = KEY.get_secret_value()
    with socket.create_server(("127.0.0.1", 0)) as listens:
        url = f"http://127.0.0.1:{listens.getsockname()[1]}"
        client = api_client(url, KEY) if hidden else httpx.Client(headers={"DOLAPIKEY": key})
        del key
        with client, pytest.raises(httpx.WriteTimeout) as lost:
            client.get(url, headers={"X-Long": "x" * 12_000_000}, timeout=0.2)
    shown = everything_shown_of(lost.value)
    assert (KEY.get_secret_value() in shown) is not hidden


def test_the_key_goes_to_its_own_server_alone() -> None:
    with answering() as own, answering() as other, api_client(own.url, KEY) as client:
        client.get(f"{other.url}/elsewhere")
        client.get("status", headers={"DOLAPIKEY": "a-key-of-my-own"})
    assert other.requests == [("/elsewhere", None)]
    assert own.requests == [("/api/index.php/status", "a-key-of-my-own")]


def test_a_redirect_that_is_followed_on_request_leaves_the_key_behind() -> None:
    with (
        answering() as other,
        answering(302, headers={"Location": f"{other.url}/login"}) as own,
        api_client(own.url, KEY) as client,
    ):
        client.get("status", follow_redirects=True)
    assert other.requests == [("/login", None)]


def test_a_path_before_the_api_is_kept() -> None:
    with answering() as server, api_client(f"{server.url}/dolibarr/", KEY) as client:
        client.get("thirdparties", params={"limit": 1})
    assert re.match("/dolibarr/api/index.php/thirdparties", server.requests[0][0])
