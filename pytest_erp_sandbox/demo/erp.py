"""A demo that stands for a real Dolibarr: a small part of its REST API, on Dolibarr-shaped tables."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
from pydantic import SecretStr

from ..dolibarr.constants import constant, is_on
from ..errors import AgentError
from . import erp_invoices, erp_products, erp_thirdparties, erp_users
from .erp_access import ApiError, authenticate
from .erp_products import PRODUCTS
from .erp_records import Request
from .erp_thirdparties import THIRDPARTIES

__all__ = ["Erp"]

HOST = "127.0.0.1"
APPLICATION_NAME = "dolibarr-demo"

_API = "/api/index.php/"
_CONNECT_TIMEOUT = 5
_LOCK_TIMEOUT = "10s"
_LARGEST_BODY = 1_000_000
_STALLED_AFTER = 10
_STOP_NOTICED_WITHIN = 0.05

_ROUTES: tuple[tuple[str, str, Callable[[Request], object]], ...] = (
    ("GET", "status", erp_users.status),
    ("GET", "users/info", erp_users.info),
    ("GET", "users/login/{login}", erp_users.by_login),
    ("GET", "thirdparties", THIRDPARTIES.list_page),
    ("POST", "thirdparties", erp_thirdparties.create),
    ("GET", "thirdparties/{id}", THIRDPARTIES.get),
    ("PUT", "thirdparties/{id}", THIRDPARTIES.put),
    ("DELETE", "thirdparties/{id}", THIRDPARTIES.delete),
    ("GET", "products", PRODUCTS.list_page),
    ("POST", "products", erp_products.create),
    ("GET", "products/{id}", PRODUCTS.get),
    ("PUT", "products/{id}", erp_products.change),
    ("DELETE", "products/{id}", PRODUCTS.delete),
    ("GET", "invoices", erp_invoices.list_all),
    ("POST", "invoices", erp_invoices.create),
    ("GET", "invoices/{id}", erp_invoices.get),
    ("DELETE", "invoices/{id}", erp_invoices.delete),
    ("GET", "invoices/{id}/lines", erp_invoices.list_lines),
    ("POST", "invoices/{id}/lines", erp_invoices.add_line),
    ("POST", "invoices/{id}/validate", erp_invoices.validate),
)

_PATTERNS = tuple(
    (method, re.compile(path.replace("{id}", r"(\d+)").replace("{login}", "([^/]+)")), answer)
    for method, path, answer in _ROUTES
)


class Erp:
    """A demo's ERP, which stands for a real Dolibarr; it is none, and knows only what the demo needs.

    It serves status, users, third parties, products and invoices under ``/api/index.php``, checks keys and rights as
    Dolibarr does (without the delay for a wrong key), and commits on a connection of its own for each request. While
    its database is being reset it answers 503. Not in it: ``sqlfilters``, the user interface, documents, and the rest.

    Args:
        dsn: its database.
        unique_id: the instance's unique id, under which keys are encrypted.
        port: where it listens, on this machine alone; 0 takes a free one.
    """

    def __init__(self, dsn: SecretStr, unique_id: SecretStr, port: int = 0) -> None:
        self._dsn = dsn
        self._unique_id = unique_id
        self._port = port
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The base URL; with port 0 known once started."""
        return f"http://{HOST}:{self._port}"

    def start(self) -> None:
        """Begin to serve; nothing if it does already."""
        if self._server is not None:
            return
        self._server = _Server(self._port, self._dsn, self._unique_id)
        self._port = self._server.server_port
        serve = threading.Thread(
            target=self._server.serve_forever, args=(_STOP_NOTICED_WITHIN,), name=APPLICATION_NAME, daemon=True
        )
        serve.start()

    def stop(self) -> None:
        """Cease to serve, once the requests under way are answered; nothing if it does not serve."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, port: int, dsn: SecretStr, unique_id: SecretStr) -> None:
        super().__init__((HOST, port), _Handler)
        self.dsn = dsn
        self.unique_id = unique_id

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            self.dsn.get_secret_value(),
            application_name=APPLICATION_NAME,
            connect_timeout=_CONNECT_TIMEOUT,
            options=f"-c lock_timeout={_LOCK_TIMEOUT}",
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over clients that went away; anything else is a mistake of ours, and shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, has it answered, and writes the answer after the commit."""

    server: _Server
    server_version = APPLICATION_NAME
    timeout = _STALLED_AFTER
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        try:
            answer = self._answer()
        except ApiError as error:
            self._send(error.status, error.as_json())
        except (psycopg.Error, AgentError) as error:
            refused = _as_api_error(error)
            self._send(refused.status, refused.as_json())
        else:
            self._send(HTTPStatus.OK, answer)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Be quiet: standard error belongs to the test run."""

    def _answer(self) -> object:
        url = urlsplit(self.path)
        body = self._body()
        answer, argument = _find_route(self.command, url.path)
        with self.server.connect() as connection:
            if not is_on(constant(connection, "MAIN_MODULE_API", 1)):
                return "The module Api must be enabled before using this feature."
            caller = authenticate(connection, self.headers.get("DOLAPIKEY", ""), self.server.unique_id)
            return answer(Request(connection, caller, argument, dict(parse_qsl(url.query)), body))

    def _body(self) -> Mapping[str, Any]:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > _LARGEST_BODY:
            raise ApiError(400, "Invalid Content-Length")
        sent = self.rfile.read(int(length))
        try:
            body = json.loads(sent or b"{}")
        except ValueError:
            raise ApiError(400, "Error encoding/decoding JSON: Syntax error") from None
        if not isinstance(body, dict):
            raise ApiError(400, "The body has to be a JSON object")
        return body

    def _send(self, status: HTTPStatus, answer: object) -> None:
        as_text = isinstance(answer, str)
        content = str(answer) if as_text else json.dumps(answer, ensure_ascii=False)
        payload = b"" if status is HTTPStatus.NOT_MODIFIED else content.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8" if as_text else "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def _find_route(method: str, path: str) -> tuple[Callable[[Request], object], str]:
    place = path.removeprefix(_API)
    for known_method, pattern, answer in _PATTERNS:
        if path.startswith(_API) and known_method == method and (match := pattern.fullmatch(place)):
            return answer, unquote(match[1]) if match.groups() else ""
    raise ApiError(404, "Api not found")


def _as_api_error(error: psycopg.Error | AgentError) -> ApiError:
    if isinstance(error, psycopg.IntegrityError):
        return ApiError(409, error.diag.message_primary or "")
    if isinstance(error, psycopg.DataError):
        return ApiError(400, error.diag.message_primary or "")
    # The server is away, or the tables are: the database is being reset.
    return ApiError(503, "Error when fetching from the database")
