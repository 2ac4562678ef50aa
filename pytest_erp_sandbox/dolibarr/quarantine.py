"""The quarantine: what an iso-prod copy knows of the outside world is switched off, removed or made unusable."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from psycopg import sql

from ..errors import QuarantineError
from ..postgres.connection import SandboxConnection
from .parts import PARTS, Part
from .rows import columns_of, insert

__all__ = ["CONSTANTS", "check_quarantine", "impose_quarantine", "in_words", "tables_of_quarantine", "unknown"]

CONSTANTS = "llx_const"
"""The table without which nothing here is known to be a Dolibarr's."""

_TOKENS = "llx_oauth_token"
_OPENS_API = sql.SQL("service = 'dolibarr_rest_api'")

_NOWHERE = "mail.invalid"
"""No such host can ever be (RFC 2606). Not '': Dolibarr takes that for PHP's own mail server, which may be there."""

_BANNER = "<b>This is a sandbox.</b> It is put back to a copy of prod before each rehearsal."


class _Rule(Protocol):
    """Something that must hold in a quarantined database."""

    @property
    def table(self) -> str: ...
    @property
    def needs(self) -> Collection[str]:
        """The columns without which this Dolibarr knows nothing of the kind."""
        ...

    def impose(self, connection: SandboxConnection) -> int:
        """Make it hold; gives how many rows that took."""
        ...

    def breaches(self) -> sql.Composed:
        """The query for how many rows it does not hold in; those of the user ``%(agent)s`` are not looked at."""
        ...


@dataclass(frozen=True)
class _Rows:
    """No row of ``table`` is ``wrong``: ``mend`` is set in it, or it is deleted where there is nothing to set.

    ``agents`` says which rows are those of the user ``%(agent)s``.
    """

    table: str
    wrong: sql.Composable
    mend: sql.Composable | None = None
    needs: Collection[str] = ()
    agents: sql.Composable | None = None

    def impose(self, connection: SandboxConnection) -> int:
        table = sql.Identifier("public", self.table)
        if self.mend is None:
            statement = sql.SQL("DELETE FROM {} WHERE {}").format(table, self.wrong)
        else:
            statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(table, self.mend, self.wrong)
        return connection.execute(statement).rowcount

    def breaches(self) -> sql.Composed:
        return sql.SQL("SELECT count(*) FROM {} WHERE ({}) AND NOT ({})").format(
            sql.Identifier("public", self.table), self.wrong, self.agents or sql.SQL("false")
        )


@dataclass(frozen=True)
class _Everywhere:
    """A constant has one value, in every company: its only row is that of all companies (entity 0)."""

    name: str
    value: str
    table = CONSTANTS
    needs = ("name", "value", "entity")

    def impose(self, connection: SandboxConnection) -> int:
        if connection.execute(self.breaches(), {}).fetchone() == (0,):
            return 0
        connection.execute("DELETE FROM public.llx_const WHERE name = %s", [self.name])
        values = {"name": self.name, "value": self.value, "entity": 0, "type": "chaine", "visible": 0}
        # Not the time of day: the same prod gives the same golden dump.
        insert(connection, CONSTANTS, {**values, "note": "quarantine of pytest-erp-sandbox", "tms": "2000-01-01"})
        return 1

    def breaches(self) -> sql.Composed:
        return sql.SQL(
            "SELECT (count(*) <> 1 OR bool_or((value, entity) IS DISTINCT FROM ({}, 0)))::integer"
            " FROM public.llx_const WHERE name = {}"
        ).format(sql.Literal(self.value), sql.Literal(self.name))


def _constants(names: str, value: str = "") -> _Rows:
    """Constants whose names match, and that say anything, say ``value``."""
    wrong = sql.SQL("name ~ {} AND value NOT IN ('', {})").format(sql.Literal(f"^({names})$"), sql.Literal(value))
    return _Rows(CONSTANTS, wrong, sql.SQL("value = {}").format(sql.Literal(value)), ("name", "value"))


def _off(table: str, column: str = "status") -> _Rows:
    """A switch that is 0 in every row."""
    name = sql.Identifier(column)
    off = sql.SQL("{} = 0").format(name)
    return _Rows(table, sql.SQL("{} IS DISTINCT FROM 0").format(name), off, (column,))


