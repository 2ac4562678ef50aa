from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from rich.console import Console

from pytest_erp_sandbox.demo.server import Server
from pytest_erp_sandbox.dolibarr.parts import PARTS
from pytest_erp_sandbox.errors import LeaseError, PostgresError, PreflightError
from pytest_erp_sandbox.postgres.adoption import adopt
from pytest_erp_sandbox.postgres.clients import Clients, choose_clients, installed_toolsets
from pytest_erp_sandbox.postgres.connection import ProdDatabase, SandboxDatabase, as_owner
from pytest_erp_sandbox.postgres.lease import take_lease
from pytest_erp_sandbox.preflight import invariants, preflight
from pytest_erp_sandbox.preflight.erps import quarantine_holds
from pytest_erp_sandbox.preflight.findings import Finding, Report, Status, report_table
from pytest_erp_sandbox.preflight.invariants import ClientsFor
from pytest_erp_sandbox.preflight.sides import ProdSide, SandboxSide

from ..servers import Servers, connect, run
from .pgbouncer import pgbouncer

PASSWORD = SecretStr("preflight-password-05d2")
OWNER, ERP, READER = "pf_owner", "pf_erp_login", "pf_reader"
ROLE, LOGIN, STRANGER = "pf_sandbox_role", "pf_sandbox_login", "pf_stranger"
PROD, SANDBOX = "pf_erp", "pf-sandbox"
OK, WARNING, FAILURE, SKIPPED = Status.OK, Status.WARNING, Status.FAILURE, Status.SKIPPED


def installed_clients(prod: int | None, sandbox: int) -> Clients:
    return choose_clients(installed_toolsets(), prod=prod, sandbox=sandbox)


@dataclass(frozen=True)
class Estate:
    """A prod and a sandbox on one server, in which every invariant holds."""

    server: Server

    def prod(self, login: str = READER, database: str = PROD) -> ProdDatabase:
        return ProdDatabase(self.dsn(database, login), "prod.dsn")

    def sandbox(
        self, login: str = LOGIN, role: str = ROLE, database: str = SANDBOX, setting: str = "sandbox.dsn"
    ) -> SandboxDatabase:
        return SandboxDatabase(self.dsn(database, login), setting, role)

    def dsn(self, database: str, login: str) -> SecretStr:
        return self.server.dsn(database, login, None if login == "postgres" else PASSWORD)

    @contextmanager
    def changed(self, do: str, undo: str, database: str = "postgres") -> Iterator[None]:
        """Something is different, by the superuser's hand, for as long as the context lasts."""
        run(self.server.dsn(database), *do.split(";"))
        try:
            yield
        finally:
            run(self.server.dsn(database), *undo.split(";"))

    def report(
        self,
        prod: ProdDatabase | None = None,
        *sandboxes: SandboxDatabase,
        required: bool = False,
        clients_for: ClientsFor = installed_clients,
    ) -> Report:
        return preflight(
            prod or self.prod(),
            sandboxes or [self.sandbox()],
            require_read_only_role=required,
            clients_for=clients_for,
            is_quarantined=quarantine_holds(PARTS, "ai_agent_sandbox"),
        )

    def finding(self, invariant: str, subject: str = "sandbox", report: Report | None = None) -> Finding:
        found = (report or self.report()).findings
        (finding,) = [each for each in found if (each.invariant, each.subject) == (invariant, subject)]
        return finding


@pytest.fixture(scope="session")
def estates() -> dict[Server, Estate]:
    return {}


@pytest.fixture
def estate(server: Server, estates: dict[Server, Estate]) -> Estate:
    return made_once(server, estates)


def made_once(server: Server, estates: dict[Server, Estate]) -> Estate:
    if server not in estates:
        secret = PASSWORD.get_secret_value()
        run(
            server.dsn(),
            f"CREATE ROLE {OWNER}",
            f"CREATE ROLE {ERP} LOGIN PASSWORD '{secret}' IN ROLE {OWNER}",
            f"CREATE ROLE {READER} LOGIN PASSWORD '{secret}'",
            f"CREATE ROLE {ROLE}",
            f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{secret}' IN ROLE {ROLE}",
            f"CREATE ROLE {STRANGER}",
            f"CREATE DATABASE {PROD} OWNER {OWNER}",
            f'CREATE DATABASE "{SANDBOX}" OWNER {ROLE}',
            f"REVOKE CONNECT ON DATABASE {PROD} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {PROD} TO {READER}",
        )
        run(
            server.dsn(PROD),
            f"SET ROLE {OWNER}",
            "CREATE TABLE llx_user (rowid serial PRIMARY KEY, login text, pass text)",
            "CREATE VIEW logins AS SELECT login FROM llx_user",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}",
        )
        estates[server] = Estate(server)
    return estates[server]


