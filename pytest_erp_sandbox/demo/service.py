"""The process behind the demo: it runs the server and the ERP for as long as somebody uses them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from ..errors import ErpSandboxError
from .coordinates import Demo, DemoSandbox
from .erp import Erp
from .estate import build_estate
from .locks import exclusive
from .server import HOST, Server

__all__ = ["COORDINATES", "USERS_LOCK", "serve"]

COORDINATES = "demo.json"
"""In the demo's folder while it runs: where it is, for ``Demo.load``."""

USERS_LOCK = "users.lock"
"""Each user shares this lock; the service ends when it can have it alone."""

_BUILT = "built.json"
# Fast and small: what a power failure takes from a demo is made anew.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "128MB"}


def serve(folder: Path) -> None:
    """Run the demo of ``folder``, built where it is not yet, until its last user is gone.

    Raises:
        ErpSandboxError: it cannot be built or started.
    """
    coordinates = folder / COORDINATES
    with ExitStack() as until_stopped, _running(folder) as demo:
        demo.save(coordinates)
        try:
            # Kept until all is stopped: who comes now waits for that, and starts the demo again.
            until_stopped.enter_context(exclusive(folder / USERS_LOCK))
        finally:
            coordinates.unlink()


@contextmanager
def _running(folder: Path) -> Iterator[Demo]:
    """The demo's server and ERPs, with where they are this time."""
    server = Server(folder / "server", settings=_SETTINGS)
    with ExitStack() as stack:
        stack.callback(server.stop)
        if not (folder / _BUILT).exists():
            _build(folder, server)
        server.start()
        built = Demo.load(folder / _BUILT)
        sandboxes = []
        for sandbox in built.sandboxes:
            dsn = _at(server.port, sandbox.dsn)
            erp = Erp(dsn, sandbox.unique_id)
            erp.start()
            stack.callback(erp.stop)
            sandboxes.append(replace(sandbox, dsn=dsn, url=erp.url))
        yield Demo(folder, _at(server.port, built.prod_dsn), tuple(sandboxes))


def _build(folder: Path, server: Server) -> None:
    # What is there is of a building that was cut short; even its server may still be running.
    server.stop("immediate")
    shutil.rmtree(server.folder, ignore_errors=True)
    server.start()
    estate = build_estate(server)
    sandboxes = tuple(DemoSandbox(s.name, s.dsn, s.role, url="", unique_id=s.unique_id) for s in estate.sandboxes)
    Demo(folder, estate.prod_dsn, sandboxes).save(folder / _BUILT)


def _at(port: int, dsn: SecretStr) -> SecretStr:
    """A DSN of the time when the demo was built, with the port of today."""
    parts = urlsplit(dsn.get_secret_value())
    login = parts.netloc.rpartition("@")[0]
    return SecretStr(urlunsplit(parts._replace(netloc=f"{login}@{HOST}:{port}")))


def _main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        serve(Path(sys.argv[1]))
    except ErpSandboxError as error:
        sys.exit(str(error))


if __name__ == "__main__" and os.fork() == 0:
    # The parent ends at once, and whoever started it has no child to wait for.
    _main()
