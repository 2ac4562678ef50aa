from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from pydantic import SecretStr

from pytest_erp_sandbox.demo.account import Account
from pytest_erp_sandbox.demo.server import Server, server_folder
from pytest_erp_sandbox.errors import PostgresError, SettingsError
from pytest_erp_sandbox.postgres.clients import installed_toolsets
from pytest_erp_sandbox.postgres.connection import (
    ProdConnection,
    ProdDatabase,
    SandboxConnection,
    SandboxDatabase,
    answers,
    as_owner,
)

from ..servers import SETTINGS, Servers, connect
from .pairs import PASSWORD, Side, dump, eventually, make_prod, make_sandbox, toolset

HIDDEN = SecretStr("hush-71bd40")


@pytest.fixture(scope="module")
def prod(server: Server) -> Side:
    return make_prod(server, "CREATE TABLE t (id integer)")


def settings_of(database: ProdDatabase | SandboxDatabase, *names: str) -> list[str]:
    with database.connect() as connection:
        return [connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in names]  # type: ignore[index]


def in_psql(database: ProdDatabase | SandboxDatabase, statement: str) -> str:
    """What a child program's session says; Debian's, as the wheel's knows no TLS."""
    psql = toolset(15).program("psql")
    secrets = {name: secret.get_secret_value() for name, secret in database.secret_environment().items()}
    done = subprocess.run(
        [psql, "--no-psqlrc", "-At", f"--dbname={database.public_conninfo()}", f"--command={statement}"],
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_password_of_any_characters_gets_through(prod: Side) -> None:
    assert in_psql(prod.prod, "SELECT current_user") == prod.login
    assert settings_of(prod.prod, "session_authorization") == [prod.login]


@pytest.mark.parametrize("style", ["uri", "pairs"])
def test_options_in_the_dsn_are_kept_and_ours_win(prod: Side, style: str) -> None:
    options = r"-c work_mem=123kB -c DateStyle=ISO,\ DMY -c default_transaction_read_only=off"
    dsn = prod.dsn.get_secret_value()
    dsn = f"{dsn}?options={quote(options)}" if style == "uri" else make_conninfo(dsn, options=options)
    database = ProdDatabase(SecretStr(dsn), "prod.dsn")

    assert settings_of(database, "work_mem", "DateStyle", "default_transaction_read_only") == [
        "123kB",
        "ISO, DMY",
        "on",
    ]
    assert in_psql(database, "SHOW work_mem") == "123kB"
    assert in_psql(database, "SHOW default_transaction_read_only") == "on"


def test_options_in_the_environment_are_kept_and_ours_win(prod: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=123kB -c default_transaction_read_only=off")

    assert settings_of(prod.prod, "work_mem", "default_transaction_read_only") == ["123kB", "on"]
    assert in_psql(prod.prod, "SHOW work_mem") == "123kB"
    assert in_psql(prod.prod, "SHOW default_transaction_read_only") == "on"


def test_a_service_file_and_a_passfile_are_read_and_ours_win(
    prod: Side, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services, passwords = tmp_path / "services", tmp_path / "passwords"
    services.write_text(
        f"[erp]\nhost=127.0.0.1\nport={prod.server.port}\ndbname={prod.name}\nuser={prod.login}\n"
        "options=-c work_mem=321kB -c default_transaction_read_only=off\nconnect_timeout=7\n"
    )
    passwords.write_text(f"*:*:*:{prod.login}:{PASSWORD.get_secret_value().replace(chr(92), chr(92) * 2)}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGPASSFILE", str(passwords))

    both = "SELECT current_setting('work_mem') || ' ' || current_setting('default_transaction_read_only')"
    for dsn in ("service=erp", ""):
        monkeypatch.setenv("PGSERVICE", "erp" if not dsn else "other")
        database = ProdDatabase(SecretStr(dsn), "prod.dsn")

        assert settings_of(database, "work_mem", "default_transaction_read_only") == ["321kB", "on"]
        assert in_psql(database, both) == "321kB on"
        assert "connect_timeout=7" in database.public_conninfo()
        assert database.secret_environment() == {}


def test_a_login_that_has_read_only_switched_off_does_not_defeat_us(prod: Side) -> None:
    prod.administrate(
        f'ALTER ROLE "{prod.login}" SET default_transaction_read_only = off',
        f'ALTER DATABASE "{prod.name}" SET default_transaction_read_only = off',
        f'ALTER ROLE "{prod.login}" IN DATABASE "{prod.name}" SET default_transaction_read_only = off',
    )

    assert settings_of(prod.prod, "default_transaction_read_only") == ["on"]
    assert in_psql(prod.prod, "SHOW default_transaction_read_only") == "on"
    with prod.prod.connect() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("CREATE TEMP TABLE probe ()")


def test_whatever_prod_is_asked_says_read_only_itself_and_what_fails_spoils_nothing(prod: Side) -> None:
    with prod.prod.connect() as connection:
        connection.execute("SET default_transaction_read_only = off")
        for _ in range(2):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("CREATE TEMP TABLE probe ()")
            assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
            assert connection.info.transaction_status == TransactionStatus.IDLE
        with connection.transaction(), pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TEMP TABLE probe ()")


@pytest.mark.parametrize("kind", [ProdConnection, SandboxConnection])
def test_a_session_that_ends_before_it_is_ready_is_a_clear_error(
    server: Server, monkeypatch: pytest.MonkeyPatch, kind: type[psycopg.Connection[tuple[object, ...]]]
) -> None:
    """Stands in for an administrator who ends it just then."""
    side, execute = make_sandbox(server), kind.execute

    def execute_too_late(connection: psycopg.Connection[tuple[object, ...]], *arguments: Any) -> object:
        side.administrate(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
        return execute(connection, *arguments)

    monkeypatch.setattr(kind, "execute", execute_too_late)
    database = side.prod if kind is ProdConnection else side.sandbox
    with pytest.raises(PostgresError, match=r"cannot connect to .*: terminating connection due to administrator"):
        database.connect()


def test_a_sandboxs_login_is_itself_whatever_it_was_told_to_be(server: Server) -> None:
    sandbox = make_sandbox(server)
    sandbox.administrate(f"ALTER ROLE \"{sandbox.login}\" SET role = '{sandbox.role}'")

    with sandbox.sandbox.connect() as connection:
        assert connection.execute("SELECT current_user").fetchone() == (sandbox.login,)
        with as_owner(connection, sandbox.role):
            assert connection.execute("SELECT current_user").fetchone() == (sandbox.role,)
        assert connection.execute("SELECT current_user").fetchone() == (sandbox.login,)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:hush-71bd40@host/db?nonsense=1",
        "host=x password=hush-71bd40 nonsense",
        "host=x password='hush-71bd40",
        "postgresql://me:hush-71bd40@host/%zz",
        "host=x sslpassword=hush-71bd40 password=hush-71bd40",
    ],
)
def test_a_bad_dsn_is_named_by_its_setting_and_not_shown(dsn: str) -> None:
    secret = SecretStr(dsn)
    del dsn
    with pytest.raises(SettingsError, match=r"^prod.dsn (is not a PostgreSQL DSN|has \w+, which)") as caught:
        ProdDatabase(secret, "prod.dsn")

    assert HIDDEN.get_secret_value() not in with_locals(caught.value)


def with_locals(error: BaseException) -> str:
    """As a traceback shows it that is asked to show everything; but the tests' own frames, which hold the secrets."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    each: traceback.TracebackException | None = shown
    while each is not None:
        each.stack[:] = [frame for frame in each.stack if "/tests/" not in frame.filename]
        each = each.__context__
    return "".join(shown.format())


@pytest.mark.parametrize("kind", ["wrong password", "no server", "no database", "no such host"])
def test_an_unreachable_database_gets_one_clear_message(prod: Side, kind: str) -> None:
    hidden = HIDDEN.get_secret_value()
    good = f"127.0.0.1:{prod.server.port}"
    dsn, message = {
        "wrong password": (f"postgresql://{prod.login}:{hidden}@{good}/{prod.name}", "password authentication failed"),
        "no server": (f"postgresql://me:{hidden}@127.0.0.1:1/erp", "Connection refused"),
        "no database": (
            f"postgresql://{prod.login}:{quote(PASSWORD.get_secret_value(), safe='')}@{good}/{hidden[:4]}-none",
            'database "hush-none" does not exist',
        ),
        "no such host": (f"postgresql://me:{hidden}@nowhere.invalid/erp", "nowhere.invalid"),
    }[kind]

    for database in (ProdDatabase(SecretStr(dsn), "prod.dsn"), SandboxDatabase(SecretStr(dsn), "sandbox.dsn")):
        with pytest.raises(PostgresError) as caught:
            database.connect()

        first, hint = str(caught.value).split("\n")
        assert first.startswith("cannot connect to '")
        assert database.setting in first
        assert message in first
        assert hint.startswith("  → ")
        assert hidden not in with_locals(caught.value)


def test_a_database_shows_no_secret() -> None:
    dsn = f"postgresql://me:{HIDDEN.get_secret_value()}@host:5/db"
    for database in (ProdDatabase(SecretStr(dsn), "prod.dsn"), SandboxDatabase(SecretStr(dsn), "sandbox.dsn")):
        shown = f"{database} {database!r} {database.public_conninfo()} {database.secret_environment()}"
        assert HIDDEN.get_secret_value() not in shown
        assert str(database) == "'db' at host:5"


def test_no_password_is_in_a_running_pg_dumps_arguments(server: Server, tmp_path: Path) -> None:
    prod = make_prod(server, "CREATE TABLE t (id integer)")
    seen: list[str] = []

    def look() -> None:
        while not done.is_set():
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    command = file.read_text(errors="replace")
                except OSError:
                    continue
                if "pg_dump" in command and prod.name in command:
                    seen.append(command)

    done = threading.Event()
    looker = threading.Thread(target=look)
    looker.start()
    try:
        dump(prod, tmp_path)
    finally:
        done.set()
        looker.join()

    assert seen
    assert not [command for command in seen if "pa55" in command]


@pytest.fixture(scope="module")
def encrypted(servers: Servers) -> Iterator[tuple[Side, Path]]:
    """A prod whose server has a certificate for ``localhost``; and that certificate, which nobody else vouches for."""
    folder = server_folder(f"erp-sandbox-tests-encrypted-{os.getpid()}")
    with Server(folder / "server", servers["15"].programs, settings=SETTINGS) as server:
        certificate, key = server.folder / "server.pem", server.folder / "server.key"
        write_certificate(certificate, key)
        with connect(server.dsn()) as admin:
            for name, value in {"ssl": "on", "ssl_key_file": key, "ssl_cert_file": certificate}.items():
                admin.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            admin.execute("SELECT pg_reload_conf()")
        yield make_prod(server, "CREATE TABLE t (id integer)"), certificate
    shutil.rmtree(folder)


def write_certificate(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(
            name, name, private.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.touch(mode=0o600)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    Account.for_server().give(key)


def test_a_servers_certificate_is_verified_by_us_and_by_child_programs(
    encrypted: tuple[Side, Path], servers: Servers
) -> None:
    prod, certificate = encrypted
    demands = {"hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": str(certificate)}

    def at(host: str) -> ProdDatabase:
        return ProdDatabase(SecretStr(make_conninfo(prod.dsn.get_secret_value(), host=host, **demands)), "prod.dsn")

    eventually(lambda: settings_of(at("localhost"), "ssl") == ["on"])
    assert in_psql(at("localhost"), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"

    # Whoever's programs cannot do what the DSN asks for says so before anything is dumped.
    installed_toolsets(servers["15"].programs)[0].reach(at("localhost"))
    with pytest.raises(PostgresError, match=r"with the PostgreSQL 18.*SSL support is not compiled in") as without:
        installed_toolsets(servers["18"].programs)[0].reach(at("localhost"))
    assert "the setting programs" in without.value.hint

    # The same server by a name that its certificate does not have.
    with pytest.raises(PostgresError, match="does not match host name"):
        at("elsewhere").connect()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        in_psql(at("elsewhere"), "SELECT 1")
    assert "does not match host name" in caught.value.stderr


def from_elsewhere(prod: ProdDatabase) -> tuple[dict[str, Any], dict[str, str]]:
    """What programs elsewhere are told, and what is secret of it."""
    with prod.connect() as connection:
        conninfo, secrets = prod.from_elsewhere(connection)
    return conninfo_to_dict(conninfo), {name: secret.get_secret_value() for name, secret in secrets.items()}


def test_programs_elsewhere_get_the_servers_own_address_and_what_holds_here(
    prod: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = conninfo_to_dict(prod.dsn.get_secret_value())
    password = str(given.pop("password"))
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    # Wherever it comes from: libpq is asked, not the DSN.
    passfile = tmp_path / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"*:*:*:*:{escaped}\n")
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    monkeypatch.setenv("PGSSLMODE", "allow")
    forwarded = ProdDatabase(
        SecretStr(make_conninfo(**given)),  # type: ignore[arg-type]
        "prod.dsn",
        at="statefulset/postgres",
        address=("postgres.erp.svc", "5433"),
    )
    told, secrets = from_elsewhere(forwarded)
    assert (told["host"], told["port"]) == ("postgres.erp.svc", "5433")
    assert (told["dbname"], told["sslmode"]) == (given["dbname"], "allow")
    assert "default_transaction_read_only=on" in told["options"]
    assert {"passfile", "password", "user"}.isdisjoint(told)
    assert secrets == {"PGUSER": given["user"], "PGPASSWORD": password}


@pytest.mark.parametrize(
    "host",
    ["", "postgres", "localhost", "Localhost.localdomain", "127.0.0.1", "::1", "::ffff:127.0.0.1", "::", "/run",
     "postgres.erp.svc,localhost"],
)  # fmt: skip
def test_a_host_that_means_something_else_elsewhere_is_told_to_nobody(prod: Side, host: str) -> None:
    there = ProdDatabase(prod.dsn, "prod.dsn", at="statefulset/postgres", address=(host, "5432"))
    with pytest.raises(PostgresError, match="no host is set by which it could reach prod"):
        from_elsewhere(there)


@pytest.mark.parametrize("host", ["postgres.erp.svc", "10.1.2.3", "fd00::17", "a.example.org,b.example.org"])
def test_a_host_that_means_the_same_elsewhere_is_told(prod: Side, host: str) -> None:
    there = ProdDatabase(prod.dsn, "prod.dsn", at="statefulset/postgres", address=(host, "5432"))
    assert from_elsewhere(there)[0]["host"] == host


@pytest.mark.parametrize("password", [b"pass\xe9", b"two\nlines"], ids=["not UTF-8", "a line feed"])
def test_a_password_that_cannot_be_told_as_a_line_is_told_to_nobody_and_not_shown(
    prod: Side, password: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passfile = tmp_path / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_bytes(b"*:*:*:*:" + password)
    with connect(prod.server.dsn()) as admin:
        verifier = admin.pgconn.encrypt_password(password, b"odd", b"scram-sha-256").decode()
        admin.execute(sql.SQL("CREATE ROLE odd LOGIN PASSWORD {}").format(verifier))
    given = {**conninfo_to_dict(prod.dsn.get_secret_value()), "user": "odd", "passfile": str(passfile)}
    if b"\n" in password:  # a passfile has lines
        given["password"] = password.decode()
    else:
        del given["password"]
    there = ProdDatabase(SecretStr(make_conninfo(**given)), "prod.dsn", address=("postgres.erp.svc", "5432"))  # type: ignore[arg-type]
    try:
        with pytest.raises(PostgresError, match="its login is not UTF-8, or has a line feed in it") as refused:
            from_elsewhere(there)
    finally:
        with connect(prod.server.dsn()) as admin:
            admin.execute("DROP ROLE odd")
    ours = refused.tb.tb_next  # not the test's own frame
    shown = "".join(traceback.TracebackException(PostgresError, refused.value, ours, capture_locals=True).format())
    assert "connection.py" in shown
    assert "pass\\xe9" not in shown
    assert "two\\nlines" not in shown


class Impostor(threading.Thread):
    """A server that is not the one that is meant: it asks whoever comes for the password, in plain."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.heard = b""
        self.start()

    def run(self) -> None:
        with self._server:
            while True:
                client, _ = self._server.accept()
                with client:
                    asked = client.recv(1000)
                    if asked[4:8] in (b"\x04\xd2\x16/", b"\x04\xd2\x160"):  # for TLS, for GSS: no
                        client.sendall(b"N")
                        client.recv(1000)
                    client.sendall(b"R\0\0\0\x08\0\0\0\x03")
                    self.heard += client.recv(1000)


def test_a_server_answers_where_it_shows_that_it_knows_the_password(prod: Side) -> None:
    parameters = {name: str(value) for name, value in conninfo_to_dict(prod.dsn.get_secret_value()).items()}
    assert answers(parameters, timedelta(seconds=2))
    assert not answers({**parameters, "password": "another"}, timedelta(seconds=2))


def test_an_impostor_does_not_answer_and_learns_nothing() -> None:
    impostor = Impostor()
    there = {"host": "127.0.0.1", "port": str(impostor.port), "user": "erp", "password": HIDDEN.get_secret_value()}
    assert not answers(there, timedelta(seconds=2))
    assert HIDDEN.get_secret_value().encode() not in impostor.heard
    # It would have, had it been asked as libpq asks anybody.
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**there, dbname="erp", connect_timeout=2)  # type: ignore[arg-type]
    eventually(lambda: HIDDEN.get_secret_value().encode() in impostor.heard)


def test_programs_elsewhere_do_not_go_without_the_certificates_that_are_asked_for_here(
    encrypted: tuple[Side, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prod, certificate = encrypted

    def asking(**demands: str) -> ProdDatabase:
        dsn = make_conninfo(prod.dsn.get_secret_value(), host="localhost", hostaddr="127.0.0.1", **demands)
        return ProdDatabase(SecretStr(dsn), "prod.dsn", address=("postgres.erp.svc", "5432"))

    eventually(lambda: settings_of(asking(sslmode="require"), "ssl") == ["on"])
    told, _ = from_elsewhere(asking(sslmode="require", ssl_min_protocol_version="TLSv1.3"))
    assert (told["sslmode"], told["ssl_min_protocol_version"]) == ("require", "TLSv1.3")
    with pytest.raises(PostgresError, match="compared with a certificate"):
        from_elsewhere(asking(sslmode="verify-full", sslrootcert=str(certificate)))
    with pytest.raises(PostgresError, match="compared with a certificate"):
        from_elsewhere(asking(sslmode="require", sslrootcert=str(certificate)))
    # libpq compares with this one, even if it is told of none.
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".postgresql").mkdir()
    shutil.copy(certificate, tmp_path / ".postgresql" / "root.crt")
    with pytest.raises(PostgresError, match="compared with a certificate"):
        from_elsewhere(asking(sslmode="require"))