def unreachable(estate: Estate) -> SecretStr:
    """A DSN with the right password and nobody behind it."""
    return SecretStr(f"postgresql://{READER}:{PASSWORD.get_secret_value()}@127.0.0.1:1/{PROD}")


# The report


def test_a_sound_estate_has_no_failure_and_one_warning(estate: Estate) -> None:
    report = estate.report(required=True)
    statuses = {(each.subject, each.invariant): each.status for each in report.findings}

    assert not report.failed
    assert [each.invariant for each in report.warnings] == ["server is not prod's"]
    assert set(statuses.values()) == {OK, WARNING}
    assert ("prod", "session is read-only") in statuses
    assert ("sandbox", "is adopted, or empty") in statuses
    report.raise_for_failures()


def test_nothing_is_written_and_no_connection_left_open(estate: Estate) -> None:
    with connect(estate.server.dsn()) as observer:

        def next_transaction() -> int:
            # Every transaction that writes takes a number, on the whole server.
            return int(observer.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchall()[0][0])

        before = next_transaction()
        estate.report()
        assert next_transaction() == before

        sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename IN (%s, %s)"
        deadline = time.monotonic() + 10
        while observer.execute(sessions, [READER, LOGIN]).fetchone() != (0,):
            assert time.monotonic() < deadline, "a session is still open"
            time.sleep(0.02)


def test_all_failures_are_reported_together_each_with_its_remedy(estate: Estate) -> None:
    with (
        estate.changed(f"ALTER ROLE {ROLE} CREATEDB", f"ALTER ROLE {ROLE} NOCREATEDB"),
        estate.changed(f"GRANT {OWNER} TO {LOGIN}", f"REVOKE {OWNER} FROM {LOGIN}"),
    ):
        report = estate.report()
    assert report.failed
    with pytest.raises(PreflightError) as raised:
        report.raise_for_failures()
    message = str(raised.value)
    assert f"{ROLE} has CREATEDB" in message
    assert f"{LOGIN} → {OWNER}" in message
    assert "NOCREATEDB" in message
    assert "server is not prod's" not in message


def test_a_report_comes_back_from_json(estate: Estate) -> None:
    report = estate.report()
    assert Report.from_json(report.to_json()) == report


def test_the_table_shows_every_finding_and_remedy(estate: Estate) -> None:
    bad = Finding("holds", FAILURE, "it does not [sic]", "mend it", "sandbox")
    console = Console(width=200, file=io.StringIO())
    with console.capture() as shown:
        console.print(report_table(Report((bad, Finding("so too", OK, "yes")))))
    text = shown.get()
    for words in ("sandbox: holds", "failure", "it does not [sic]", "→ mend it", "so too", "ok", "yes"):
        assert words in text


# Reaching


def test_what_needs_an_unreachable_prod_is_skipped_and_the_rest_is_asked(estate: Estate) -> None:
    with estate.changed(f"ALTER ROLE {ROLE} CREATEDB", f"ALTER ROLE {ROLE} NOCREATEDB"):
        report = estate.report(ProdDatabase(unreachable(estate), "prod.dsn"))

    def status(invariant: str, subject: str = "sandbox") -> Status:
        return estate.finding(invariant, subject, report).status

    assert status("is reachable", "prod") is FAILURE
    assert status("session is read-only", "prod") is SKIPPED
    assert status("login cannot write", "prod") is SKIPPED
    assert status("connection is direct", "prod") is SKIPPED
    assert status("is neither prod nor another sandbox") is SKIPPED
    assert status("prod is out of reach") is SKIPPED
    assert status("client programs fit") is SKIPPED
    assert status("is reachable") is OK
    assert status("is adopted, or empty") is OK
    assert status("role and login have no administrator's attributes") is FAILURE
    assert estate.finding("prod is out of reach", report=report).detail == "prod could not be reached"


def test_a_wrong_password_is_a_failure_that_does_not_show_it(estate: Estate) -> None:
    wrong = SandboxDatabase(estate.server.dsn(SANDBOX, LOGIN, SecretStr("guess-9f3e")), "sandbox.dsn", ROLE)
    report = estate.report(None, wrong)
    finding = estate.finding("is reachable", report=report)
    assert finding.status is FAILURE
    assert "password authentication failed" in finding.detail
    assert "guess-9f3e" not in report.to_json()
    assert estate.finding("login is a member of the role", report=report).status is SKIPPED


