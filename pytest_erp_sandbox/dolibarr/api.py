"""Dolibarr's REST API: a client for it, and proof that a URL serves the sandbox's database."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from ..errors import AgentError

__all__ = ["api_client", "await_answer", "check_api", "erp_answers"]

KEY_HEADER = "DOLAPIKEY"

TIMEOUT = 30.0
"""Seconds until an answer is given up on: a Dolibarr that was just started takes its time."""

_PROMPT = 5.0
"""Seconds for an answer from who is up."""

_BEAT = 0.2
"""Seconds from one question to the next."""

_NOBODY_BEHIND = (502, 503, 504)
"""What a proxy answers while the server behind it does not."""

_API = "/api/index.php"
_LONGEST_QUOTE = 200

_HINTS = {
    401: "The ERP serves another database than sandbox.dsn, or decrypts keys with another unique id than"
    " sandbox.erp.instance-unique-id.",
    403: "The ERP serves another database than sandbox.dsn, or something before it keeps us out.",
    404: "There is no Dolibarr API at sandbox.erp.url, or Dolibarr is too old to know users/login.",
    501: "The constant API_ENDPOINT_RULES in the ERP's database may forbid the endpoint 'users'.",
    503: "The constant API_RESTRICT_ON_IP in the ERP's database may keep this machine out, or the ERP cannot reach"
    " its database.",
}


def api_client(url: str, key: SecretStr, timeout: float = TIMEOUT) -> httpx.Client:
    """Make a client for the API of the Dolibarr at ``url``, authenticated with ``key``.

    Paths are relative (``client.get("thirdparties")``). The key goes to that server alone, follows no redirect to
    another, and shows neither in the client's nor in a request's headers; a request that brings a ``DOLAPIKEY`` of its
    own keeps it. Proxies of the environment are not used.

    Args:
        url: the Dolibarr's base URL, with or without ``/api/index.php``.
        key: a user's API key.
        timeout: seconds.
    """
    return _client(url, _Transport(httpx.URL(_base(url)), key), timeout)


def check_api(url: str, key: SecretStr, login: str, timeout: float = TIMEOUT) -> None:
    """Prove that the Dolibarr at ``url`` serves this database: it accepts the fresh ``key`` as the user ``login``.

    It asks for the user's own card, which every Dolibarr user may read, whatever its rights.

    Raises:
        AgentError: it does not; the message says how it answered, the hint what that means.
    """
    place = _without_password(url)
    try:
        with api_client(url, key, timeout) as client:
            response = client.get(f"users/login/{quote(login, safe='')}")
    except httpx.TimeoutException:
        raise AgentError(
            f"the ERP at {place} did not answer within {timeout:g} s",
            hint="Is it busy, or does it wait for its database? Open the URL in a browser.",
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise AgentError(
            f"the ERP at {place} cannot be reached: {error}",
            hint="Check sandbox.erp.url, and that the ERP is up and can be reached from here.",
        ) from None
    if not response.is_success:
        raise _refusal(place, response)
    answered = _login_in(response)
    if answered is None:
        raise AgentError(
            f"{place} answers something that is not Dolibarr's API",
            hint="Dolibarr's module API may be off (llx_const MAIN_MODULE_API in the database that this ERP serves), or"
            " sandbox.erp.url leads to something else, such as a login page.",
        )
    if answered != login:
        raise AgentError(
            f"the ERP at {place} accepts the key of {login!r} as {answered!r}: it serves another database",
            hint="Check sandbox.erp.url and sandbox.dsn: they have to belong together.",
        )


def erp_answers(url: str) -> bool:
    """Whether the ERP at ``url`` answers, whatever it says; a proxy alone does not count."""
    try:
        with _client(url, httpx.HTTPTransport(), _PROMPT) as client:
            response = client.get("status")
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return response.status_code not in _NOBODY_BEHIND or bool(_quoted(response))


def await_answer(url: str, on_wait: Callable[[str], None], timeout: float = TIMEOUT) -> None:
    """Wait for an ERP whose pods have become ready: through a Service or an Ingress it answers a moment later.

    When the time is over, it is told; what is wrong is for ``check_api`` to say.

    Args:
        url: the Dolibarr's base URL.
        on_wait: is told what is waited for.
        timeout: seconds.
    """
    deadline, is_told = time.monotonic() + timeout, False
    while not erp_answers(url):
        if time.monotonic() > deadline:
            on_wait(f"the ERP at {_without_password(url)} has not answered for {timeout:g} s")
            return
        if not is_told:
            on_wait(f"waiting for the ERP at {_without_password(url)} to answer")
        is_told = True
        time.sleep(_BEAT)


class _Transport(httpx.HTTPTransport):
    """Adds the key to requests for one server, below everything that people see or log."""

    def __init__(self, base: httpx.URL, key: SecretStr) -> None:
        super().__init__()
        self._server = _server(base)
        self._key = key

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if KEY_HEADER not in request.headers and _server(request.url) == self._server:
            request = self._with_key(request)
        try:
            return super().handle_request(request)
        except httpx.TransportError as error:
            # The frames below hold the key, for whoever has local variables shown.
            raise type(error)(str(error)) from None

    def _with_key(self, request: httpx.Request) -> httpx.Request:
        headers = [*request.headers.raw, (KEY_HEADER.encode(), self._key.get_secret_value().encode())]
        return httpx.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix(_API) + _API + "/"


def _client(url: str, transport: httpx.HTTPTransport, timeout: float) -> httpx.Client:
    # Dolibarr compresses what it says, but not the error that it may have said before.
    headers = {"Accept-Encoding": "identity"}
    return httpx.Client(base_url=_base(url), timeout=timeout, headers=headers, transport=transport)


def _server(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _refusal(place: str, response: httpx.Response) -> AgentError:
    if response.is_redirect:
        return AgentError(
            f"{place} redirects elsewhere ({response.status_code}), where the key is not sent",
            hint="Set sandbox.erp.url to where the ERP itself answers: mind https, a path, a login page before it.",
        )
    answered = f"{response.status_code} {response.reason_phrase}".rstrip()
    return AgentError(
        f"the ERP at {place} answers {answered}{_quoted(response)}",
        hint=_HINTS.get(response.status_code, "The ERP's own log may tell more."),
    )


def _quoted(response: httpx.Response) -> str:
    """What Dolibarr itself says about an error, if it does."""
    try:
        said = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {said[:_LONGEST_QUOTE]}"


def _login_in(response: httpx.Response) -> str | None:
    try:
        return str(response.json()["login"])
    except (ValueError, KeyError, TypeError):
        return None


def _without_password(url: str) -> str:
    try:
        return str(httpx.URL(url).copy_with(userinfo=b""))
    except httpx.InvalidURL:
        return "sandbox.erp.url"