def _none(table: str) -> _Rows:
    """No row at all."""
    return _Rows(table, sql.SQL("true"))


_RULES: Mapping[Part, Sequence[_Rule]] = {
    "mail": (
        _Everywhere("MAIN_DISABLE_ALL_MAILS", "1"),
        _Everywhere("MAIN_DISABLE_ALL_SMS", "1"),
        # Should somebody switch mails on again: there is no server to take them, nor PHP's own way.
        _Everywhere("MAIN_MAIL_SENDMODE", "smtps"),
        _Everywhere("MAIN_MAIL_SMTP_SERVER", _NOWHERE),
        _constants("MAIN_MAIL_SMTP_SERVER_.+", _NOWHERE),
        # Blank, a mailing's own way is the one above; it may have no server of its own.
        _constants("MAIN_MAIL_SENDMODE_.+|MAIN_MAIL_SMTPS_(ID|PW|OAUTH_SERVICE)(_.+)?|MAIN_SMS_SENDMODE"),
    ),
    "cron": (_off("llx_cronjob"), _off("llx_cronjob", "processing"), _constants("CRON_KEY")),
    "webhooks": (
        # Up to version 19, Dolibarr calls them whatever their status (its issue 29797), and all of Zapier's still.
        _Rows(
            "llx_webhook_target",
            sql.SQL("status IS DISTINCT FROM 0 OR trigger_codes <> ''"),
            sql.SQL("status = 0, trigger_codes = ''"),
            needs=("status", "trigger_codes"),
        ),
        _none("llx_zapier_hook"),
    ),
    "notifications": (_none("llx_notify_def"), _constants("NOTIFICATION_FIXEDEMAIL_.+")),
    "collectors": (
        _off("llx_emailcollector_emailcollector"),
        _Rows(
            "llx_emailcollector_emailcollector",
            sql.SQL("password <> ''"),
            sql.SQL("password = ''"),
            needs=("password",),
        ),
    ),
    "payments": (
        _constants("STRIPE_LIVE", "0"),
        _constants("STRIPE_(LIVE|TEST)_.+"),
        _constants("PAYPAL_API_SANDBOX", "1"),
        _constants("PAYPAL_API_(USER|PASSWORD|SIGNATURE)"),
        _constants("PAYBOX_(CGI_URL_V[12]|HMAC_KEY|IBS_SITE|IBS_RANG|PBX_IDENTIFIANT)"),
    ),
    "oauth": (
        _Rows(_TOKENS, sql.SQL("({}) IS NOT TRUE").format(_OPENS_API), needs=("service",)),
        _none("llx_oauth_state"),
        _constants("OAUTH_.+_SECRET"),
    ),
    "connectors": (
        _constants("LDAP_(SYNCHRO|CONTACT|MEMBER|MEMBER_TYPE)_ACTIVE", "0"),
        _constants("ADHERENT_USE_(MAILMAN|SPIP)|BLOCKEDLOG_USE_REMOTE_AUTHORITY", "0"),
        _constants("LDAP_ADMIN_PASS|ADHERENT_MAILMAN_ADMIN(_PASSWORD|PW)|ADHERENT_SPIP_PASS"),
        _constants("AI_API_(.+_)?(KEY|URL)|FTP_(SERVER|USER|PASSWORD)_[0-9]+|PRINTIPP_(HOST|USER|PASSWORD)"),
        # Blank would be this machine's.
        _constants("ASTERISK_HOST", _NOWHERE),
    ),
    "api-keys": (
        _Rows(
            "llx_user",
            sql.SQL("api_key IS NOT NULL"),
            sql.SQL("api_key = NULL"),
            needs=("api_key",),
            agents=sql.SQL("login = %(agent)s"),
        ),
        _Rows(
            _TOKENS,
            _OPENS_API,
            needs=("service",),
            agents=sql.SQL("fk_user IN (SELECT rowid FROM public.llx_user WHERE login = %(agent)s)"),
        ),
        _constants("MAIN_AGENDA_XCAL_EXPORTKEY|WEBSERVICES_KEY"),
        # SOAP lets a caller in whose key is blank as well.
        _constants("MAIN_MODULE_WEBSERVICES", "0"),
    ),
    "banner": (
        # The name of the application, on every page; the home page and the one to log in say it at length.
        _Everywhere("MAIN_APPLICATION_TITLE", "SANDBOX, not prod"),
        _Everywhere("MAIN_HOME", _BANNER),
        _Everywhere("MAIN_MOTD", _BANNER),
        # And the bar at the top of every page is red.
        _Everywhere("THEME_ELDY_ENABLE_PERSONALIZED", "1"),
        _Everywhere("THEME_ELDY_TOPMENU_BACK1", "170,20,20"),
    ),
}