def test_without_a_prod_what_is_about_it_is_skipped(estate: Estate) -> None:
    report = preflight(
        None,
        [estate.sandbox()],
        require_read_only_role=True,
        clients_for=installed_clients,
        is_quarantined=quarantine_holds(PARTS, "ai_agent_sandbox"),
    )
    skipped = {each.invariant for each in report.findings if each.status is SKIPPED}
    assert skipped == {
        "is reachable",
        "session is read-only",
        "login cannot write",
        "connection is direct",
        "prod is out of reach",
        "server is not prod's",
    }
    assert not report.failed
    assert estate.finding("client programs fit", report=report).detail.startswith("sandbox (PostgreSQL ")


# Prod's session is read-only


@contextmanager
def reached(prod: ProdDatabase) -> Iterator[ProdSide]:
    with ProdSide(prod) as side:
        side.reach()
        yield side


def test_a_read_only_session_is_shown_by_25006(estate: Estate) -> None:
    with reached(estate.prod()) as prod:
        finding = invariants.prod_session_is_read_only(prod)
    assert finding.status is OK
    assert "25006" in finding.detail


def test_a_session_that_may_write_is_a_failure_and_the_probe_leaves_nothing(estate: Estate) -> None:
    with reached(estate.prod(ERP)) as prod:
        prod.connection.execute("SET default_transaction_read_only = off")
        finding = invariants.prod_session_is_read_only(prod)
        left = prod.connection.execute("SELECT to_regclass('pg_temp.erp_sandbox_probe')").fetchone()
    assert finding.status is FAILURE
    assert "let a temporary table be made" in finding.detail
    assert left == (None,)


def test_permission_denied_does_not_prove_a_read_only_session(estate: Estate) -> None:
    # READER owns nothing: without TEMPORARY, which PUBLIC has, it is refused for lack of privilege.
    with (
        estate.changed(
            f"REVOKE TEMPORARY ON DATABASE {PROD} FROM PUBLIC", f"GRANT TEMPORARY ON DATABASE {PROD} TO PUBLIC"
        ),
        reached(estate.prod()) as prod,
    ):
        prod.connection.execute("SET default_transaction_read_only = off")
        finding = invariants.prod_session_is_read_only(prod)
    assert finding.status is FAILURE
    assert "42501" in finding.detail


def test_a_broken_connection_is_a_failure_and_no_exception(estate: Estate) -> None:
    with reached(estate.prod()) as prod:
        with connect(estate.server.dsn()) as superuser:
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [prod.connection.info.backend_pid])
        assert invariants.prod_session_is_read_only(prod).status is FAILURE


# Prod's login cannot write

WAYS_TO_WRITE = {
    "insert": (f"GRANT INSERT ON llx_user TO {READER}", f"REVOKE INSERT ON llx_user FROM {READER}", "table llx_user"),
    "one column": (
        f"GRANT UPDATE (login) ON llx_user TO {READER}",
        f"REVOKE UPDATE (login) ON llx_user FROM {READER}",
        "table llx_user: UPDATE",
    ),
    "truncate": (
        f"GRANT TRUNCATE ON llx_user TO {READER}",
        f"REVOKE TRUNCATE ON llx_user FROM {READER}",
        "table llx_user: TRUNCATE",
    ),
    "trigger": (
        f"GRANT TRIGGER ON llx_user TO {READER}",
        f"REVOKE TRIGGER ON llx_user FROM {READER}",
        "table llx_user: TRIGGER",
    ),
    "through a view": (f"GRANT DELETE ON logins TO {READER}", f"REVOKE DELETE ON logins FROM {READER}", "view logins"),
    "public": ("GRANT DELETE ON llx_user TO PUBLIC", "REVOKE DELETE ON llx_user FROM PUBLIC", "table llx_user: DELETE"),
    "sequence": (
        f"GRANT USAGE ON SEQUENCE llx_user_rowid_seq TO {READER}",
        f"REVOKE USAGE ON SEQUENCE llx_user_rowid_seq FROM {READER}",
        "sequence llx_user_rowid_seq",
    ),
    "schema": (
        f"GRANT CREATE ON SCHEMA public TO {READER}",
        f"REVOKE CREATE ON SCHEMA public FROM {READER}",
        "schema public: CREATE",
    ),
    "database": (
        f"GRANT CREATE ON DATABASE {PROD} TO {READER}",
        f"REVOKE CREATE ON DATABASE {PROD} FROM {READER}",
        f"database {PROD}: CREATE",
    ),
    "future tables": (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT UPDATE ON TABLES TO {READER}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} REVOKE UPDATE ON TABLES FROM {READER}",
        f"future tables of {OWNER}",
    ),
    "owns a function": (
        f"CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION mine OWNER TO {READER}",
        "DROP FUNCTION mine",
        "function mine(): owned by",
    ),
    "membership": (f"GRANT {OWNER} TO {READER}", f"REVOKE {OWNER} FROM {READER}", f"owned by {OWNER}"),
    "membership without inherit": (
        f"ALTER ROLE {READER} NOINHERIT; GRANT {OWNER} TO {READER}",
        f"REVOKE {OWNER} FROM {READER}; ALTER ROLE {READER} INHERIT",
        f"owned by {OWNER}",
    ),
    "predefined role": (
        f"GRANT pg_write_all_data TO {READER}",
        f"REVOKE pg_write_all_data FROM {READER}",
        "membership in pg_write_all_data",
    ),
    "superuser": (f"ALTER ROLE {READER} SUPERUSER", f"ALTER ROLE {READER} NOSUPERUSER", f"SUPERUSER of {READER}"),
    "createrole": (f"ALTER ROLE {READER} CREATEROLE", f"ALTER ROLE {READER} NOCREATEROLE", f"CREATEROLE of {READER}"),
}


