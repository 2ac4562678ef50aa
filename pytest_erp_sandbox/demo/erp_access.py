"""Who may do what in the demo's ERP: keys and rights, looked up as Dolibarr does."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import psycopg
from pydantic import SecretStr

from ..dolibarr.constants import constant, is_on
from ..dolibarr.crypt import MAX_KEY_LENGTH, encrypt
from ..dolibarr.version import dolibarr_version

__all__ = ["ApiError", "Caller", "authenticate"]

_UNKNOWN_CALLER = "Error user not valid (not found with api key or bad status or bad validity dates)"

_RIGHTS = """
SELECT DISTINCT concat_ws('.', module, perms, nullif(subperms, ''))
FROM llx_rights_def AS d
WHERE d.entity = %(entity)s AND d.id IN (
    SELECT fk_id FROM llx_user_rights WHERE fk_user = %(user)s AND entity = %(entity)s
    UNION
    SELECT r.fk_id
    FROM llx_usergroup_rights AS r JOIN llx_usergroup_user AS m ON m.fk_usergroup = r.fk_usergroup
    WHERE m.fk_user = %(user)s AND r.entity = %(entity)s
)
"""

_KEY_IN_USER = "SELECT rowid FROM llx_user WHERE api_key = ANY (%s)"
_KEY_IN_TOKEN = "SELECT fk_user FROM llx_oauth_token WHERE tokenstring = ANY (%s) AND service = 'dolibarr_rest_api'"  # noqa: S105
_USER = """
SELECT login, CASE entity WHEN 0 THEN 1 ELSE entity END, coalesce(admin, 0) = 1
FROM llx_user
WHERE rowid = %s AND statut = 1
    AND coalesce(datestartvalidity <= now(), true) AND coalesce(dateendvalidity >= now(), true)
"""


class ApiError(Exception):
    """An answer that is an error, in Dolibarr's shape: ``{"error": {"code": …, "message": …}}``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = HTTPStatus(status)

    def as_json(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": {"code": self.status.value, "message": f"{self.status.phrase}: {self}"}}


@dataclass(frozen=True)
class Caller:
    """The user whose key came with a request.

    Attributes:
        rights: names of what the user and its groups may do; being admin adds none.
    """

    id: int
    login: str
    entity: int
    admin: bool
    rights: frozenset[str] = field(repr=False)

    def may(self, *rights: str) -> bool:
        """Whether the user has one of ``rights``."""
        return not self.rights.isdisjoint(rights)

    def require(self, right: str) -> None:
        """Go on only with ``right``.

        Raises:
            ApiError: 403, without it.
        """
        if not self.may(right):
            raise ApiError(403, f"Access not allowed for login {self.login} (missing right {right})")


def authenticate(connection: psycopg.Connection[Any], key: str, unique_id: SecretStr) -> Caller:
    """Find the user whose key this is.

    Raises:
        ApiError: 401, there is none, or it is disabled or out of its dates; 503, several users have this key.
    """
    if not key:
        raise ApiError(401, "Failed to login to API. No parameter 'HTTP_DOLAPIKEY' on HTTP header")
    if key.lower().startswith("dolcrypt:"):
        raise ApiError(503, "Bad value for the API key. An API key should not start with dolcrypt:")
    major = dolibarr_version(connection).major
    forms = [key]
    if major >= 18 and key.isascii() and key.isprintable() and len(key) <= MAX_KEY_LENGTH:
        forms.append(encrypt(SecretStr(key), unique_id))
    in_token_table = major >= 23 and is_on(constant(connection, "API_IN_TOKEN_TABLE", 1))
    found = connection.execute(_KEY_IN_TOKEN if in_token_table else _KEY_IN_USER, [forms]).fetchall()
    if len(found) > 1:
        raise ApiError(503, "Error when fetching user api_key : More than 1 user with this apikey")
    user = connection.execute(_USER, found[0]).fetchone() if found else None
    if user is None:
        raise ApiError(401, _UNKNOWN_CALLER)
    login, entity, admin = user
    return Caller(found[0][0], login, entity, admin, _rights_of(connection, found[0][0], entity))


def _rights_of(connection: psycopg.Connection[Any], user: int, entity: int) -> frozenset[str]:
    return frozenset(name for (name,) in connection.execute(_RIGHTS, {"user": user, "entity": entity}))
