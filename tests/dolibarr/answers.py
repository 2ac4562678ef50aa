"""Small HTTP servers for answers that no ERP of ours gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType


class AnsweringServer(ThreadingHTTPServer):
    """Gives each request the same answer, and keeps what came: the path, and the key if there was one."""

    def __init__(self, status: int, body: str, headers: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.body = body.encode()
        self.headers = headers
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: AnsweringServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("DOLAPIKEY")))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@contextmanager
def answering(
    status: int = 200, body: str = "", headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[AnsweringServer]:
    """A server that gives this answer, while the block runs."""
    with AnsweringServer(status, body, headers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