@pytest.mark.parametrize(("do", "undo", "words"), WAYS_TO_WRITE.values(), ids=WAYS_TO_WRITE)
def test_a_prod_login_that_can_write_is_a_warning_or_as_required_a_failure(
    estate: Estate, do: str, undo: str, words: str
) -> None:
    with estate.changed(do, undo, PROD), reached(estate.prod()) as prod:
        finding = invariants.prod_login_cannot_write(prod, required=False)
        required = invariants.prod_login_cannot_write(prod, required=True)
    assert (finding.status, required.status) == (WARNING, FAILURE)
    assert words in finding.detail
    assert finding.detail == required.detail
    with reached(estate.prod()) as prod:
        assert invariants.prod_login_cannot_write(prod, required=True).status is OK


def test_bypassrls_lets_a_prod_login_read_not_write(estate: Estate) -> None:
    with (
        estate.changed(f"ALTER ROLE {READER} BYPASSRLS", f"ALTER ROLE {READER} NOBYPASSRLS"),
        reached(estate.prod()) as prod,
    ):
        assert invariants.prod_login_cannot_write(prod, required=True).status is OK


def test_a_function_with_its_owners_rights_is_a_warning(estate: Estate) -> None:
    definer = "CREATE FUNCTION rename(text) RETURNS void LANGUAGE sql {} SECURITY DEFINER AS 'SELECT'"
    for volatility, status in (("VOLATILE", WARNING), ("STABLE", OK)):
        with (
            estate.changed(definer.format(volatility), "DROP FUNCTION rename", PROD),
            reached(estate.prod()) as prod,
        ):
            finding = invariants.prod_login_cannot_write(prod, required=True)
        assert finding.status is status
    with (
        estate.changed(
            definer.format("VOLATILE") + "; REVOKE EXECUTE ON FUNCTION rename FROM PUBLIC", "DROP FUNCTION rename", PROD
        ),
        reached(estate.prod()) as prod,
    ):
        assert invariants.prod_login_cannot_write(prod, required=True).status is OK


# Direct connections


