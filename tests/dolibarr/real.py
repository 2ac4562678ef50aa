"""A real Dolibarr as prod: installed by its own installer from the tree that ERP_SANDBOX_TEST_DOLIBARR names."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from pytest_erp_sandbox.demo.server import Server, server_folder

from ..servers import SETTINGS, VERSIONS, connect, run

MODULES = "modSociete,modProduct,modStock,modFacture,modCommande,modPropale,modProjet,modApi,modCron,modNotification"
PHP = shutil.which("php") or "php"
PROD_KEY = "prod-key-of-admin-5d80a4"
"""As the demo's admin has it."""

_DEMO = files("pytest_erp_sandbox.demo").joinpath("data.sql")
_TAKEN = ("user", "societe", "socpeople", "product", "facture", "facturedet")
"""Tables whose rows are the demo's, so that features/ finds whom it knows."""


_CONF = {"host": "host", "port": "port", "name": "dbname", "user": "user", "pass": "password"}


class SmtpSink:
    """A mail server on this machine that takes whatever comes."""

    def __init__(self) -> None:
        self.mails: list[str] = []
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 sink\r\n")
                while line := self.rfile.readline().strip():
                    word = line[:4].upper()
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        mail = b"".join(iter(self.rfile.readline, b".\r\n"))
                        sink.mails.append(mail.decode(errors="replace"))
                    elif word == b"QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return
                    self.wfile.write(b"250 ok\r\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> SmtpSink:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True)
class RealDolibarr:
    """A prod whose ERP is a real Dolibarr, and an empty sandbox.

    Attributes:
        htdocs: the tree.
        server: where both databases are.
        sandbox_dsn: of the sandbox's login.
        dump: of prod.
        sink: prod's mail server.
    """

    htdocs: Path
    server: Server
    sandbox_dsn: SecretStr
    dump: Path
    sink: SmtpSink

    def settings(self, cache: Path, **top: object) -> dict[str, Any]:
        return {
            **top,
            "prod": {"dump": self.dump},
            "golden": {"path": cache},
            "agent": {"rights": ["societe.*", "produit.*", "facture.*"]},
            "sandbox": {"dsn": self.sandbox_dsn, "erp": {"htdocs": self.htdocs}},
        }

    def activate_in_sandbox(self, folder: Path, module: str) -> None:
        """Activate a module, as an administrator of the sandbox's ERP could."""
        place = conninfo_to_dict(self.sandbox_dsn.get_secret_value())
        values = {
            "url_root": "http://127.0.0.1",
            "document_root": self.htdocs,
            "data_root": folder,
            "db_type": "pgsql",
            **{f"db_{name}": place[each] for name, each in _CONF.items()},
        }
        conf = folder / "conf" / "conf.php"
        conf.parent.mkdir()
        conf.write_text("<?php\n" + "".join(f"$dolibarr_main_{name} = '{value}';\n" for name, value in values.items()))
        activate(self.htdocs, folder, module, PGOPTIONS="-c role=erp_sandbox_role")

    def only_read(self) -> SecretStr:
        """Prod, for a login that can only read, made as people make it."""
        place = conninfo_to_dict(self.server.dsn("dolibarr").get_secret_value())
        names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD"}
        script = Path(__file__).parents[2] / "deploy" / "dump-role.sql"
        subprocess.run(
            [self.server.programs / "psql", "-Xqv", "owner=dolibarr", "-v", "login=erp_dumper", "-f", script],
            env={**os.environ, **{name: str(place[key]) for key, name in names.items()}},
            check=True,
        )
        run(self.server.dsn(), "ALTER ROLE erp_dumper PASSWORD 'only reads'")
        return self.server.dsn("dolibarr", "erp_dumper", SecretStr("only reads"))

    @property
    def admin(self) -> SecretStr:
        """The DSN of a superuser in the sandbox."""
        return self.server.dsn("erp-sandbox")


@contextmanager
def real_dolibarr() -> Iterator[RealDolibarr]:
    named = os.environ.get("ERP_SANDBOX_TEST_DOLIBARR")
    if named is None:
        pytest.skip("needs a Dolibarr's htdocs, named by ERP_SANDBOX_TEST_DOLIBARR")
    htdocs = Path(named).resolve()
    with ExitStack() as stack:
        folder = server_folder(f"erp-sandbox-tests-dolibarr-{os.getpid()}")
        stack.callback(shutil.rmtree, folder)
        programs = VERSIONS["15"] if VERSIONS["15"] is not None and VERSIONS["15"].exists() else None
        server = stack.enter_context(Server(folder / "server", programs, settings=SETTINGS))
        sink = stack.enter_context(SmtpSink())
        password = secrets.token_hex(8)
        with connect(server.dsn()) as connection:
            for statement in (
                f"CREATE ROLE dolibarr LOGIN PASSWORD '{password}'",
                "CREATE DATABASE dolibarr OWNER dolibarr",
                "CREATE ROLE erp_sandbox_role",
                f"CREATE ROLE erp_sandbox_login LOGIN PASSWORD '{password}' IN ROLE erp_sandbox_role",
                'CREATE DATABASE "erp-sandbox" OWNER erp_sandbox_role',
                "REVOKE CONNECT ON DATABASE dolibarr FROM PUBLIC",
            ):
                connection.execute(statement.encode())
        _install(htdocs, folder, server.dsn("dolibarr", "dolibarr", SecretStr(password)), sink)
        dump = folder / "prod.dump"
        pg_dump = shutil.which("pg_dump") if programs is None else programs / "pg_dump"
        prod = server.dsn("dolibarr").get_secret_value()
        _fill(server.dsn("dolibarr"))
        subprocess.run([str(pg_dump), "-Fc", f"--file={dump}", f"--dbname={prod}"], check=True, capture_output=True)
        sandbox = server.dsn("erp-sandbox", "erp_sandbox_login", SecretStr(password))
        yield RealDolibarr(htdocs, server, sandbox, dump, sink)


def _install(htdocs: Path, folder: Path, dsn: SecretStr, sink: SmtpSink) -> None:
    """Install a Dolibarr, by its own pages, into the database; its configuration and documents are in the folder."""
    place = conninfo_to_dict(dsn.get_secret_value())
    conf = folder / "prod" / "conf" / "conf.php"
    conf.parent.mkdir(parents=True)
    conf.write_text("<?php\n")
    documents = folder / "documents"
    documents.mkdir()
    database = [
        "pgsql",
        place["host"],
        place["dbname"],
        place["user"],
        place["password"],
        place["port"],
        "llx_",
        "",
        "",
    ]
    steps = (
        ["step1.php", "-c", conf, "set", "en_US", htdocs, documents, "http://127.0.0.1", "", "", *database],
        ["step2.php", "-c", conf, "set", "en_US"],
        ["step5.php", "-c", conf, "", "", "en_US", "set", "admin", "adminpass", "adminpass"],
    )
    for step in steps:
        subprocess.run([PHP, *map(str, step)], cwd=htdocs / "install", check=True, capture_output=True)
    activate(
        htdocs,
        conf.parent.parent,
        MODULES,
        "MAIN_INFO_SOCIETE_COUNTRY=1:FR:France",
        "MAIN_MONNAIE=EUR",
        "MAIN_INFO_SOCIETE_NOM=Prod",
        "MAIN_MAIL_EMAIL_FROM=erp@prod.example",
        "NOTIFICATION_EMAIL_FROM=erp@prod.example",
        "MAIN_MAIL_SENDMODE=smtps",
        "MAIN_MAIL_SMTP_SERVER=localhost",
        f"MAIN_MAIL_SMTP_PORT={sink.port}",
        # Dolibarr encrypts what is called a key.
        "GEOCODER_API_KEY=prod's own",
        "NOTIFICATION_FIXEDEMAIL_BILL_VALIDATE_THRESHOLD_HIGHER_0=boss@customer.example",
    )


def _fill(dsn: SecretStr) -> None:
    """Give prod the demo's users, third parties, products and invoices, with the demo's numbers."""
    run(dsn, "SELECT setval('llx_user_rowid_seq', 1, false)")
    for statement in re.split(r";\n", _DEMO.read_text(encoding="utf-8")):
        if re.search(rf"(INSERT INTO|UPDATE) llx_({'|'.join(_TAKEN)})\b", statement):
            # Its own installer has made the admin.
            run(dsn, f"{statement} ON CONFLICT DO NOTHING" if "INTO llx_user" in statement else statement)
    run(dsn, f"UPDATE llx_user SET api_key = '{PROD_KEY}' WHERE login = 'admin'")


def activate(htdocs: Path, configured: Path, modules: str, *constants: str, **environment: str) -> None:
    """Activate modules and set constants, by Dolibarr's own code; ``configured`` has a conf/conf.php."""
    script = Path(__file__).with_name("activate.php")
    options = ["-d", f"include_path={configured}:."]
    done = subprocess.run(
        [PHP, *options, script, htdocs, modules, *constants],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    # Where it cannot begin, Dolibarr says so, and ends as if all were well.
    assert done.stdout.endswith("activated\n"), done.stdout
