"""A pgbouncer in front of a server, for the tests of what a pooler does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

PATIENCE = 10
"""Seconds that pgbouncer has for its start."""


@contextmanager
def pgbouncer(folder: Path, dsn: SecretStr, mode: str, *lines: str) -> Iterator[SecretStr]:
    """Run a pgbouncer that leads to ``dsn``; gives the DSN that leads to it.

    Args:
        folder: for its configuration.
        dsn: where everybody who connects comes out, as the user whom it names.
        mode: session, transaction or statement.
        lines: more lines for its configuration.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    target = conninfo_to_dict(dsn.get_secret_value())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = folder / "pgbouncer.ini"
    configuration.touch(mode=0o600)
    configuration.write_text(
        "\n".join(
            [
                "[databases]",
                "* = " + " ".join(f"{name}='{value}'" for name, value in target.items()),
                "[pgbouncer]",
                "listen_addr = 127.0.0.1",
                f"listen_port = {port}",
                "unix_socket_dir =",
                "auth_type = any",
                f"pool_mode = {mode}",
                *lines,
            ]
        )
    )
    as_somebody = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, "-q", *as_somebody, str(configuration)], stderr=subprocess.DEVNULL)
    through = SecretStr(f"postgresql://{target['user']}@127.0.0.1:{port}/{target['dbname']}")
    try:
        _await(through, process)
        yield through
    finally:
        process.terminate()
        process.wait()


def _await(dsn: SecretStr, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, "pgbouncer ended"
        try:
            psycopg.connect(dsn.get_secret_value()).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "pgbouncer lets nobody in"
            time.sleep(0.05)
        else:
            return