@pytest.mark.parametrize("lines", [(), ("server_round_robin = 1", "min_pool_size = 3")], ids=["last in", "in turn"])
def test_a_pooler_in_transaction_mode_is_a_failure(estate: Estate, tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pgbouncer(tmp_path, estate.dsn(SANDBOX, LOGIN), "transaction", *lines) as dsn:
        # Several of its connections are there before it is asked.
        holders = [psycopg.connect(dsn.get_secret_value()) for _ in range(3)]
        for holder in holders:
            holder.execute("SELECT 1")
        for holder in holders:
            holder.close()
        with SandboxSide(SandboxDatabase(dsn, "sandbox.dsn", ROLE)) as sandbox:
            sandbox.reach()
            finding = invariants.connection_is_direct(sandbox)
    assert finding.status is FAILURE, finding
    assert "pooler" in finding.detail


def test_a_pooler_in_session_mode_is_a_failure_of_a_sandbox_as_nobody_can_lease_it(
    estate: Estate, tmp_path: Path
) -> None:
    with pgbouncer(tmp_path, estate.dsn(SANDBOX, LOGIN), "session") as dsn:
        database = SandboxDatabase(dsn, "sandbox.dsn", ROLE)
        with SandboxSide(database) as sandbox:
            sandbox.reach()
            finding = invariants.connection_is_direct(sandbox)
        with take_lease([database], timedelta(seconds=5)) as lease, pytest.raises(LeaseError):
            lease.check()
    assert finding.status is FAILURE, finding


def test_a_pooler_in_session_mode_is_a_warning_of_prod_s(estate: Estate, tmp_path: Path) -> None:
    lines = "ignore_startup_parameters = options", "server_reset_query ="
    setting = f"ALTER ROLE {READER} {{}} default_transaction_read_only"
    with (
        estate.changed(f"{setting.format('SET')} = on", setting.format("RESET")),
        pgbouncer(tmp_path, estate.dsn(PROD, READER), "session", *lines) as dsn,
        ProdSide(ProdDatabase(dsn, "prod.dsn")) as prod,
    ):
        prod.reach()
        finding = invariants.connection_is_direct(prod)
    assert finding.status is WARNING, finding


@pytest.mark.parametrize(
    ("line", "words"),
    [("", "unsupported startup parameter: options"), ("ignore_startup_parameters = options", "A pooler")],
    ids=["refuses", "ignores"],
)
def test_a_pooler_that_drops_the_read_only_setting_is_not_used_for_prod(
    estate: Estate, tmp_path: Path, line: str, words: str
) -> None:
    with pgbouncer(tmp_path, estate.dsn(PROD, READER), "transaction", line) as dsn:
        report = estate.report(ProdDatabase(dsn, "prod.dsn"))
    finding = estate.finding("is reachable", "prod", report)
    assert finding.status is FAILURE
    assert words in str(finding)


@pytest.mark.parametrize("subject", ["prod", "sandbox"])
def test_a_direct_connection_is_none_of_a_pooler(estate: Estate, subject: str) -> None:
    assert estate.finding("connection is direct", subject).status is OK


# Which database it is


def test_prod_by_another_name_is_still_prod(estate: Estate) -> None:
    dsn = estate.dsn(PROD, ERP).get_secret_value().replace("127.0.0.1", "localhost")
    with estate.changed(f"GRANT CONNECT ON DATABASE {PROD} TO {ERP}", f"REVOKE CONNECT ON DATABASE {PROD} FROM {ERP}"):
        report = estate.report(None, SandboxDatabase(SecretStr(dsn), "sandbox.dsn", OWNER))
    finding = estate.finding("is neither prod nor another sandbox", report=report)
    assert finding.status is FAILURE
    assert "prod itself" in finding.detail


def test_two_sandboxes_are_not_the_same_database(estate: Estate) -> None:
    report = estate.report(None, estate.sandbox(setting="sandboxes.a.dsn"), estate.sandbox(setting="sandboxes.b.dsn"))
    for one, other in (("a", "b"), ("b", "a")):
        finding = estate.finding("is neither prod nor another sandbox", f"sandboxes.{one}", report)
        assert finding.status is FAILURE
        assert f"sandboxes.{other}" in finding.detail


def test_a_read_only_sandbox_is_a_failure(estate: Estate) -> None:
    with estate.changed(f"ALTER ROLE {LOGIN} SET default_transaction_read_only = on", f"ALTER ROLE {LOGIN} RESET ALL"):
        assert estate.finding("accepts writes").status is FAILURE


def test_a_server_that_is_too_old_is_a_failure(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert estate.finding("server is new enough").status is OK
    monkeypatch.setattr(invariants, "OLDEST_SERVER", estate.server.version + 1)
    finding = estate.finding("server is new enough")
    assert finding.status is FAILURE
    assert f"PostgreSQL {estate.server.version + 1} or later" in finding.remedy


def test_what_no_restore_gives_back_must_be_allowed_to_be_lost(estate: Estate) -> None:
    invariant = "wipe takes nothing for good"
    with estate.changed(
        f"CREATE SCHEMA audit AUTHORIZATION {ROLE}; CREATE TABLE audit.log (); ALTER TABLE audit.log OWNER TO {ROLE}",
        "DROP SCHEMA audit CASCADE",
        SANDBOX,
    ):
        finding = estate.finding(invariant)
        assert finding.status is FAILURE
        assert "schema audit" in finding.detail

        allowed = replace(estate.sandbox(), may_lose=("schema audit",))
        finding = estate.finding(invariant, report=estate.report(None, allowed))
        assert finding.status is OK
        assert "schema audit" in finding.detail
    assert "comes back" in estate.finding(invariant).detail


def test_an_extension_that_the_role_may_create_again_is_not_lost(estate: Estate) -> None:
    with estate.changed(f"SET ROLE {ROLE}; CREATE EXTENSION pg_trgm", "DROP EXTENSION pg_trgm", SANDBOX):
        assert estate.finding("wipe takes nothing for good").status is OK


def test_a_database_with_objects_of_the_roles_must_be_adopted(estate: Estate) -> None:
    with estate.changed(f"CREATE TABLE t (id int); ALTER TABLE t OWNER TO {ROLE}", "DROP TABLE IF EXISTS t", SANDBOX):
        finding = estate.finding("is adopted, or empty")
        assert finding.status is FAILURE
        assert "erp-sandbox adopt" in finding.remedy

        with estate.sandbox().connect() as connection, as_owner(connection, ROLE):
            adopt(connection)
        finding = estate.finding("is adopted, or empty")
        assert (finding.status, finding.detail) == (OK, "adopted")
        run(estate.server.dsn(), f'COMMENT ON DATABASE "{SANDBOX}" IS NULL')


def test_objects_of_others_do_not_make_a_sandbox_someones(estate: Estate) -> None:
    with estate.changed("CREATE TABLE t (id int)", "DROP TABLE t", SANDBOX):
        assert estate.finding("is adopted, or empty").status is OK


# What the sandbox's login is


def test_a_login_that_is_no_member_is_a_failure(estate: Estate) -> None:
    with estate.changed(f"REVOKE {ROLE} FROM {LOGIN}", f"GRANT {ROLE} TO {LOGIN}"):
        finding = estate.finding("login is a member of the role")
    assert finding.status is FAILURE
    assert finding.remedy.startswith(f'GRANT "{ROLE}" TO "{LOGIN}"')


def test_a_member_that_may_not_become_the_role_is_a_failure(estate: Estate) -> None:
    if estate.server.version < 16:
        pytest.skip("up to version 15, every member may")
    with estate.changed(f"GRANT {ROLE} TO {LOGIN} WITH SET FALSE", f"GRANT {ROLE} TO {LOGIN} WITH SET TRUE"):
        finding = estate.finding("login is a member of the role")
    assert finding.status is FAILURE
    assert "WITH SET TRUE" in finding.remedy


def test_a_role_that_is_not_there_is_a_failure_and_what_needs_it_skipped(estate: Estate) -> None:
    report = estate.report(None, estate.sandbox(role="no_such_role"))
    assert estate.finding("login is a member of the role", report=report).status is FAILURE
    finding = estate.finding("role and login reach no dangerous role", report=report)
    assert (finding.status, finding.detail) == (SKIPPED, "there is no role 'no_such_role' on the server")


@pytest.mark.parametrize("attribute", ["SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS"])
@pytest.mark.parametrize("role", [ROLE, LOGIN])
def test_an_administrators_attribute_is_a_failure(estate: Estate, attribute: str, role: str) -> None:
    with estate.changed(f"ALTER ROLE {role} {attribute}", f"ALTER ROLE {role} NO{attribute}"):
        finding = estate.finding("role and login have no administrator's attributes")
    assert finding.status is FAILURE
    assert f"{role} has {attribute}" in finding.detail


def memberships(version: int) -> list[str]:
    """The options with which a membership can be given, each enough to be of use."""
    if version < 16:
        return ["", "WITH ADMIN OPTION"]
    return [
        "WITH INHERIT TRUE, SET FALSE",
        "WITH INHERIT FALSE, SET TRUE",
        "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
    ]


def test_an_attribute_that_can_be_reached_by_membership_is_a_failure(estate: Estate) -> None:
    for options in memberships(estate.server.version):
        with (
            estate.changed(f"GRANT {STRANGER} TO {ROLE} {options}", f"REVOKE {STRANGER} FROM {ROLE}"),
            estate.changed(f"ALTER ROLE {STRANGER} CREATEROLE", f"ALTER ROLE {STRANGER} NOCREATEROLE"),
        ):
            finding = estate.finding("role and login have no administrator's attributes")
        assert finding.status is FAILURE, options
        assert f"{STRANGER} (by {ROLE} → {STRANGER}) has CREATEROLE" in finding.detail


@pytest.mark.parametrize(
    ("role", "status"),
    [
        ("pg_write_all_data", FAILURE),
        ("pg_execute_server_program", FAILURE),
        ("pg_write_server_files", FAILURE),
        ("pg_read_server_files", FAILURE),
        ("pg_maintain", FAILURE),
        ("pg_signal_backend", WARNING),
        ("pg_read_all_data", WARNING),
        ("pg_checkpoint", WARNING),
        ("pg_monitor", OK),
    ],
)
def test_a_predefined_role_that_reaches_past_the_sandbox_is_reported(estate: Estate, role: str, status: Status) -> None:
    if role == "pg_maintain" and estate.server.version < 17:
        pytest.skip("there is none up to version 16")
    # By way of another role, as somebody who means well would do it.
    with (
        estate.changed(f"GRANT {role} TO {STRANGER}", f"REVOKE {role} FROM {STRANGER}"),
        estate.changed(f"GRANT {STRANGER} TO {LOGIN}", f"REVOKE {STRANGER} FROM {LOGIN}"),
    ):
        finding = estate.finding("role and login reach no dangerous role")
    assert finding.status is status
    assert f"{LOGIN} → {STRANGER} → {role}" in finding.detail or status is OK


def test_a_grant_of_the_servers_configuration_is_a_failure(estate: Estate) -> None:
    for grantee in (ROLE, "PUBLIC"):
        with estate.changed(
            f"GRANT ALTER SYSTEM ON PARAMETER archive_command TO {grantee}",
            f"REVOKE ALTER SYSTEM ON PARAMETER archive_command FROM {grantee}",
        ):
            finding = estate.finding("role and login have no power over the server")
        assert finding.status is FAILURE
        assert f"ALTER SYSTEM SET archive_command of {grantee}" in finding.detail


def test_a_grant_of_a_system_function_is_a_warning(estate: Estate) -> None:
    with estate.changed(
        f"GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {LOGIN}",
        f"REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM {LOGIN}",
        SANDBOX,
    ):
        finding = estate.finding("role and login have no power over the server")
    assert finding.status is WARNING
    assert f"EXECUTE on pg_read_file(text) of {LOGIN}" in finding.detail


@pytest.mark.parametrize("owner", [ROLE, LOGIN, STRANGER])
def test_another_database_that_the_sandbox_side_owns_is_a_failure(estate: Estate, owner: str) -> None:
    with (
        estate.changed(f"CREATE DATABASE pf_crm OWNER {owner}", "DROP DATABASE pf_crm"),
        estate.changed(f"GRANT {STRANGER} TO {LOGIN}", f"REVOKE {STRANGER} FROM {LOGIN}"),
    ):
        finding = estate.finding("role owns this database and no other")
    assert finding.status is FAILURE
    assert "'pf_crm'" in finding.detail


def test_a_sandbox_that_is_not_the_roles_is_a_failure(estate: Estate) -> None:
    with estate.changed(
        f'ALTER DATABASE "{SANDBOX}" OWNER TO {STRANGER}', f'ALTER DATABASE "{SANDBOX}" OWNER TO {ROLE}'
    ):
        finding = estate.finding("role owns this database and no other")
    assert finding.status is FAILURE
    assert finding.remedy == f'ALTER DATABASE "{SANDBOX}" OWNER TO "{ROLE}";'


def test_one_role_may_own_several_sandboxes(estate: Estate) -> None:
    with estate.changed(f"CREATE DATABASE pf_second OWNER {ROLE}", "DROP DATABASE pf_second WITH (FORCE)"):
        report = estate.report(
            None, estate.sandbox(), estate.sandbox(database="pf_second", setting="sandboxes.second.dsn")
        )
    assert not report.failed


def test_prod_is_reached_with_its_programs_once_for_all_sandboxes(estate: Estate) -> None:
    begun = estate.server.log.stat().st_size
    with (
        estate.changed(f"CREATE DATABASE pf_second OWNER {ROLE}", "DROP DATABASE pf_second WITH (FORCE)"),
        estate.changed(f"ALTER ROLE {READER} SET log_statement = 'all'", f"ALTER ROLE {READER} RESET log_statement"),
    ):
        report = estate.report(
            None, estate.sandbox(), estate.sandbox(database="pf_second", setting="sandboxes.second.dsn")
        )
    assert not report.failed
    assert estate.server.log.read_bytes()[begun:].count(b"statement: SELECT 1\n") == 1


# What the sandbox's side could do to prod


@pytest.mark.parametrize("grantee", [ROLE, LOGIN])
@pytest.mark.parametrize("way", sorted(set(WAYS_TO_WRITE) - {"superuser", "createrole"}))
def test_a_way_from_the_sandbox_to_prod_is_a_failure(estate: Estate, way: str, grantee: str) -> None:
    do, undo, words = (text.replace(READER, grantee) for text in WAYS_TO_WRITE[way])
    with estate.changed(do, undo, PROD):
        finding = estate.finding("prod is out of reach")
    assert finding.status is FAILURE
    assert words.replace("membership in pg_write_all_data", "INSERT, UPDATE, DELETE of") in finding.detail
    assert estate.finding("prod is out of reach").status is OK


def test_a_database_of_prods_that_the_sandbox_side_owns_is_a_failure(estate: Estate) -> None:
    with estate.changed(f"ALTER DATABASE {PROD} OWNER TO {ROLE}", f"ALTER DATABASE {PROD} OWNER TO {OWNER}"):
        report = estate.report()
    finding = estate.finding("prod is out of reach", report=report)
    assert finding.status is FAILURE
    assert f"database {PROD}: owned by {ROLE}" in finding.detail
    assert estate.finding("role owns this database and no other", report=report).status is FAILURE


def test_a_sandbox_login_that_may_connect_to_prod_is_a_warning(estate: Estate) -> None:
    with (
        estate.changed(f"GRANT CONNECT ON DATABASE {PROD} TO PUBLIC", f"REVOKE CONNECT ON DATABASE {PROD} FROM PUBLIC"),
        estate.changed(
            "CREATE FUNCTION rename() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT'",
            "DROP FUNCTION rename",
            PROD,
        ),
    ):
        finding = estate.finding("prod is out of reach")
    assert finding.status is WARNING
    assert "function rename() (of postgres)" in finding.detail
    assert f'REVOKE CONNECT ON DATABASE "{PROD}" FROM PUBLIC' in finding.remedy


def test_a_sandbox_on_another_server_can_do_nothing_to_prod(servers: Servers, estates: dict[Server, Estate]) -> None:
    one, other = (made_once(servers[version], estates) for version in ("18", "15"))
    # A role of prod's owner's name is nobody's danger on a server of its own.
    with one.changed(f"GRANT {OWNER} TO {LOGIN}", f"REVOKE {OWNER} FROM {LOGIN}"):
        report = one.report(other.prod())
    assert not report.warnings
    for invariant in ("prod is out of reach", "server is not prod's"):
        finding = one.finding(invariant, report=report)
        assert (finding.status, finding.detail) == (OK, "prod is on another server")
    chosen = one.finding("client programs fit", report=report).detail
    assert re.fullmatch(
        r"prod: PostgreSQL 15.* clients in .*; sandbox \(PostgreSQL 18\): PostgreSQL 18.* clients in .*", chosen
    )


def test_a_shared_server_is_a_warning(estate: Estate) -> None:
    assert estate.finding("server is not prod's").status is WARNING


@pytest.mark.parametrize("user", [ROLE, LOGIN, "PUBLIC"])
def test_a_login_to_elsewhere_is_a_warning(estate: Estate, user: str) -> None:
    with estate.changed(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;"
        f"CREATE USER MAPPING FOR {user} SERVER elsewhere",
        "DROP EXTENSION postgres_fdw CASCADE",
        SANDBOX,
    ):
        finding = estate.finding("no foreign server leads out")
    assert finding.status is WARNING
    assert "elsewhere" in finding.detail


# Programs and locks


def test_client_programs_that_do_not_fit_are_a_failure_with_its_hint(estate: Estate) -> None:
    def none_fit(prod: int | None, sandbox: int) -> Clients:
        raise PostgresError(f"no pg_dump for {prod}", hint="install one")

    finding = estate.finding("client programs fit", report=estate.report(clients_for=none_fit))
    version = estate.server.version
    assert (finding.status, finding.detail, finding.remedy) == (FAILURE, f"no pg_dump for {version}", "install one")


def test_too_few_lock_slots_are_a_warning(estate: Estate) -> None:
    assert estate.finding("server has room for the wipe's locks").status is OK
    run(
        estate.server.dsn(SANDBOX),
        f"SET ROLE {ROLE}",
        "DO $$ BEGIN FOR i IN 1..1500 LOOP EXECUTE format('CREATE DOMAIN d%s AS int', i); END LOOP; END $$",
    )
    finding = estate.finding("server has room for the wipe's locks")
    run(estate.server.dsn(SANDBOX), f"DROP OWNED BY {ROLE} CASCADE")
    assert finding.status is WARNING
    assert "in batches" in finding.detail
