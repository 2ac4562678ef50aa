"""Third parties and products."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from .conftest import LOGIN, error_of


def test_one_is_made_read_changed_and_deleted(api: httpx.Client) -> None:
    made = api.post("thirdparties", json={"name": "100 % Crêpes d'Oléron", "client": 1, "email": "a@b.example"})
    assert made.json() == 13
    path = f"thirdparties/{made.json()}"
    read = api.get(path).json()
    assert (read["id"], read["name"], read["client"]) == ("13", "100 % Crêpes d'Oléron", "1")
    assert (read["email"], read["town"]) == ("a@b.example", None)
    changed = api.put(path, json={"town": "Saint-Pierre 100 %s", "unknown field": 1}).json()
    assert (changed["town"], changed["name"]) == ("Saint-Pierre 100 %s", read["name"])
    assert api.delete(path).json() == {"success": {"code": 200, "message": "Thirdparty deleted"}}
    assert "Thirdparty not found" in error_of(api.get(path), 404)


def test_it_belongs_to_who_made_it_and_when(api: httpx.Client) -> None:
    before = int(datetime.now(UTC).timestamp())
    read = api.get(f"thirdparties/{api.post('thirdparties', json={'name': 'New'}).json()}").json()
    assert read["user_creation_id"] == api.get(f"users/login/{LOGIN}").json()["id"]
    assert before - 90_000 <= read["date_creation"] <= before + 90_000  # the server's time zone is not ours


def test_a_list_has_pages(api: httpx.Client) -> None:
    pages = [api.get("thirdparties", params={"limit": 5, "page": page}).json() for page in range(4)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert [one["name"] for page in pages for one in page] == [one["name"] for one in api.get("thirdparties").json()]
    assert api.get("thirdparties", params={"limit": 0}).json() == api.get("thirdparties").json()


def test_a_code_is_given_on_request(api: httpx.Client) -> None:
    made = [api.post("thirdparties", json={"name": n, "code_client": "auto"}).json() for n in ("a", "b")]
    codes = [api.get(f"thirdparties/{one}").json()["code_client"] for one in made]
    assert [code.partition("-")[2] for code in codes] == ["00011", "00012"]


def test_one_that_has_invoices_stays(api: httpx.Client) -> None:
    assert "probably used" in error_of(api.delete("thirdparties/1"), 409)
    assert api.get("thirdparties/1").is_success


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "name field missing"),
        ({"name": ""}, "name field missing"),
        ({"name": ["a"]}, "name has to be a single value"),
        ({"name": "x" * 200}, "too long"),
        ({"name": "x", "client": "many"}, "invalid input"),
    ],
)
def test_bad_input_is_400_and_changes_nothing(api: httpx.Client, body: object, said: str) -> None:
    assert said in error_of(api.post("thirdparties", json=body), 400)
    assert len(api.get("thirdparties").json()) == 12


def test_a_second_one_with_the_same_code_is_409(api: httpx.Client) -> None:
    said = error_of(api.post("thirdparties", json={"name": "x", "code_client": "CU1903-00001"}), 409)
    assert "uk_societe_code_client" in said


@pytest.mark.parametrize("query", [{"limit": "-1"}, {"page": "x"}, {"sqlfilters": "(t.nom:like:'%a%')"}])
def test_what_a_list_does_not_know_is_400(api: httpx.Client, query: dict[str, str]) -> None:
    error_of(api.get("thirdparties", params=query), 400)


def test_a_product_is_made_read_changed_and_deleted(api: httpx.Client) -> None:
    made = api.post("products", json={"ref": "KIG", "label": "Kig ha farz", "price": 14, "tva_tx": 10}).json()
    read = api.get(f"products/{made}").json()
    assert (read["ref"], float(read["price"]), float(read["price_ttc"])) == ("KIG", 14, 15.4)
    assert float(api.put(f"products/{made}", json={"price": "20"}).json()["price_ttc"]) == 22
    assert api.delete(f"products/{made}").is_success
    error_of(api.get(f"products/{made}"), 404)


def test_a_product_that_was_sold_stays(api: httpx.Client) -> None:
    assert "product is probably used" in error_of(api.delete("products/1"), 409)


@pytest.mark.parametrize(("body", "missing"), [({"label": "x"}, "ref"), ({"ref": "x"}, "label")])
def test_a_product_needs_a_ref_and_a_label(api: httpx.Client, body: object, missing: str) -> None:
    assert f"{missing} field missing" in error_of(api.post("products", json=body), 400)
