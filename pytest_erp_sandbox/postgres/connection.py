"""Connections to prod and to the sandbox, as types that cannot be mistaken for one another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.abc import Params, Query
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from ..errors import PostgresError, SettingsError

__all__ = [
    "APPLICATION_NAME",
    "IDENTITY",
    "Address",
    "DatabaseIdentity",
    "Login",
    "ProdConnection",
    "ProdDatabase",
    "SandboxConnection",
    "SandboxDatabase",
    "answers",
    "as_owner",
    "connection_parameters",
    "dsn_of",
    "identify",
    "milliseconds",
    "quoted_role",
    "role_option",
]

APPLICATION_NAME = "erp-sandbox"

CONNECT_TIMEOUT = 10
"""Seconds until an unreachable server is given up on, where the DSN says nothing else."""

# libpq takes a password from the environment, but none of these.
_UNSUPPORTED_SECRETS = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")

# Files of this machine's; and what means the same on every other one.
_CERTIFICATES = {"sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir"}
_SHARED = {
    "dbname",
    "options",
    "application_name",
    "connect_timeout",
    "target_session_attrs",
    "load_balance_hosts",
    "gssencmode",
    "require_auth",
    "channel_binding",
    "sslmode",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
}

# What is added to, or has a default here: it must be known, wherever it stands.
_LOOKED_UP = ("options", "connect_timeout")

# What a database or a login may have set otherwise. Ending sessions needs the login's own identity; names are compared;
# our statements have backslashes in strings; and a transaction has to see what others have done since it began. Said
# once connected: as options of the session, a pooler in session mode would refuse them.
_ALIKE = """
SET ROLE NONE;
SET quote_all_identifiers = off;
SET standard_conforming_strings = on;
SET default_transaction_isolation = 'read committed'
"""


class ProdConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection to prod; its server was asked to refuse every write.

    In autocommit mode, psycopg begins no transaction, and so says nowhere that it is to be READ ONLY: ``execute`` does.
    """

    def execute(
        self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run a statement; outside a transaction in one of its own, which is READ ONLY by its own statement."""
        is_idle = self.info.transaction_status == pq.TransactionStatus.IDLE
        with self.transaction() if is_idle else nullcontext():
            # Overloaded there: a template string takes no parameters.
            return super().execute(query, params, prepare=prepare, binary=binary)  # type: ignore[arg-type]


class SandboxConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection to a sandbox, with the sandbox's own credentials."""


@dataclass(frozen=True)
class DatabaseIdentity:
    """Which database this is, by whatever name it was reached.

    Attributes:
        system_identifier: the server's, from ``pg_control_system()``; the same on its standbys.
        oid: the database's, within that server.
    """

    system_identifier: int
    oid: int

    def __str__(self) -> str:
        return f"{self.system_identifier}/{self.oid}"


IDENTITY = (
    "SELECT (SELECT system_identifier FROM pg_control_system()), oid::bigint"
    " FROM pg_database WHERE datname = current_database()"
)
"""The question that tells which database this is: a row of ``DatabaseIdentity``'s two."""


def identify(connection: psycopg.Connection[Any]) -> DatabaseIdentity:
    """Ask the server which database ``connection`` has reached."""
    row = connection.execute(IDENTITY).fetchone()
    assert row is not None
    return DatabaseIdentity(*row)


def connection_parameters(dsn: SecretStr, setting: str) -> dict[str, str]:
    """Take a DSN (URI or ``key=value`` pairs) apart, as libpq does.

    Args:
        dsn: the DSN. What it leaves out comes from libpq's own places: ``PGSERVICE``, ``PGPASSFILE``, ``PGHOST``, …
        setting: the setting that it stands in, for the error.

    Raises:
        SettingsError: libpq does not understand it, or it holds a secret that cannot be handed on safely.
    """
    try:
        parameters = conninfo_to_dict(dsn.get_secret_value())
    except psycopg.Error:
        parameters = None
    if parameters is None:
        # Raised here, unchained: libpq quotes the DSN, password and all.
        raise SettingsError(
            f"{setting} is not a PostgreSQL DSN",
            hint="Write postgresql://user@host:5432/database, or host=… dbname=…; special characters in a URI are"
            " percent-encoded.",
        )
    unsupported = [name for name in _UNSUPPORTED_SECRETS if name in parameters]
    if unsupported:
        del parameters  # a traceback that shows local variables must not show these
        raise SettingsError(
            f"{setting} has {unsupported[0]}, which pg_dump could only take on its command line, where all can read it",
            hint="Use a password, a passfile, or an unencrypted client key that only you can read.",
        )
    return {name: str(value) for name, value in parameters.items() if value is not None}


def dsn_of(parameters: Mapping[str, str]) -> SecretStr:
    """The DSN with these of libpq's parameters."""
    return SecretStr(make_conninfo(**parameters))


def _line(text: bytes) -> SecretStr:
    """Text that is told as a line.

    Raises:
        PostgresError: it cannot be.
    """
    try:
        told = SecretStr(text.decode())
    except UnicodeDecodeError:
        told = None
    if told is None or b"\n" in text:
        # Raised here, unchained: the error would have the text.
        del text
        raise PostgresError("its login is not UTF-8, or has a line feed in it")
    return told


def _has_root() -> bool:
    """Whether libpq has a certificate to compare servers' with, even if it was not told to (``sslmode=require``)."""
    return Path("~/.postgresql/root.crt").expanduser().exists()


def _looked_up(parameters: Mapping[str, str]) -> dict[str, str]:
    """Of ``_LOOKED_UP``, what libpq itself would use: from the DSN, a service file or the environment."""
    asked = {name: value for name, value in parameters.items() if name in ("service", "servicefile", *_LOOKED_UP)}
    # libpq reads all its places before it connects, and this leads nowhere.
    attempt = pq.PGconn.connect_start(make_conninfo(**asked, host="/nowhere", hostaddr="").encode())
    try:
        known = {option.keyword.decode(): option.val for option in attempt.info}
    finally:
        attempt.finish()
    return {name: value.decode() for name in _LOOKED_UP if (value := known.get(name))}


Login = Callable[[], Mapping[str, SecretStr]]
"""Gives ``user`` and ``password`` as they are at this moment."""

Address = tuple[str, str]
"""Host and port."""

_PROOF = "scram-sha-256"
"""The one way of logging in by which a server, too, shows that it knows the password; nobody else learns it."""


def milliseconds(timeout: timedelta) -> int:
    """For how long to wait for a lock, as the server and its programs take it: never 0, which would be for ever."""
    return max(1, int(timeout.total_seconds() * 1000))


def answers(parameters: Mapping[str, str], patience: timedelta) -> bool:
    """Whether the server that these lead to is the one that they mean, and not just one that listens there.

    Args:
        parameters: libpq's. Unless they say by what the server is known (``require_auth``, ``sslmode=verify-full``), it
            has to know the password.
        patience: for each of its addresses.
    """
    is_known = "require_auth" in parameters or parameters.get("sslmode") == "verify-full"
    asked = {**parameters, "connect_timeout": str(int(patience.total_seconds()))}
    asked |= {"options": "-c default_transaction_read_only=on"} | ({} if is_known else {"require_auth": _PROOF})
    try:
        psycopg.connect(**asked).close()  # type: ignore[arg-type]
    except psycopg.Error:
        return False
    return True


def _is_known_elsewhere(host: str) -> bool:
    """Whether all other machines understand the same by a host as this one."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        # A short name is another host's in each namespace.
        return "." in host.strip(".") and not host.casefold().startswith(("/", "@", "localhost"))
    address = getattr(address, "ipv4_mapped", None) or address
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)


@dataclass(frozen=True)
class _Database:
    """Where a database is, and how to log in.

    Attributes:
        dsn: as the settings have it.
        setting: the setting it stands in, for messages.
        login: gives user and password of the moment, for each session anew; they win over the DSN's.
        at: what to call the place, where host and port say nothing lasting.
        address: its own, where host and port are those of a port-forward.
    """

    dsn: SecretStr
    setting: str
    login: Login | None = field(default=None, repr=False, compare=False, kw_only=True)
    at: str | None = field(default=None, compare=False, kw_only=True)
    address: Address | None = field(default=None, repr=False, compare=False, kw_only=True)
    _parameters: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = connection_parameters(self.dsn, self.setting)
        object.__setattr__(self, "_parameters", {"connect_timeout": str(CONNECT_TIMEOUT), **given, **_looked_up(given)})

    @property
    def password(self) -> SecretStr | None:
        """The DSN's password, if it has one; it may also come from a passfile or the environment."""
        password = self._parameters.get("password")
        return None if password is None else SecretStr(password)

    def options(self) -> str:
        """What the server is told at the start of each session (``-c name=value …``)."""
        return self._parameters.get("options", "")

    def public_conninfo(self, application_name: str = APPLICATION_NAME, options: str = "") -> str:
        """A conninfo string for a child program's command line: everything but the password.

        Args:
            application_name: what the session is called in ``pg_stat_activity``.
            options: further session settings, ``-c name=value …``.
        """
        parameters = self._all_parameters(application_name, options)
        for name in ("password", *(("user",) if self.login else ())):
            parameters.pop(name, None)
        return make_conninfo(**parameters)

    def _all_parameters(self, application_name: str, options: str) -> dict[str, str]:
        options = f"{self.options()} {options}".strip()
        return {**self._parameters, "application_name": application_name, "options": options}

    def _own_parameters(self, application_name: str, options: str = "") -> dict[str, str]:
        """Those of our own sessions, which speak UTF-8 whatever the environment or the database does."""
        login = {name: value.get_secret_value() for name, value in self.login().items()} if self.login else {}
        return {**self._all_parameters(application_name, options), "client_encoding": "UTF8", **login}

    def secret_environment(self) -> dict[str, SecretStr]:
        """The password as libpq's programs take it, for a child program's environment; and a user that may change."""
        if self.login is not None:
            return {f"PG{name.upper()}": value for name, value in self.login().items()}
        return {} if self.password is None else {"PGPASSWORD": self.password}

    def __str__(self) -> str:
        shown = self._parameters
        database = repr(shown["dbname"]) if "dbname" in shown else "the default database"
        if self.at is not None:
            return f"{database} at {self.at}"
        service = f"service {shown['service']!r}" if "service" in shown else "libpq's default host"
        place = shown.get("host") or shown.get("hostaddr") or service
        port = f":{shown['port']}" if "port" in shown else ""
        return f"{database} at {place}{port}"


def _refused(database: _Database, error: psycopg.Error) -> PostgresError:
    reason = " ".join(str(error).split()) or "no reason given"
    hint = f"Try it with psql; {database.setting} takes what libpq takes (PGPASSFILE, PGSERVICE, sslmode, …)."
    if "unsupported startup parameter" in reason:
        hint = "That is a pooler's answer: connect to the server itself, its own host and port."
    return PostgresError(f"cannot connect to {database} ({database.setting}): {reason}", hint=hint)


@contextmanager
def _opening(database: _Database) -> Iterator[ExitStack]:
    """A session is being opened: what fails until it is ready is said as an error of ours, and undoes the stack."""
    try:
        with ExitStack() as stack:
            yield stack
    except psycopg.Error as error:
        raise _refused(database, error) from None


@dataclass(frozen=True)
class ProdDatabase(_Database):
    """Prod: the truth, only ever read.

    Every session, ours and pg_dump's, is told ``default_transaction_read_only=on``; preflight asks the server whether
    that holds. Whatever we ask, and whatever pg_dump copies, is asked in a transaction that says READ ONLY itself, too.
    It guards against our own mistakes; only a login that cannot write makes it structural.
    """

    lock_timeout: str = "5s"

    def options(self) -> str:
        """Read-only, and never queueing for a lock longer than ``lock_timeout``."""
        return (
            f"{super().options()} -c default_transaction_read_only=on -c lock_timeout={self.lock_timeout}"
            " -c idle_in_transaction_session_timeout=0 -c quote_all_identifiers=off"
        )

    def connect(self) -> ProdConnection:
        """Open a session that the server itself says is read-only.

        Raises:
            PostgresError: the server cannot be reached, or does not say so.
        """
        with _opening(self) as stack:
            connection = ProdConnection.connect(**self._own_parameters(APPLICATION_NAME), autocommit=True)  # type: ignore[arg-type]
            stack.callback(connection.close)
            connection.read_only = True
            if connection.execute("SHOW default_transaction_read_only").fetchone() != ("on",):
                raise PostgresError(
                    f"{self} ({self.setting}) ignored default_transaction_read_only=on; nothing was read",
                    hint="A pooler between here and the server drops session settings: connect to the server directly.",
                )
            stack.pop_all()
            return connection

    def from_elsewhere(self, connection: ProdConnection) -> tuple[str, Mapping[str, SecretStr]]:
        """How a program on another machine connects to the same database, with the login of an open session.

        Returns:
            What its command line gets (a conninfo), and what its environment: ``PGUSER``, ``PGPASSWORD``.

        Raises:
            PostgresError: it cannot, or not as safely; the message says why.
        """
        return _from_elsewhere(self, connection, "prod")


@dataclass(frozen=True)
class SandboxDatabase(_Database):
    """A sandbox: the database that resets wipe.

    Attributes:
        role: the role that owns it and everything in it; the login is a member.
        may_lose: what a wipe may take although no restore gives it back.
    """

    role: str = "erp_sandbox_role"
    may_lose: tuple[str, ...] = ()

    def connect(self, application_name: str = APPLICATION_NAME, options: str = "") -> SandboxConnection:
        """Open a session, in autocommit mode, as the login itself.

        Args:
            application_name: what the session is called in ``pg_stat_activity``.
            options: further session settings, ``-c name=value …``.

        Raises:
            PostgresError: the server cannot be reached or refuses the login.
        """
        with _opening(self) as stack:
            connection = SandboxConnection.connect(**self._own_parameters(application_name, options), autocommit=True)  # type: ignore[arg-type]
            stack.callback(connection.close)
            connection.execute(_ALIKE)
            stack.pop_all()
            return connection

    def from_elsewhere(self, connection: SandboxConnection) -> tuple[str, Mapping[str, SecretStr]]:
        """How a program on another machine connects to the same database; as prod's has it."""
        return _from_elsewhere(self, connection, "the sandbox")


def _from_elsewhere(
    database: _Database, connection: psycopg.Connection[Any], called: str
) -> tuple[str, Mapping[str, SecretStr]]:
    host, port = database.address or (connection.info.host, str(connection.info.port))
    if not all(map(_is_known_elsewhere, host.split(","))):
        raise PostgresError(f"no host is set by which it could reach {called}, only {host or 'a port-forward'}")
    # What is as libpq has it anyway is not said: an older one there would not know all of it.
    said = {
        name: option.val.decode()
        for option in connection.pgconn.info
        if (name := option.keyword.decode()) in _SHARED | _CERTIFICATES and option.val and option.val != option.compiled
    }
    if said.get("sslmode", "").startswith("verify-") or said.keys() & _CERTIFICATES or _has_root():
        raise PostgresError("servers are compared with a certificate, which is a file on this machine")
    # A passfile's password is not among what is said.
    secrets = {"PGUSER": _line(connection.pgconn.user), "PGPASSWORD": _line(connection.pgconn.password)}
    return make_conninfo(**said, host=host, port=port), secrets


def quoted_role(role: str) -> str:
    """The role's name as ``regrole`` takes it (``to_regrole``, ``::regrole``)."""
    return sql.Identifier(role).as_string()


def role_option(role: str) -> str:
    """The session option with which a program's session acts as ``role`` from its start."""
    # A space within an option is escaped with a backslash.
    escaped = re.sub(r"([\\\s])", r"\\\1", role)
    return f"-c role={escaped}"


@contextmanager
def as_owner(connection: SandboxConnection, role: str) -> Iterator[None]:
    """A transaction in which ``connection`` acts as the sandbox's owner role."""
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        yield
