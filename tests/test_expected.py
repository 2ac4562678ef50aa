"""The expected changes of a rehearsal: a text that is the same everywhere, what differs from it, and its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_erp_sandbox.errors import ErpSandboxError
from pytest_erp_sandbox.expected import compare, file_for, render
from pytest_erp_sandbox.postgres.changes import Change, Row

any_time = settings(deadline=None)
NOW = datetime(2026, 11, 24, 11, 30)
REFERENCES = {
    ("llx_facture", "fk_soc"): "llx_societe",
    ("llx_facturedet", "fk_facture"): "llx_facture",
    ("llx_societe", "fk_user_creat"): "llx_user",
    ("llx_categorie_societe", "fk_soc"): "llx_societe",
}


def inserted(table: str, rowid: int, **row: Any) -> Change:
    return Change(table, {"rowid": rowid}, None, {"rowid": rowid, **row})


def updated(table: str, rowid: int, before: Row, after: Row) -> Change:
    return Change(table, {"rowid": rowid}, {"rowid": rowid, **before}, {"rowid": rowid, **after})


def deleted(table: str, rowid: int, **row: Any) -> Change:
    return Change(table, {"rowid": rowid}, {"rowid": rowid, **row}, None)


def text(*changes: Change, **given: Any) -> str:
    return render(changes, REFERENCES, given.pop("now", NOW), **given)


def value(shown: object, column: str = "note") -> str:
    """How the value of an inserted row is written."""
    return text(inserted("llx_thing", 5, **{column: shown})).partition(": ")[2].rstrip()


# A rehearsal, wherever it was ----------------------------------------------------------------------------------------


def rehearsal(societe: int = 31, facture: int = 12, line: int = 77, event: int = 5, number: int = 4) -> list[Change]:
    """A new customer, an invoice of two lines that was validated, a draft, and what is said of them."""
    return [
        inserted("llx_societe", societe, nom="Acme", datec=NOW, parent=None, code_client=f"CU2611-{number:05}"),
        inserted("llx_facture", facture, ref=f"FA2611-{number:04}", fk_soc=societe, datef=NOW.date(), fk_statut=1),
        inserted("llx_facture", facture + 2, ref=f"(PROV{facture + 2})", fk_soc=7, total_ht=Decimal("12.50000000")),
        inserted("llx_facturedet", line, fk_facture=facture, qty=2.0),
        inserted("llx_facturedet", line + 1, fk_facture=facture, qty=3.0),
        Change("llx_actioncomm", {"id": event}, None, {
            "id": event, "ref": str(event), "fk_element": facture, "elementtype": "invoice",
            "label": f"Invoice FA2611-{number:04} validated (it was (PROV{facture}))",
        }),
        Change("llx_ecm_files", {"rowid": event}, None, {
            "rowid": event, "filepath": f"facture/(PROV{facture + 2})",
            "src_object_type": "facture", "src_object_id": facture + 2,
        }),
        updated("llx_const", 12, {"value": "4"}, {"value": "5"}),
        deleted("llx_product", 3, ref="Cidre"),
    ]  # fmt: skip


def test_a_rehearsal_reads_well() -> None:
    assert text(*rehearsal()) == (
        """\
inserted llx_actioncomm#1
    ref: '‹llx_actioncomm#1›'
    fk_element: llx_facture#1
    elementtype: 'invoice'
    label: 'Invoice ‹FA#1› validated (it was (PROV‹llx_facture#1›))'
updated llx_const rowid=12
    value: '4' → '5'
inserted llx_ecm_files#1
    filepath: 'facture/(PROV‹llx_facture#2›)'
    src_object_type: 'facture'
    src_object_id: llx_facture#2
inserted llx_facture#1
    ref: '‹FA#1›'
    fk_soc: llx_societe#1
    datef: <today>
    fk_statut: 1
inserted llx_facture#2
    ref: '(PROV‹llx_facture#2›)'
    fk_soc: 7
    total_ht: 12.5
inserted llx_facturedet#1
    fk_facture: llx_facture#1
    qty: 2.0
inserted llx_facturedet#2
    fk_facture: llx_facture#1
    qty: 3.0
deleted llx_product rowid=3
inserted llx_societe#1
    nom: 'Acme'
    datec: <time>
    code_client: '‹CU#1›'
