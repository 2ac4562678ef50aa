"""Users in the demo's ERP, and its status."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from ..dolibarr.version import dolibarr_version
from .erp_access import ApiError
from .erp_records import Request, as_json

__all__ = ["by_login", "info", "status"]

_USER = """
SELECT rowid AS id, login, lastname, firstname, email, entity, statut, statut AS status, admin, job, office_phone
FROM llx_user WHERE login = %s AND entity IN (0, %s) ORDER BY entity DESC LIMIT 1
"""

_GROUPS = """
SELECT g.rowid AS id, g.nom AS name
FROM llx_usergroup AS g JOIN llx_usergroup_user AS m ON m.fk_usergroup = g.rowid
WHERE m.fk_user = %s ORDER BY g.nom
"""


def status(request: Request) -> dict[str, Any]:
    """Answer ``GET status``."""
    version = dolibarr_version(request.connection)
    return {"success": {"code": 200, "dolibarr_version": version.text, "access_locked": "0"}}


def info(request: Request) -> dict[str, Any]:
    """Answer ``GET users/info``: the caller's own card, for those who may read or change users."""
    if not (request.caller.admin or request.caller.may("user.self.creer", "user.user.lire")):
        raise ApiError(403, "Not allowed")
    with request.connection.cursor(row_factory=dict_row) as cursor:
        groups = [as_json(row) for row in cursor.execute(_GROUPS, [request.caller.id])]
    return {**_card(request, request.caller.login), "user_group_list": groups}


def by_login(request: Request) -> dict[str, Any]:
    """Answer ``GET users/login/{login}``: everybody may read the own card."""
    own = request.argument == request.caller.login
    if not (own or request.caller.admin or request.caller.may("user.user.lire")):
        raise ApiError(403, "Not allowed")
    return _card(request, request.argument)


def _card(request: Request, login: str) -> dict[str, Any]:
    with request.connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_USER, [login, request.caller.entity]).fetchone()
    if row is None:
        raise ApiError(404, "User not found")
    return as_json(row)
