"""The invariants that make a sandbox safe to wipe and prod safe from us: one function each, each giving a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import LiteralString

from ..postgres.adoption import is_adopted
from ..postgres.clients import Clients
from ..postgres.connection import quoted_role
from ..postgres.extensions import trusted_extensions
from ..postgres.inventory import lost_by_wipe, not_allowed, owns_anything
from ..postgres.locks import USABLE_SHARE, lock_slots, locks_to_wipe
from ..postgres.privileges import definer_functions, server_grants, writable
from ..postgres.sessions import NOT_REFUSED, are_separate, has_own_backend, probe_writing
from .findings import Status
from .sides import ProdSide, SandboxSide
from .verdicts import AnySide, Verdict, failure, invariant, ok, warning

__all__ = [
    "ClientsFor",
    "accepts_writes",
    "client_programs_fit",
    "connection_is_direct",
    "has_no_administrators_attributes",
    "has_no_power_over_the_server",
    "is_a_database_of_its_own",
    "is_adopted_or_empty",
    "is_reachable",
    "login_is_a_member",
    "no_foreign_server_leads_out",
    "owns_no_other_database",
    "prod_asks_for_a_password",
    "prod_is_out_of_reach",
    "prod_login_cannot_write",
    "prod_session_is_read_only",
    "reaches_no_dangerous_role",
    "server_is_new_enough",
    "server_is_not_prods",
    "wipe_has_room_for_its_locks",
    "wipe_takes_nothing_for_good",
]

READ_ONLY_SQL_TRANSACTION = "25006"
"""The one SQLSTATE that proves a read-only transaction; 42501, permission denied, says nothing about it."""

OLDEST_SERVER = 15
"""The oldest major version for a sandbox; prod may be older, as long as a pg_dump can read it."""

ClientsFor = Callable[[int | None, int], Clients]
"""Given the major versions of prod, if there is one, and sandbox: the client programs, or an ErpSandboxError."""


@invariant("is reachable")
def is_reachable(side: AnySide) -> Verdict:
    """Whether its server lets the login in."""
    side.reach()
    return ok(f"database {side.name!r} on PostgreSQL {side.major}, as {side.login!r}")


@invariant("session is read-only")
def prod_session_is_read_only(prod: ProdSide) -> Verdict:
    """Whether the server says so, and refuses a write for that very reason."""
    probe = probe_writing(prod.connection)
    if probe.read_only and probe.sqlstate == READ_ONLY_SQL_TRANSACTION:
        return ok(f"the server says so, and refused CREATE TEMPORARY TABLE with {probe.sqlstate}")
    said = f"the server says transaction_read_only = {'on' if probe.read_only else 'off'}"
    if probe.sqlstate == NOT_REFUSED:
        tried = "let a temporary table be made, which was rolled back"
    else:
        tried = (
            f"refused a temporary table with SQLSTATE {probe.sqlstate}, which does not prove a read-only transaction"
        )
    return failure(
        f"{said}, and {tried}",
        "default_transaction_read_only=on is sent with each connection: look for what removes it, such as a pooler, or"
        " a trigger on login.",
    )


@invariant("login cannot write")
def prod_login_cannot_write(prod: ProdSide, *, required: bool) -> Verdict:
    """Whether prod is safe from us even if the session were not read-only; a warning, unless ``required``."""
    roles = prod.reached
    # BYPASSRLS is for reading here: pg_dump needs it where a table has row level security.
    powers = [
        f"{attribute} of {role}" for role in roles for attribute in role.attributes if attribute != "BYPASSRLS"
    ] + [f"membership in {role}" for role in roles if role.writes_anywhere]
    ways = powers + writable(prod.connection, roles)
    if ways:
        return Verdict(
            Status.FAILURE if required else Status.WARNING,
            f"{prod.login!r} may write: {_few(ways)}",
            "Give the dump a login that can only read: deploy/dump-role.sql makes its role.",
        )
    functions = definer_functions(prod.connection, roles)
    if functions:
        return warning(
            f"{prod.login!r} may write nothing itself, but run with others' rights: {_few(functions)}",
            "REVOKE EXECUTE ON FUNCTION … FROM PUBLIC, where these write.",
        )
    return ok(f"{prod.login!r} owns nothing, and has no privilege to write")


@invariant("asks for a password")
def prod_asks_for_a_password(prod: ProdSide) -> Verdict:
    """Whether a port-forward, which comes from within prod's pod, is not let in as anybody."""
    if prod.connection.pgconn.used_password or prod.connection.pgconn.used_gssapi:
        return ok("of those, too, who come by a port-forward")
    return warning(
        f"it let {prod.login!r} in by a port-forward without one: then, perhaps, its superuser, too",
        "In its pg_hba.conf, write scram-sha-256 for 127.0.0.1 and ::1, where the official image has trust; or reach it"
        " without prod.forward.",
    )


