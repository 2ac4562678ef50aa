"""Products and services in the demo's ERP."""

from __future__ import annotations

from typing import Any

from .erp_records import Records, Request

__all__ = ["PRODUCTS", "change", "create"]

PRODUCTS = Records(
    noun="Product",
    table="llx_product",
    module="produit",
    required=("ref", "label"),
    fields={
        "ref": "ref",
        "label": "label",
        "description": "description",
        "type": "fk_product_type",
        "status": "tosell",
        "status_buy": "tobuy",
        "price": "price",
        "tva_tx": "tva_tx",
        "barcode": "barcode",
        "note_public": "note_public",
    },
    shown={"entity": "entity", "price_ttc": "price_ttc", "stock_reel": "stock"},
    used_in={"llx_facturedet": "fk_product"},
)

_PRICE_WITH_VAT = (
    "UPDATE llx_product SET price_ttc = round(price * (1 + coalesce(tva_tx, 0) / 100), 8) WHERE rowid = %s"
)


def create(request: Request) -> int:
    """Answer ``POST products``; the price with VAT follows from the price."""
    product = PRODUCTS.post(request)
    request.connection.execute(_PRICE_WITH_VAT, [product])
    return product


def change(request: Request) -> dict[str, Any]:
    """Answer ``PUT products/{id}``; the price with VAT follows from the price."""
    PRODUCTS.put(request)
    request.connection.execute(_PRICE_WITH_VAT, [request.id])
    return PRODUCTS.fetch(request)
