"""Where a Dolibarr looks API keys up, and in which form: that depends on its version."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from ..errors import AgentError
from ..postgres.connection import SandboxConnection
from .constants import constant, is_on
from .crypt import decrypt, encrypt
from .rows import insert
from .version import dolibarr_version

__all__ = ["KeyStore", "key_store"]

_ENCRYPTED_FROM = 18
_TOKEN_TABLE_FROM = 23
_SERVICE = "dolibarr_rest_api"

_READ_FROM_USER = (
    "SELECT api_key FROM public.llx_user WHERE login = %(login)s AND entity = %(entity)s AND api_key <> ''"
)
_READ_FROM_TOKENS = (
    "SELECT t.tokenstring FROM public.llx_oauth_token AS t JOIN public.llx_user AS u ON u.rowid = t.fk_user"
    " WHERE u.login = %(login)s AND u.entity = %(entity)s AND t.service = %(service)s"
)


@dataclass(frozen=True)
class KeyStore:
    """The place of API keys in one database.

    Attributes:
        entity: the company (entity) whose keys are meant.
        unique_id: under which they are encrypted; None where they are stored as they are.
        in_token_table: they are in ``llx_oauth_token``, not in ``llx_user``.
    """

    entity: int
    unique_id: SecretStr | None
    in_token_table: bool

    def store(self, connection: SandboxConnection, user: int, key: SecretStr) -> None:
        """Make ``key`` the only one of ``user`` (a rowid)."""
        stored = key.get_secret_value() if self.unique_id is None else encrypt(key, self.unique_id)
        # Unset is NULL, never '': the column is unique.
        in_user = None if self.in_token_table else stored
        connection.execute("UPDATE public.llx_user SET api_key = %s WHERE rowid = %s", [in_user, user])
        if self.in_token_table:
            connection.execute(
                "DELETE FROM public.llx_oauth_token WHERE service = %s AND fk_user = %s", [_SERVICE, user]
            )
            token = {"service": _SERVICE, "tokenstring": stored, "state": "0", "fk_user": user, "entity": self.entity}
            insert(connection, "llx_oauth_token", token)

    def read(self, connection: SandboxConnection, login: str) -> SecretStr | None:
        """Give the key of the user with this login, if it has exactly one, and one that can be read."""
        query = _READ_FROM_TOKENS if self.in_token_table else _READ_FROM_USER
        wanted = {"login": login, "entity": self.entity, "service": _SERVICE}
        rows = connection.execute(query, wanted).fetchall()
        if len(rows) != 1:
            return None
        return SecretStr(rows[0][0]) if self.unique_id is None else decrypt(rows[0][0], self.unique_id)


def key_store(connection: SandboxConnection, entity: int, unique_id: SecretStr | None) -> KeyStore:
    """Find out where and how this database's Dolibarr stores keys.

    Args:
        connection: a Dolibarr's database.
        entity: the company (entity) whose keys are meant.
        unique_id: the sandbox ERP's own unique id; not needed before Dolibarr 18.

    Raises:
        AgentError: this is no Dolibarr's database, or there is no unique id where one is needed.
    """
    version = dolibarr_version(connection)
    if version.major < _ENCRYPTED_FROM:
        return KeyStore(entity, unique_id=None, in_token_table=False)
    if unique_id is None or not unique_id.get_secret_value():
        raise AgentError(
            f"Dolibarr {version} encrypts API keys, and sandbox.erp.instance-unique-id is not set",
            hint="Set it to the sandbox ERP's own $dolibarr_main_instance_unique_id (conf.php), which the container"
            " image takes from DOLI_INSTANCE_UNIQUE_ID.",
        )
    in_token_table = version.major >= _TOKEN_TABLE_FROM and is_on(constant(connection, "API_IN_TOKEN_TABLE", entity))
    return KeyStore(entity, unique_id, in_token_table)