@invariant("connection is direct")
def connection_is_direct(side: AnySide) -> Verdict:
    """Whether a session is one server process from beginning to end, as its settings and its locks need."""
    own = side.connection
    remedy = "Connect to the server itself: its own host and port, not the pooler's."
    # A second session, for a pooler to mix up with the first.
    with side.connect() as other:
        if not are_separate(own, other):
            return failure("a pooler in transaction mode is in between: sessions share server processes", remedy)
    if not has_own_backend(own):
        if isinstance(side, SandboxSide):
            return failure(
                "a pooler is in between: whoever has leased the sandbox is known by its server process", remedy
            )
        return warning("a pooler is in between; it keeps each session to one server process", remedy)
    return ok("each session has a server process of its own")


@invariant("accepts writes")
def accepts_writes(sandbox: SandboxSide) -> Verdict:
    """Whether its server and its login let us write."""
    if _value(sandbox, "SHOW transaction_read_only") == "on":
        return failure(
            f"sessions of {sandbox.login!r} are read-only",
            f"{sandbox.database.setting} may lead to a standby; or default_transaction_read_only is on: in the DSN's"
            " options, in PGOPTIONS, or by ALTER ROLE or ALTER DATABASE … SET.",
        )
    return ok("transactions may write")


@invariant("server is new enough")
def server_is_new_enough(sandbox: SandboxSide) -> Verdict:
    """Whether the sandbox's server is of a version that wiping and its questions are made for."""
    if sandbox.major < OLDEST_SERVER:
        return failure(
            f"the server is PostgreSQL {sandbox.major}", f"Sandboxes need PostgreSQL {OLDEST_SERVER} or later."
        )
    return ok(f"PostgreSQL {sandbox.major}")


@invariant("is neither prod nor another sandbox")
def is_a_database_of_its_own(sandbox: SandboxSide, prod: ProdSide, sandboxes: Sequence[SandboxSide]) -> Verdict:
    """Whether no other setting leads to the same database, by whatever name."""
    same = [
        other.subject
        for other in sandboxes
        if other is not sandbox and other.is_reached and other.identity == sandbox.identity
    ]
    if same:
        return failure(
            f"database {sandbox.name!r} is also that of {', '.join(same)}", "Give each sandbox a database of its own."
        )
    if prod.database is not None and prod.identity == sandbox.identity:
        return failure(
            f"database {sandbox.name!r} is prod itself: prod.dsn and {sandbox.database.setting} lead to the same one"
            f" (system identifier and oid are {sandbox.identity} for both)",
            f"Point {sandbox.database.setting} to a sandbox. A physical copy of prod's server (snapshot, base backup)"
            " counts as prod, too: make the sandbox's server with initdb.",
        )
    return ok(f"system identifier and oid are {sandbox.identity}")


@invariant("is adopted, or empty")
def is_adopted_or_empty(sandbox: SandboxSide) -> Verdict:
    """Whether this was marked as a sandbox, or holds nothing of the role's that a wipe could take."""
    if is_adopted(sandbox.connection):
        return ok("adopted")
    if owns_anything(sandbox.connection, sandbox.role):
        return failure(
            f"database {sandbox.name!r} holds objects of {sandbox.role!r} and was never adopted as a sandbox",
            "If it really is one, run `erp-sandbox adopt`: it shows what is there, and asks.",
        )
    return ok(f"{sandbox.role!r} owns nothing in it")


@invariant("wipe takes nothing for good")
def wipe_takes_nothing_for_good(sandbox: SandboxSide) -> Verdict:
    """Whether a restore gives back all that a wipe takes, or the settings say that it may be lost."""
    lost = lost_by_wipe(sandbox.connection, sandbox.role, restorable_extensions=trusted_extensions(sandbox.connection))
    refused = not_allowed(lost, sandbox.database.may_lose)
    if refused:
        return failure(
            f"no restore would give back {_few(map(str, refused))}",
            "Move it elsewhere, or give it another owner; or list it in sandbox.may-lose, as named here (* matches).",
        )
    return ok(f"may be lost: {_few(map(str, lost))}" if lost else "all of it comes back with a restore")


