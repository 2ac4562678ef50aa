"""Third parties in the demo's ERP."""

from __future__ import annotations

from .erp_records import Records, Request

__all__ = ["THIRDPARTIES", "create"]

THIRDPARTIES = Records(
    noun="Thirdparty",
    table="llx_societe",
    module="societe",
    required=("name",),
    fields={
        "name": "nom",
        "name_alias": "name_alias",
        "status": "status",
        "code_client": "code_client",
        "code_fournisseur": "code_fournisseur",
        "address": "address",
        "zip": "zip",
        "town": "town",
        "country_id": "fk_pays",
        "phone": "phone",
        "email": "email",
        "url": "url",
        "tva_intra": "tva_intra",
        "client": "client",
        "fournisseur": "fournisseur",
        "note_private": "note_private",
        "note_public": "note_public",
    },
    shown={"entity": "entity", "user_creation_id": "fk_user_creat"},
    author="fk_user_creat",
    used_in={"llx_facture": "fk_soc", "llx_socpeople": "fk_soc"},
)

_ASKS_FOR_A_CODE = ("-1", "auto")

# Dolibarr's numbering 'monkey': the month is shown, the counter runs on.
_NEXT_CUSTOMER_CODE = """
SELECT to_char(now(), '"CU"YYMM-') || to_char(coalesce(max(substr(code_client, 8)::integer), 0) + 1, 'FM00000')
FROM llx_societe
WHERE code_client ~ '^CU\\d{4}-\\d+$' AND entity = %s
"""


def create(request: Request) -> int:
    """Answer ``POST thirdparties``; a ``code_client`` of ``auto`` or ``-1`` asks for the next one."""
    if str(request.body.get("code_client")) not in _ASKS_FOR_A_CODE:
        return THIRDPARTIES.post(request)
    code = request.connection.execute(_NEXT_CUSTOMER_CODE, [request.caller.entity]).fetchone()
    assert code is not None
    return THIRDPARTIES.post(request, {"code_client": code[0]})
