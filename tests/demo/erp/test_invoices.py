"""Invoices: lines, totals, drafts, validation."""

from __future__ import annotations

import httpx
import pytest

from pytest_erp_sandbox.postgres.connection import SandboxDatabase

from ...servers import connect
from .conftest import error_of


def test_totals_follow_from_lines(api: httpx.Client) -> None:
    lines = [
        {"desc": "Galettes « complètes »", "qty": 3, "subprice": 6.9, "tva_tx": 5.5},
        {"desc": "Cidre", "qty": 2, "subprice": "7.50", "tva_tx": 20, "fk_product": 4, "remise_percent": 10},
    ]
    made = api.post("invoices", json={"socid": 1, "date": "2026-11-24", "lines": lines}).json()
    invoice = api.get(f"invoices/{made}").json()
    assert (invoice["ref"], invoice["status"], invoice["socid"]) == (f"(PROV{made})", "0", "1")
    assert [line["desc"] for line in invoice["lines"]] == ["Galettes « complètes »", "Cidre"]
    assert [float(line["total_ht"]) for line in invoice["lines"]] == [20.7, 13.5]
    assert [float(invoice[name]) for name in ("total_ht", "total_tva", "total_ttc")] == [34.2, 3.84, 38.04]


def test_a_line_is_added_to_a_draft(api: httpx.Client) -> None:
    line = api.post("invoices/6/lines", json={"desc": "Livraison", "qty": 1, "subprice": 12, "tva_tx": 20}).json()
    lines = api.get("invoices/6/lines").json()
    assert [(one["id"], one["rang"]) for one in lines] == [("10", "1"), (str(line), "2")]
    assert float(api.get("invoices/6").json()["total_ttc"]) == pytest.approx(48.11 + 14.4)


def test_validation_numbers_the_invoice_once(api: httpx.Client) -> None:
    for day in ("2026-11-24", "2026-12-01"):
        made = api.post("invoices", json={"socid": 2, "date": day, "lines": [{"subprice": 10}]}).json()
        validated = api.post(f"invoices/{made}/validate").json()
        assert (validated["status"], float(validated["total_ttc"])) == ("1", 10)
        assert api.post(f"invoices/{made}/validate").status_code == 304
    refs = [invoice["ref"] for invoice in api.get("invoices").json()]
    assert refs[-2:] == ["FA2611-0005", "FA2612-0006"]


def test_an_invoice_without_lines_is_not_validated(api: httpx.Client) -> None:
    made = api.post("invoices", json={"socid": 2}).json()
    assert "no lines" in error_of(api.post(f"invoices/{made}/validate"), 500)


def test_a_validated_invoice_keeps_its_lines_and_stays(api: httpx.Client) -> None:
    error_of(api.post("invoices/2/lines", json={"subprice": 1}), 400)
    assert "not erasable" in error_of(api.delete("invoices/2"), 403)
    assert len(api.get("invoices/2/lines").json()) == 2


def test_a_draft_goes_with_its_lines(database: SandboxDatabase, api: httpx.Client) -> None:
    assert api.delete("invoices/5").is_success
    error_of(api.get("invoices/5"), 404)
    with connect(database.dsn) as connection:
        assert connection.execute("SELECT FROM llx_facturedet WHERE fk_facture = 5").fetchall() == []


@pytest.mark.parametrize("date", [1795478400, "1795478400", "2026-11-24", "2026-11-24T10:00:00"])
def test_a_date_is_unix_time_or_a_day(api: httpx.Client, date: int | str) -> None:
    made = api.post("invoices", json={"socid": 1, "date": date}).json()
    assert api.get(f"invoices/{made}").json()["date"] == 1795478400


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "socid field missing"),
        ({"socid": 999}, 409, "fk_facture_fk_soc"),
        ({"socid": 1, "date": "soon"}, 400, "date has to be"),
        ({"socid": 1, "lines": "none"}, 400, "lines has to be"),
        ({"socid": 1, "lines": [{"qty": "many"}]}, 400, "invalid input"),
    ],
)
def test_bad_input_leaves_no_invoice(api: httpx.Client, body: object, status: int, said: str) -> None:
    assert said in error_of(api.post("invoices", json=body), status)
    assert len(api.get("invoices").json()) == 6