@invariant("login is a member of the role")
def login_is_a_member(sandbox: SandboxSide) -> Verdict:
    """Whether the login may become the role, which owns what is to be wiped."""
    role, login = quoted_role(sandbox.role), quoted_role(sandbox.login)
    if not _value(sandbox, "SELECT to_regrole(%s)", role):
        return failure(
            f"there is no role {sandbox.role!r} on the server",
            f"CREATE ROLE {role}; GRANT {role} TO {login}; or set sandbox.role to the owner of the sandbox.",
        )
    # Up to version 15, every member may SET ROLE.
    privilege = "SET" if sandbox.major >= 16 else "MEMBER"
    if not _value(sandbox, "SELECT pg_has_role(session_user, to_regrole(%s), %s)", role, privilege):
        option = " WITH SET TRUE" if sandbox.major >= 16 else ""
        return failure(f"{sandbox.login!r} may not SET ROLE {sandbox.role!r}", f"GRANT {role} TO {login}{option};")
    return ok(f"{sandbox.login!r} may act as {sandbox.role!r}")


@invariant("role and login have no administrator's attributes")
def has_no_administrators_attributes(sandbox: SandboxSide) -> Verdict:
    """Whether neither has, or can reach by memberships, SUPERUSER, CREATEDB, CREATEROLE, REPLICATION, BYPASSRLS."""
    powerful = [role for role in sandbox.reached if role.attributes]
    if powerful:
        return failure(
            _few(f"{role} has {', '.join(role.attributes)}" for role in powerful),
            "ALTER ROLE … NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS, or REVOKE the membership.",
        )
    return ok("none of SUPERUSER, CREATEDB, CREATEROLE, REPLICATION, BYPASSRLS")


@invariant("role and login reach no dangerous role")
def reaches_no_dangerous_role(sandbox: SandboxSide) -> Verdict:
    """Whether neither is a member of a role that reaches past its own database, such as ``pg_write_all_data``."""
    dangerous = [str(role) for role in sandbox.reached if role.is_dangerous]
    questionable = [str(role) for role in sandbox.reached if role.is_questionable]
    remedy = "REVOKE the membership: no sandbox needs it."
    if dangerous:
        return failure(f"reaches {_few(dangerous)}", remedy)
    if questionable:
        return warning(f"reaches past this database by {_few(questionable)}", remedy)
    return ok(f"reaches {_few(str(role) for role in sandbox.reached)}")


@invariant("role and login have no power over the server")
def has_no_power_over_the_server(sandbox: SandboxSide) -> Verdict:
    """Whether neither was granted ALTER SYSTEM, or system functions that not everybody may run."""
    parameters, functions = server_grants(sandbox.connection, sandbox.reached)
    if parameters:
        return failure(
            f"may change the server's configuration: {_few(parameters)}", "REVOKE ALTER SYSTEM ON PARAMETER … FROM …;"
        )
    if functions:
        return warning(
            f"may run system functions that not everybody may: {_few(functions)}",
            "REVOKE EXECUTE ON FUNCTION … FROM …, unless a sandbox needs it.",
        )
    return ok("neither configuration nor system functions were granted")


@invariant("role owns this database and no other")
def owns_no_other_database(sandbox: SandboxSide, sandboxes: Sequence[SandboxSide]) -> Verdict:
    """Whether the role owns the sandbox, and nothing that role and login can reach owns a database that is none."""
    owner = _value(sandbox, "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()")
    if owner != _value(sandbox, "SELECT to_regrole(%s)::text", quoted_role(sandbox.role)):
        return failure(
            f"database {sandbox.name!r} is owned by {owner}, not by {sandbox.role!r}",
            f"ALTER DATABASE {quoted_role(sandbox.name)} OWNER TO {quoted_role(sandbox.role)};",
        )
    known = {
        other.identity.oid
        for other in sandboxes
        if other.is_reached and other.identity.system_identifier == sandbox.identity.system_identifier
    }
    rows = sandbox.connection.execute(
        "SELECT oid::bigint, datname, pg_get_userbyid(datdba) FROM pg_database"
        " WHERE datdba = ANY (%s::bigint[]) ORDER BY datname",
        [[role.oid for role in sandbox.reached]],
    )
    others = [f"{name!r} (of {holder})" for oid, name, holder in rows if oid not in known]
    if others:
        return failure(
            f"the sandbox side also owns database {_few(others)}, and could drop it", "ALTER DATABASE … OWNER TO …;"
        )
    return ok(f"{sandbox.role!r} owns {sandbox.name!r}")