def tables_of_quarantine(parts: Iterable[Part]) -> frozenset[str]:
    """The tables that these parts change, whether this Dolibarr has them or not."""
    return frozenset(rule.table for part in parts for rule in _RULES[part])


def impose_quarantine(connection: SandboxConnection, parts: Collection[Part]) -> dict[str, int]:
    """Quarantine the rows that are there; tables and columns that this Dolibarr lacks are passed over.

    Args:
        connection: in a transaction that acts as the sandbox's owner; committing is the caller's.
        parts: which parts.

    Returns:
        How many rows each part changed, by its name.
    """
    known = _known_rules(_columns(connection, parts), parts)
    return {part: sum(rule.impose(connection) for rule in rules) for part, rules in known.items()}


def check_quarantine(connection: SandboxConnection, parts: Collection[Part], *, agent: str, name: str) -> None:
    """Ask the sandbox whether its quarantine holds.

    Args:
        connection: to the sandbox.
        parts: which parts.
        agent: the agent's login, whose API key is the sandbox's own.
        name: what the error calls the sandbox.

    Raises:
        QuarantineError: something in there knows the way out; the message says how many rows of what.
    """
    there = _columns(connection, parts)
    if parts and not there[CONSTANTS]:
        raise unknown(name)
    known = [(part, rule) for part, rules in _known_rules(there, parts).items() for rule in rules]
    # All at once: to ask takes longer than to count.
    queries = sql.SQL(", ").join(sql.SQL("({})").format(rule.breaches()) for _, rule in known)
    counts = connection.execute(sql.SQL("SELECT {}").format(queries), {"agent": agent}).fetchone()
    assert counts is not None
    found = [
        f"  {part}: {rule.table}, {count} {'row' if count == 1 else 'rows'}"
        for (part, rule), count in zip(known, counts, strict=True)
        if count
    ]
    if found:
        raise QuarantineError(
            f"{name} is not quarantined as the settings ask for:\n" + "\n".join(found),
            hint="Reset it: `erp-sandbox reset`. If that is not enough, golden.prepare or this Dolibarr undoes it.",
        )


def unknown(what: str) -> QuarantineError:
    """The error for what cannot be quarantined, as there is nothing in it by which Dolibarr is known."""
    return QuarantineError(
        f"{what} cannot be quarantined: it has no table public.{CONSTANTS}",
        hint="It is no Dolibarr's, or its tables do not begin with llx_: only those are known here.",
    )


def in_words(counts: Mapping[str, int]) -> str:
    """What was quarantined, in a line: the rows that each part changed."""
    if not counts:
        return "not quarantined: what this copy of prod knows of the outside world, it may use"
    return "quarantined, in rows: " + ", ".join(f"{part} {count}" for part, count in counts.items())


def _columns(connection: SandboxConnection, parts: Collection[Part]) -> Mapping[str, frozenset[str]]:
    """What this Dolibarr has of the tables that matter."""
    return columns_of(connection, tables_of_quarantine(parts) | {CONSTANTS})


def _known_rules(there: Mapping[str, frozenset[str]], parts: Collection[Part]) -> dict[Part, list[_Rule]]:
    """The rules of these parts that mean something to a Dolibarr with these columns, by table."""
    return {
        part: [rule for rule in _RULES[part] if there[rule.table] and there[rule.table].issuperset(rule.needs)]
        for part in PARTS
        if part in parts
    }
