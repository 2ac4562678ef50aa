"""Invoices in the demo's ERP: lines, totals, drafts, and validation, which gives them their number."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from importlib import resources
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from ..dolibarr.constants import constant, is_on
from .erp_access import ApiError
from .erp_records import Records, Request, as_json, column_value

__all__ = ["add_line", "create", "delete", "get", "list_all", "list_lines", "validate"]

_DRAFT = "0"

_INVOICES = Records(
    noun="Invoice",
    table="llx_facture",
    module="facture",
    fields={
        "socid": "fk_soc",
        "type": "type",
        "ref_client": "ref_client",
        "note_public": "note_public",
        "note_private": "note_private",
    },
    required=("socid",),
    shown={
        "ref": "ref",
        "entity": "entity",
        "date": "datef",
        "date_validation": "date_valid",
        "status": "fk_statut",
        "paid": "paye",
        "total_ht": "total_ht",
        "total_tva": "total_tva",
        "total_ttc": "total_ttc",
        "user_creation_id": "fk_user_author",
        "user_validation_id": "fk_user_valid",
    },
)

_LINES = """
SELECT rowid AS id, fk_facture, fk_product, label, description AS "desc", tva_tx, qty, remise_percent, subprice,
    product_type, rang, total_ht, total_tva, total_ttc
FROM llx_facturedet WHERE fk_facture = %s ORDER BY rang, rowid
"""

_LINE_DEFAULTS = {
    "fk_product": None,
    "label": None,
    "desc": None,
    "qty": 1,
    "subprice": 0,
    "tva_tx": 0,
    "remise_percent": 0,
    "product_type": 0,
}

_TOTALS = """
UPDATE llx_facture SET (total_ht, total_tva, total_ttc) = (
    SELECT coalesce(sum(total_ht), 0), coalesce(sum(total_tva), 0), coalesce(sum(total_ttc), 0)
    FROM llx_facturedet WHERE fk_facture = llx_facture.rowid
) WHERE rowid = %s
"""

# Dolibarr's numbering 'terre': the month is shown, the counter runs on.
_VALIDATE = """
UPDATE llx_facture SET
    ref = to_char(datef, '"FA"YYMM-') || to_char((
        SELECT coalesce(max(substr(ref, 8)::integer), 0) + 1 FROM llx_facture
        WHERE ref ~ '^FA\\d{4}-\\d+$' AND entity = %(entity)s
    ), 'FM0000'),
    fk_statut = 1, date_valid = current_date, fk_user_valid = %(user)s
WHERE rowid = %(invoice)s
"""


def list_all(request: Request) -> list[dict[str, Any]]:
    """Answer ``GET invoices``."""
    return [{**invoice, "lines": _lines(request, int(invoice["id"]))} for invoice in _INVOICES.list_page(request)]


def get(request: Request) -> dict[str, Any]:
    """Answer ``GET invoices/{id}``, lines included."""
    return {**_INVOICES.get(request), "lines": _lines(request, request.id)}


def create(request: Request) -> int:
    """Answer ``POST invoices`` with the id of a new draft, made with the body's ``lines``."""
    lines = request.body.get("lines", [])
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise ApiError(400, "lines has to be a list of objects")
    invoice = _INVOICES.post(request, {"ref": "(PROV)", "datef": _date(request.body.get("date"))})
    request.connection.execute("UPDATE llx_facture SET ref = %s WHERE rowid = %s", [f"(PROV{invoice})", invoice])
    for line in lines:
        _insert_line(request, invoice, line)
    return invoice


def list_lines(request: Request) -> list[dict[str, Any]]:
    """Answer ``GET invoices/{id}/lines``."""
    _INVOICES.get(request)
    return _lines(request, request.id)


def add_line(request: Request) -> int:
    """Answer ``POST invoices/{id}/lines`` with the new line's id."""
    request.caller.require("facture.creer")
    if _INVOICES.fetch(request)["status"] != _DRAFT:
        raise ApiError(400, "Unable to insert the new line. Check your inputs. The invoice is not a draft")
    return _insert_line(request, request.id, request.body)


def validate(request: Request) -> dict[str, Any]:
    """Answer ``POST invoices/{id}/validate`` with the invoice, which now has its number."""
    request.caller.require("facture.creer")
    if is_on(constant(request.connection, "MAIN_USE_ADVANCED_PERMS", request.caller.entity)):
        request.caller.require("facture.invoice_advance.validate")
    if _INVOICES.fetch(request)["status"] != _DRAFT:
        raise ApiError(304, "Error nothing done. May be object is already validated")
    if not _lines(request, request.id):
        raise ApiError(500, "Error when validating Invoice: it has no lines")
    numbers = {"entity": request.caller.entity, "user": request.caller.id, "invoice": request.id}
    request.connection.execute(_VALIDATE, numbers)
    return {**_INVOICES.fetch(request), "lines": _lines(request, request.id)}


def delete(request: Request) -> dict[str, Any]:
    """Answer ``DELETE invoices/{id}``; only a draft can go."""
    request.caller.require("facture.supprimer")
    if _INVOICES.fetch(request)["status"] != _DRAFT:
        raise ApiError(403, "Invoice not erasable")
    request.connection.execute("DELETE FROM llx_facturedet WHERE fk_facture = %s", [request.id])
    return _INVOICES.delete(request)


def _lines(request: Request, invoice: int) -> list[dict[str, Any]]:
    with request.connection.cursor(row_factory=dict_row) as cursor:
        return [as_json(row) for row in cursor.execute(_LINES, [invoice])]


def _insert_line(request: Request, invoice: int, line: Mapping[str, Any]) -> int:
    given = {name: column_value(name, line.get(name, default)) for name, default in _LINE_DEFAULTS.items()}
    statement = resources.files(__package__).joinpath("erp_line.sql").read_bytes()
    row = request.connection.execute(sql.SQL(statement.decode()), {"invoice": invoice, **given}).fetchone()
    assert row is not None
    request.connection.execute(_TOTALS, [invoice])
    return int(row[0])


def _date(value: object) -> datetime.date:
    """A date that came as Unix time or as ``YYYY-MM-DD``; today without one."""
    try:
        if value is None:
            return datetime.datetime.now(datetime.UTC).date()
        if isinstance(value, int | float) or str(value).isdigit():
            return datetime.datetime.fromtimestamp(float(str(value)), datetime.UTC).date()
        return datetime.date.fromisoformat(str(value)[:10])
    except (ValueError, OverflowError, OSError):
        raise ApiError(400, "date has to be Unix time or YYYY-MM-DD") from None