@invariant("prod is out of reach")
def prod_is_out_of_reach(sandbox: SandboxSide, prod: ProdSide) -> Verdict:
    """Whether role and login neither own nor may write anything of prod's, where both are on one server."""
    if sandbox.identity.system_identifier != prod.identity.system_identifier:
        return ok("prod is on another server")
    ways = writable(prod.connection, sandbox.reached)
    if ways:
        return failure(
            f"the sandbox side may change prod's database {prod.name!r}: {_few(ways)}",
            "REVOKE these privileges and memberships; REASSIGN OWNED gives objects to prod's own role.",
        )
    may_connect = prod.connection.execute(
        "SELECT FROM unnest(%s::bigint[]) AS role"
        " WHERE has_database_privilege(role::oid, current_database(), 'CONNECT')",
        [[role.oid for role in sandbox.reached]],
    ).fetchone()
    if may_connect is None:
        return ok(f"{sandbox.login!r} may not even connect to {prod.name!r}")
    functions = definer_functions(prod.connection, sandbox.reached)
    return warning(
        f"the sandbox side owns and may write nothing of prod's, but may connect to {prod.name!r}: it could fill the"
        " disk with temporary tables and large objects"
        + (f", and run with others' rights: {_few(functions)}" if functions else ""),
        f"REVOKE CONNECT ON DATABASE {quoted_role(prod.name)} FROM PUBLIC; and GRANT it to those who need it.",
    )


@invariant("no foreign server leads out")
def no_foreign_server_leads_out(sandbox: SandboxSide) -> Verdict:
    """Whether nobody gave the sandbox side a login elsewhere, by way of a foreign server."""
    rows = sandbox.connection.execute(
        "SELECT DISTINCT srvname FROM pg_user_mappings WHERE umuser = 0 OR umuser = ANY (%s::bigint[]) ORDER BY 1",
        [[role.oid for role in sandbox.reached]],
    )
    servers = [name for (name,) in rows]
    if servers:
        return warning(
            f"the sandbox side has a login for foreign server {_few(servers)}; what it may write there is not known",
            "DROP USER MAPPING, unless it leads to something that may be written.",
        )
    return ok("no user mapping for role and login")


@invariant("server is not prod's")
def server_is_not_prods(sandbox: SandboxSide, prod: ProdSide) -> Verdict:
    """Whether a restore burdens a server that prod does not depend on."""
    if sandbox.identity.system_identifier == prod.identity.system_identifier:
        return warning(
            "prod is on the same server: its disk, WAL, memory and locks are shared with every reset",
            "Give the sandbox a server of its own, if prod must not feel the resets.",
        )
    return ok("prod is on another server")


@invariant("client programs fit")
def client_programs_fit(sandbox: SandboxSide, prod: ProdSide, clients_for: ClientsFor) -> Verdict:
    """Whether there are a pg_dump and a pg_restore for these two servers, and whether they can connect to them."""
    clients = clients_for(None if prod.database is None else prod.major, sandbox.major)
    clients.sandbox.reach(sandbox.database)
    if clients.prod is not None:
        prod.reach_with(clients.prod)
    return ok(str(clients))


@invariant("server has room for the wipe's locks")
def wipe_has_room_for_its_locks(sandbox: SandboxSide) -> Verdict:
    """Whether one DROP OWNED is enough; it works in batches, too."""
    needed, slots = locks_to_wipe(sandbox.connection, sandbox.role), lock_slots(sandbox.connection)
    detail = f"the wipe takes about {needed} locks, the server has room for {slots}"
    if needed > USABLE_SHARE * slots:
        return warning(
            f"{detail}: it goes in batches, which is slower",
            "Raise max_locks_per_transaction (it takes effect with a restart).",
        )
    return ok(detail)


def _value(side: SandboxSide, statement: LiteralString, *parameters: object) -> object:
    row = side.connection.execute(statement, parameters or None).fetchone()
    return None if row is None else row[0]


def _few(things: Iterable[str], shown: int = 4) -> str:
    """A few of ``things``, and how many more there are."""
    listed = list(things)
    more = len(listed) - shown
    return "; ".join(listed[:shown]) + (f"; and {more} more" if more > 0 else "")