"""  # noqa: RUF001
    )


KEYS = st.integers(min_value=100, max_value=2**31)


@any_time
@given(societe=KEYS, facture=KEYS, line=KEYS, event=KEYS, number=st.integers(1, 9000), order=st.randoms())
def test_a_rehearsal_reads_the_same_with_other_keys(order: Any, **numbers: int) -> None:
    elsewhere = rehearsal(**numbers)
    order.shuffle(elsewhere)
    assert text(*elsewhere) == text(*rehearsal())


def test_all_new_rows_may_have_the_same_key() -> None:
    assert text(*rehearsal(societe=12, facture=12, line=12, event=12)) == text(*rehearsal())
    assert text(*rehearsal(societe=14, facture=12, line=14, event=14)) == text(*rehearsal())


def test_an_empty_table_gives_its_first_key_without_being_taken_for_a_status() -> None:
    rows = [
        inserted("llx_facture", 20, fk_statut=1, fk_pays=1, fk_mode_reglement=1, entity=1, fk_soc=1, fk_user_valid=1),
        inserted("llx_bookmark", 1, title="first"),
    ]
    assert "#1" not in text(*rows).partition("fk_statut")[2].partition("inserted")[0].replace("llx_facture#1", "")
    assert text(*rows).count("llx_bookmark#1") == 1


@pytest.mark.parametrize(
    ("column", "row"),
    [
        ("fk_soc", {}),
        ("socid", {}),
        ("fk_societe", {}),
        ("fk_soc_parent", {}),
        ("element_id", {"element_type": "thirdparty"}),
        ("fk_object", {"objecttype": "societe"}),
        ("fk_whatever", {}),
        ("their_own_id", {}),
    ],
)
def test_a_soft_reference_is_followed(column: str, row: Mapping[str, Any]) -> None:
    rows = [inserted("llx_societe", 31), inserted("llx_thing", 8, **row, **{column: 31})]
    assert f"    {column}: llx_societe#1\n" in text(*rows)


@pytest.mark.parametrize("column", ["fk_product", "qty", "fk_statut", "paid", "fk_whatever"])
def test_a_number_that_two_new_rows_have_is_no_reference_without_a_hint(column: str) -> None:
    rows = [inserted("llx_societe", 31), inserted("llx_projet", 31), inserted("llx_thing", 8, **{column: 31})]
    assert f"    {column}: 31\n" in text(*rows)


def test_extra_fields_and_parents_refer_to_what_they_belong_to() -> None:
    rows = [
        inserted("llx_facture", 31),
        inserted("llx_societe", 31),
        inserted("llx_societe", 32, parent=31),
        inserted("llx_facture_extrafields", 31, fk_object=31),
    ]
    assert "    parent: llx_societe#1\n" in text(*rows)
    assert "    fk_object: llx_facture#1\n" in text(*rows)


def test_a_foreign_key_refers_to_its_own_table_only() -> None:
    assert "    fk_soc: 31\n" in text(inserted("llx_facture", 8, fk_soc=31), inserted("llx_projet", 31))


def test_a_row_that_is_known_by_others_keeps_that_name() -> None:
    links = [
        Change("llx_categorie_societe", key, None, key)
        for key in ({"fk_categorie": 7, "fk_soc": 5}, {"fk_categorie": 7, "fk_soc": 8})
    ]
    assert text(*links, inserted("llx_societe", 5)) == (
        "inserted llx_categorie_societe#1\n    fk_categorie: 7\n    fk_soc: 8\n"
        "inserted llx_categorie_societe#2\n    fk_categorie: 7\n    fk_soc: llx_societe#1\n"
        "inserted llx_societe#1\n"
    )


def test_a_key_that_is_a_reference_too_is_shown() -> None:
    references = {("llx_facture_more", "fk_facture"): "llx_facture"}
    more = Change("llx_facture_more", {"fk_facture": 8}, None, {"fk_facture": 8})
    assert "    fk_facture: llx_facture#1\n" in render([more, inserted("llx_facture", 8)], references, NOW)


def test_drafts_of_the_same_number_are_told_apart() -> None:
    drafts = [inserted("llx_facture", 12, ref="(PROV12)"), inserted("llx_propal", 12, ref="(PROV12)")]
    mention = inserted("llx_event", 12, label="(PROV12), not (PROV13)")
    assert re.findall(r"(?:ref|label): '(.*)'", text(*drafts, mention)) == [
        "(PROV\u2039?\u203a), not (PROV13)",
        "(PROV\u2039llx_facture#1\u203a)",
        "(PROV\u2039llx_propal#1\u203a)",
    ]


def test_the_agents_user_has_a_name_although_the_rehearsal_did_not_insert_it() -> None:
    rows = [inserted("llx_societe", 31, fk_user_creat=9), updated("llx_user", 9, {"lang": None}, {"lang": "fr_FR"})]
    assert text(*rows, named={("llx_user", 9): "llx_user#agent"}) == (
        "inserted llx_societe#1\n    fk_user_creat: llx_user#agent\nupdated llx_user#agent\n    lang: NULL → 'fr_FR'\n"
    )
    assert compare(*[text(*rows, named={("llx_user", 9): "llx_user#agent"})] * 2) == ""


def test_rows_without_a_key_are_numbered_by_what_is_in_them() -> None:
    rows = [Change("llx_user_param", None, None, {"fk_user": 1, "param": name}) for name in "BA"]
    rows.append(Change("llx_user_param", None, {"fk_user": 1, "param": "C"}, None))
    assert re.findall(r"(\w+) \w+#(\d)\n.*\n.*'(\w)'", text(*rows)) == [
        ("deleted", "1", "C"),
        ("inserted", "2", "A"),
        ("inserted", "3", "B"),
    ]
    assert text(*rows) == text(*reversed(rows))


# Values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        (12, "12"),
        (True, "true"),
        (1.5, "1.5"),
        (Decimal("366.00000000"), "366"),
        (Decimal("0E-8"), "0"),
        (Decimal("NaN"), "NaN"),
        ("Acme", "'Acme'"),
        ("", "''"),
        ("12", "'12'"),
        ("l'été → \\o/", r"'l\'été → \\o/'"),
        ("a\nb", "'a\\n'\n        'b'"),
        ("tab\t, no\xa0break, \u202eright", r"'tab\t, no\u00a0break, \u202eright'"),
        (b"\x00\xff", r"\x00ff"),
        ([1, None, "a, b"], "[1, NULL, 'a, b']"),
        ({"a": 1}, "'{\"a\": 1}'"),
        (time(12, 30), "12:30:00"),
        (timedelta(days=2), "2 days, 0:00:00"),
        ("infinity", "'infinity'"),
    ],
    ids=repr,
)
def test_a_value_is_written(shown: object, written: str) -> None:
    assert value(shown) == written


@pytest.mark.parametrize("long", ["x" * 5000, b"x" * 5000])
def test_a_long_value_is_told_by_its_length_and_a_digest(long: str | bytes) -> None:
    assert re.fullmatch(r"<5000 (characters|bytes), sha256 [0-9a-f]{16}>", value(long))
    assert value(long) != value(long[:-1] + long[:1].upper() if isinstance(long, str) else long[:-1] + b"y")


def test_a_long_text_is_the_same_with_other_keys() -> None:
    assert len({text(inserted("llx_facture", key, note=f"(PROV{key}) " * 300)) for key in (9, 10, 99_999)}) == 1


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (NOW - timedelta(hours=25), "<time>"),
        (NOW + timedelta(hours=25), "<time>"),
        (NOW - timedelta(hours=27), "2026-11-23 08:30:00"),
        (NOW.replace(tzinfo=timezone(timedelta(hours=13))), "<time>"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=13))), "0001-01-01 00:00:00+13:00"),
        (NOW.date() - timedelta(days=1), "<today>"),
        (NOW.date() + timedelta(days=2), "2026-11-26"),
        (date.max, "9999-12-31"),
    ],
    ids=str,
)
@pytest.mark.parametrize("zone", [None, UTC], ids=str)
def test_a_time_is_told_unless_it_is_now(moment: date, written: str, zone: Any) -> None:
    assert text(inserted("llx_thing", 5, x=moment), now=NOW.replace(tzinfo=zone)).endswith(f"    x: {written}\n")


def test_what_time_it_was_before_does_not_count() -> None:
    first = updated("llx_user", 1, {"datelastlogin": datetime(2025, 1, 1)}, {"datelastlogin": NOW})
    second = updated("llx_user", 1, {"datelastlogin": NOW - timedelta(hours=1)}, {"datelastlogin": NOW})
    assert text(first) == text(second) == "updated llx_user rowid=1\n    datelastlogin: … → <time>\n"


def test_numbers_of_prod_and_such_as_people_gave_are_shown() -> None:
    rows = [
        inserted("llx_facture", 8, ref="FA2611-0007", ref_client="PO2611-0042", note="as FA2401-0003, not FA2611-0007"),
        updated("llx_facture", 3, {"ref": "FA2401-0003", "paye": 0}, {"ref": "FA2401-0003", "paye": 1}),
    ]
    assert "ref_client: 'PO2611-0042'\n    note: 'as FA2401-0003, not \u2039FA#1\u203a'" in text(*rows)


def test_a_secret_is_what_it_says() -> None:
    class Secret:
        def __str__(self) -> str:
            return "‹redacted›"  # noqa: RUF001

    row = updated("llx_user", 1, {"api_key": Secret()}, {"api_key": Secret()})
    assert text(row) == "updated llx_user rowid=1\n    api_key: \u2039redacted\u203a\n"


def test_a_key_may_be_any_text() -> None:
    row = Change("t", {"a b": "x = \n'#1"}, {"n": 1}, {"n": 2})
    assert text(row) == "updated t \"a b\"='x = \\n' '\\'#1'\n    n: 1 → 2\n"
    assert compare(text(row), text(row)) == ""


def test_no_change_is_said_to_be_none() -> None:
    assert text() == "# nothing is changed\n"
    assert compare("", text()) == ""


# Any changes ---------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["llx_societe", "llx_facture", "llx_user", '"Größe #1"', 'other."it\'s ""x"": \u2039y\u203a"'])
COLUMNS = st.sampled_from(["nom", "fk_soc", "ref", "inserted", "a b", 'q":#', "→", "été", "line\nfeed"])
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 30),
    st.floats(),
    st.decimals(allow_nan=False),
    st.text(max_size=20),
    st.text("a'\"\\#\n\r \t→-:›", max_size=8),  # noqa: RUF001
    st.text(min_size=1001, max_size=1010),
    st.sampled_from(["(PROV3)", "7", "FA2611-0001", "llx_societe#1", "a\nFA2611-0002", "\u2039llx_societe#1\u203a"]),
    st.binary(max_size=60),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
ROWS = st.dictionaries(COLUMNS, VALUES, max_size=4)


@st.composite
def any_changes(draw: st.DrawFn) -> list[Change]:
    changes = []
    for table, key in draw(st.sets(st.tuples(NAMES, st.integers(1, 20)), max_size=8)):
        before, after = draw(ROWS), draw(ROWS)
        kind = draw(st.sampled_from(["inserted", "updated", "deleted", "gone", "come"]))
        named = None if kind in ("gone", "come") else {"rowid": key}
        before = {**(named or {}), **before, **({} if kind != "updated" else dict.fromkeys(after, None)), **before}
        after = {**before, **after} if kind == "updated" else {**(named or {}), **after}
        changes.append(
            Change(
                table,
                named,
                None if kind in ("inserted", "come") else before,
                None if kind in ("deleted", "gone") else after,
            )
        )
    return changes


def as_edited(written: str) -> str:
    """The same with what people, or their editors, do to a file."""
    lines = [line.replace("    ", "\t", 1) + "  # it's so" for line in written.splitlines()]
    return '\ufeff# what "it\'s" about\r\n\r\n' + "\r\n".join(lines)


@any_time
@given(any_changes())
def test_any_text_is_read_back(changes: list[Change]) -> None:
    written = text(*changes)
    assert compare(written, written) == ""
    assert compare(as_edited(written), written) == ""


@any_time
@given(any_changes(), st.data())
def test_another_value_is_told(changes: list[Change], data: st.DataObject) -> None:
    rows = [i for i, change in enumerate(changes) if change.kind == "inserted" and change.key]
    if rows:
        i = data.draw(st.sampled_from(rows))
        other = list(changes)
        other[i] = replace(changes[i], after={**(changes[i].after or {}), "nom": data.draw(st.text(max_size=9))})
        told = compare(text(*changes), text(*other))
        assert (told == "") == (text(*changes) == text(*other))


# Comparing -----------------------------------------------------------------------------------------------------------


def customer(rowid: int, nom: str, **row: Any) -> Change:
    return inserted("llx_societe", rowid, **{"nom": nom, "client": 1, "town": "Brest", "code_client": None, **row})


def test_another_value_an_unexpected_row_and_a_missing_one_are_three_things() -> None:
    event = inserted("llx_actioncomm", 9, label="Customer created")
    product = deleted("llx_product", 3)
    told = compare(text(customer(31, "Acme"), product), text(customer(31, "Acme Ltd"), event))
    assert told == (
        "unexpected: inserted llx_actioncomm#1\n    label: 'Customer created'\n"
        "missing: deleted llx_product rowid=3\n"
        "different: llx_societe#1 nom: 'Acme' was expected, it is 'Acme Ltd'"
    )


def test_one_row_more_before_the_others_is_one_difference() -> None:
    expected = [customer(31, "Acme"), customer(32, "Breizh"), inserted("llx_facture", 5, ref="FA2611-0004", fk_soc=32)]
    found = [
        *(customer(31, "Zorro", town="Metz", client=2), customer(32, "Acme"), customer(33, "Breizh")),
        inserted("llx_facture", 5, ref="FA2611-0004", fk_soc=32, note="a gift"),
        inserted("llx_facture", 6, ref="FA2611-0005", fk_soc=33),
    ]
    assert compare(text(*expected), text(*found)) == (
        "unexpected: inserted llx_facture#2\n"
        "    ref: '\u2039FA#2\u203a'\n    fk_soc: llx_societe#1\n    note: 'a gift'\n"
        "unexpected: inserted llx_societe#3\n    nom: 'Zorro'\n    client: 2\n    town: 'Metz'"
    )


@any_time
@given(st.permutations([*range(6)]), st.permutations([*range(6)]), st.integers(0, 6), st.integers(0, 6))
def test_a_further_customer_with_an_invoice_is_told_whenever_it_was_made(
    customers: list[int], invoices: list[int], customer_at: int, invoice_at: int
) -> None:
    def rows() -> list[Change]:
        """Invoices are told apart by their customers only, lines by their invoices."""
        made = [customer(100 + i, f"Customer {who}") for i, who in enumerate(customers)]
        made += [inserted("llx_facture", 200 + i, fk_soc=100 + customers.index(who)) for i, who in enumerate(invoices)]
        return made + [inserted("llx_facturedet", 300 + i, fk_facture=200 + i, qty=1) for i in range(len(invoices))]

    expected = text(*rows())
    customers.insert(customer_at, 6)
    invoices.insert(invoice_at, 6)
    told = compare(expected, text(*rows()))
    assert re.sub(r"(?m)^ .*\n", "", f"{told}\n") == (
        "unexpected: inserted llx_facture#7\n"
        "unexpected: inserted llx_facturedet#7\n"
        "unexpected: inserted llx_societe#7\n"
    )
    assert "fk_facture: llx_facture#7\n" in told
    assert "nom: 'Customer 6'\n" in told


def test_one_row_less_is_one_difference() -> None:
    lines = [inserted("llx_facturedet", 10 + i, fk_facture=2, rang=i, qty=i % 3, desc=f"item {i}") for i in range(60)]
    told = compare(text(*lines), text(*lines[:7], *lines[8:]))
    assert told.startswith("missing: inserted llx_facturedet#8\n")
    assert told.count("inserted") == 1
    assert "different" not in told


def test_the_likest_rows_are_compared() -> None:
    expected = [customer(31, "Acme", zip="29200"), customer(32, "Breizh", zip="35000")]
    found = [customer(32, "Breizh", zip="35700")]
    told = compare(text(*expected), text(*found))
    assert "different: llx_societe#2 zip: '35000' was expected, it is '35700'" in told
    assert "missing: inserted llx_societe#1" in told
    assert told.count("llx_societe#") == 2


def test_rows_that_have_little_in_common_are_not_compared() -> None:
    expected = inserted("llx_actioncomm", 5, label="Customer created", code="AC_AUTO", percent=100)
    found = inserted("llx_actioncomm", 5, label="Call them", code="AC_TEL", percent=0)
    assert re.findall(r"(?m)^\w+", compare(text(expected), text(found))) == ["unexpected", "missing"]


def test_a_reference_to_another_new_row_is_a_difference() -> None:
    rows = [customer(31, "Acme"), customer(32, "Breizh"), inserted("llx_facture", 5, fk_soc=31)]
    other = [*rows[:2], inserted("llx_facture", 5, fk_soc=32)]
    assert compare(text(*rows), text(*other)) == (
        "different: llx_facture#1 fk_soc: llx_societe#1 was expected, it is llx_societe#2"
    )


def test_a_column_more_or_less_is_told() -> None:
    told = compare(text(updated("t", 1, {"a": 1}, {"a": 2})), text(updated("t", 1, {"a": 1, "b": 1}, {"a": 1, "b": 2})))
    assert told == (
        "different: t rowid=1 a: 1 → 2 was expected, it is unchanged\n"
        "different: t rowid=1 b: unchanged was expected, it is 1 → 2"
    )


def test_a_file_that_was_edited_is_read_kindly() -> None:
    limit = updated("llx_const", 2, {"value": "4"}, {"value": "5"})
    found = text(customer(31, "Acme", note="two\nlines # and more"), limit)
    edited = """
        # Only what counts.
        updated   llx_const   rowid = 2
    value :'4'->  '5'   # it's the limit
      inserted llx_societe#1
        town: 'Brest'
        nom: 'Acme'
        # in two parts
        note: 'two\\nlines '
              '# and more'
        client: 1
        zip: NULL
    """
    assert compare(edited.replace("\n", "\r\n"), found) == ""


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("inserted llx_a#1\n  nom: 'Acme", 2),
        ("\n# comment\nnom: 'Acme'", 3),
        ("inserted llx_a#1\n\n  nom 'Acme'", 3),
        ("inserted llx_a#1\n  nom: 'a'\n  nom: 'b'", 3),
        ("added llx_a#1", 1),
        ("inserted llx_a", 1),
        ("inserted llx_a#1\n'Acme'", 2),
        ("deleted llx_a rowid=1\ndeleted llx_a rowid=1", 2),
        ('"', 1),
    ],
)
def test_a_line_that_cannot_be_read_is_named(written: str, line: int) -> None:
    with pytest.raises(ErpSandboxError, match=rf"^line {line} of the expected changes cannot be read"):
        compare(written, "")


# Files ---------------------------------------------------------------------------------------------------------------

FEATURE = Path("features", "invoices.feature")


def test_a_file_is_named_as_its_scenario() -> None:
    assert file_for(FEATURE, "The agent drafts an invoice") == Path(
        "features", "invoices.changes", "the-agent-drafts-an-invoice.txt"
    )
    assert re.fullmatch(r"chez-gwenaelle_[0-9a-f]{12}\.txt", file_for(FEATURE, "Chez Gwenaëlle").name)
    assert re.fullmatch(r"a-price-of-1-2_[0-9a-f]{12}\.txt", file_for(FEATURE, "A price of", "1/2").name)


NASTY = ["Con", "con", "Nul", "Com1", "aux.x", "..", "", "A" + " long" * 60 + " name", "A" + " long" * 60 + " one"]
SCENARIOS = st.one_of(st.text(max_size=300), st.text("aA -_./", max_size=4), st.sampled_from(NASTY))


@any_time
@given(st.tuples(SCENARIOS, SCENARIOS), st.tuples(SCENARIOS, SCENARIOS))
def test_each_scenario_has_a_safe_file_of_its_own(one: tuple[str, str], other: tuple[str, str]) -> None:
    name = file_for(FEATURE, *one).name
    assert re.fullmatch(r"[a-z0-9_-]{1,100}\.txt", name)
    assert not re.fullmatch(r"(con|prn|aux|nul|(com|lpt)\d)\.txt", name)
    assert (name == file_for(FEATURE, *other).name) == (one == other)


def test_no_nasty_name_is_taken_over() -> None:
    names = [file_for(FEATURE, name).name for name in NASTY]
    assert len(set(names)) == len(NASTY)
    assert max(map(len, names)) <= 100
    assert not {"con.txt", "nul.txt", "com1.txt", ".txt"} & set(names)
