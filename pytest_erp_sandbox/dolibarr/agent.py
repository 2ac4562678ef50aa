"""The agent: a user of the sandbox alone, with exactly the rights asked for, and its API key."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import psycopg
from psycopg import sql
from pydantic import SecretStr

from ..errors import AgentError
from ..postgres.connection import SandboxConnection
from .constants import constant, is_on
from .keys import key_store
from .rights import resolve_rights
from .rows import catch_up, columns, insert

__all__ = ["agent_id", "provision_agent", "read_agent_key"]

KEY_BYTES = 24
"""Random bytes in a key; it is written in hexadecimal digits, twice as many."""

# What a user of prod with the agent's login may bring along, and the agent must not have.
_CLEARED = (
    "datestartvalidity",
    "dateendvalidity",
    "flagdelsessionsbefore",
    "fk_soc",
    "pass",
    "pass_crypted",
    "pass_temp",
)


def provision_agent(
    connection: SandboxConnection, *, login: str, rights: Sequence[str], entity: int, unique_id: SecretStr | None
) -> SecretStr:
    """Make the agent's user, enabled and no admin, with exactly ``rights`` and a fresh key.

    A user with this login is taken over: other rights, groups, password and limits of validity are removed.

    Args:
        connection: in a transaction that acts as the sandbox's owner; committing is the caller's.
        login: the agent's login.
        rights: names of rights, ``*`` matching anything.
        entity: the company (entity) that the agent belongs to.
        unique_id: the sandbox ERP's own unique id, under which it looks keys up from Dolibarr 18 on.

    Returns:
        The key, which exists nowhere else.

    Raises:
        AgentError: an unknown right, no unique id where one is needed, module API off, or PostgreSQL refused.
    """
    if not is_on(constant(connection, "MAIN_MODULE_API", entity)):
        raise AgentError(
            f"Dolibarr's module API is off in prod's copy (llx_const MAIN_MODULE_API, entity {entity}):"
            " an agent could not call anything",
            hint="Switch the module 'API/Web services REST' on in prod's Dolibarr (Setup, Modules) and refresh.",
        )
    keys = key_store(connection, entity, unique_id)
    granted = resolve_rights(connection, rights, entity)
    key = SecretStr(secrets.token_hex(KEY_BYTES))
    try:
        user = _put_user(connection, login, entity)
        _leave_groups(connection, user)
        _grant_exactly(connection, user, granted, entity)
        keys.store(connection, user, key)
    except psycopg.Error as error:
        # Only the first words: PostgreSQL's details quote the row, key and all.
        raise AgentError(f"the agent's user {login!r} cannot be made: {error.diag.message_primary or error}") from None
    return key


def read_agent_key(
    connection: SandboxConnection, *, login: str, entity: int, unique_id: SecretStr | None
) -> SecretStr | None:
    """Read the agent's key back from the sandbox.

    Returns:
        The key, or None if there is no such user, or no key of it that ``unique_id`` decrypts.

    Raises:
        AgentError: this is no Dolibarr's database, or there is no unique id where one is needed.
    """
    return key_store(connection, entity, unique_id).read(connection, login)


def agent_id(connection: SandboxConnection, *, login: str, entity: int) -> int | None:
    """The agent's number among the users; None if it is not there."""
    query = "SELECT rowid FROM public.llx_user WHERE login = %s AND entity = %s"
    row = connection.execute(query, [login, entity]).fetchone()
    return None if row is None else int(row[0])


def _put_user(connection: SandboxConnection, login: str, entity: int) -> int:
    for_all = connection.execute("SELECT FROM public.llx_user WHERE login = %s AND entity = 0", [login]).fetchone()
    if for_all is not None:
        raise AgentError(
            f"prod has a user {login!r} for all companies (entity 0), such as its administrators",
            hint="Choose another agent.login.",
        )
    values = {"statut": 1, "admin": 0, **dict.fromkeys(_CLEARED)}
    changes = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(values[name]))
        for name in sorted(values.keys() & columns(connection, "llx_user"))
    ]
    update = sql.SQL("UPDATE public.llx_user SET {} WHERE login = %s AND entity = %s RETURNING rowid")
    row = connection.execute(update.format(sql.SQL(", ").join(changes)), [login, entity]).fetchone()
    if row is not None:
        return int(row[0])
    new = {"login": login, "entity": entity, "lastname": login, "employee": 0, **values}
    return insert(connection, "llx_user", new)


def _leave_groups(connection: SandboxConnection, user: int) -> None:
    if columns(connection, "llx_usergroup_user"):
        connection.execute("DELETE FROM public.llx_usergroup_user WHERE fk_user = %s", [user])


def _grant_exactly(connection: SandboxConnection, user: int, rights: Sequence[int], entity: int) -> None:
    connection.execute("DELETE FROM public.llx_user_rights WHERE fk_user = %s", [user])
    catch_up(connection, "llx_user_rights")
    connection.execute(
        "INSERT INTO public.llx_user_rights (entity, fk_user, fk_id) SELECT %s, %s, unnest(%s::integer[])",
        [entity, user, list(rights)],
    )
