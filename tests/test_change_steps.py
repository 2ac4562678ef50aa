"""The steps about what a rehearsal changed: what they let pass, what they show, and expected change sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from .estates import Project, Run
from .test_steps import rehearse

ACME = 'When the agent calls POST "thirdparties" with:\n| name | Acme |\n| client | 1 |\n'
MOVES = 'When the agent calls PUT "thirdparties/1" with:\n| zip | 29200 |\n| town | Brest-même |\n'

PASSING = {
    "what was created": ACME + "Then one third party was created with:\n| nom | Acme |\n| client | 1 |",
    "how many": ACME + ACME + "Then 2 third parties were created\nAnd no third parties were changed",
    "what was changed": MOVES
    + 'Then one row was updated in "llx_societe" with:\n| town | Brest-même |\n| rowid | 1 |\nAnd nothing else changed',
    "what was deleted": 'When the agent calls DELETE "thirdparties/11"\n'
    "Then one third party was deleted with:\n| rowid | 11 |",
    "all of it": ACME + MOVES + "Then exactly these tables changed:\n| llx_societe |\nAnd nothing else changed",
    "how many of each": ACME
    + MOVES
    + "Then exactly these tables changed:\n| table | inserted | deleted |\n| llx_societe | 1 | 0 |",
    "nothing": 'When the agent calls GET "thirdparties/1"\nThen nothing changed',
    "changed and changed back": ACME.replace("Acme", "Gone")
    + 'Then the answer is an id, kept as "it"\nWhen the agent calls DELETE "thirdparties/{it}"\nThen nothing changed',
}
SHOWN = "inserted llx_societe 13"
FAILING = {
    ACME + "Then nothing changed": ["something changed", SHOWN, "nom: 'Acme'"],
    ACME + MOVES + "Then one third party was created\nAnd nothing else changed": [
        "something else changed\nupdated llx_societe 1",
        "→ 'Brest-même'",
    ],
    ACME + "Then one third party was created with:\n| nom | Other |": ["there are 0 such rows, not 1", SHOWN],
    ACME + "Then one third party was created with:\n| name | Acme |": ["llx_societe has no column name"],
    ACME + "Then exactly these tables changed:\n| llx_product |": [
        "llx_societe changed, too",
        "llx_product did not change",
    ],
    ACME + "Then exactly these tables changed:\n| table | inserted |\n| llx_societe | 2 |": [
        "llx_societe has 1 inserted, not 2"
    ],
    ACME + "Then exactly these tables changed:\n| llx_societe | 1 |": ["the first row has to say what the columns are"],
}
AS_EXPECTED = "Then the changes are as expected"
UPDATE = "--erp-sandbox-update-expected"


@pytest.fixture(autouse=True)
def journalling(project: Project) -> None:
    project.configure(project.estate.settings(strategy="rewind"))


def run_scenarios(project: Project, *scenarios: str, arguments: tuple[str, ...] = ()) -> Run:
    return rehearse(project, *scenarios, arguments=arguments)


def test_what_is_so_passes(project: Project) -> None:
    run_scenarios(project, *PASSING.values()).expect(0, passed=len(PASSING))


def test_what_is_not_so_is_shown_with_all_that_changed(project: Project) -> None:
    run = run_scenarios(project, *FAILING)
    run.expect_error(*(part for parts in FAILING.values() for part in parts), failed=len(FAILING))


def test_without_a_journal_the_remedy_is_said(project: Project) -> None:
    project.configure(project.estate.settings())
    run_scenarios(project, "Then nothing changed").expect_error("no journal in the sandbox", "journal = true", failed=1)


MANY = """
from pytest_bdd import when

@when("an agent runs amok")
def amok(erp_db):
    erp_db.execute("INSERT INTO llx_actioncomm (ref, label) SELECT 'r' || n, n FROM generate_series(1, 10050) AS n")
    erp_db.execute("DELETE FROM llx_societe WHERE rowid = 11")
"""
AMOK = "When an agent runs amok\n"


def test_what_is_too_much_to_compare_is_counted_all_the_same(project: Project) -> None:
    project.pytester.makeconftest(MANY)
    run_scenarios(
        project,
        AMOK + 'Then 10050 rows were inserted into "llx_actioncomm"\nAnd one third party was deleted',
        AMOK + "Then exactly these tables changed:\n| table | inserted | deleted |\n| llx_actioncomm | 10050 | 0 |\n"
        "| llx_societe | 0 | 1 |",
    ).expect(0, passed=2)


def test_what_is_too_much_to_compare_passes_for_nothing_else(project: Project) -> None:
    project.pytester.makeconftest(MANY)
    run_scenarios(
        project,
        AMOK + "Then no third parties were deleted",
        AMOK + "Then exactly these tables changed:\n| llx_actioncomm |",
        AMOK + 'Then 10000 rows were inserted into "llx_actioncomm"',
        AMOK + 'Then 10000 rows were inserted into "llx_actioncomm" with:\n| fk_action | |',
        AMOK + 'Then 10050 rows were inserted into "llx_actioncomm"\nAnd nothing else changed',
    ).expect_error("there are 1 such rows, not 0", "llx_societe changed, too", "there are 10050 such rows", failed=5)


def test_of_a_table_that_was_emptied_unseen_nothing_is_said(project: Project) -> None:
    project.pytester.makeconftest(MANY.replace("DELETE FROM llx_societe WHERE rowid = 11", "TRUNCATE llx_actioncomm"))
    run_scenarios(
        project,
        AMOK + 'Then no rows were deleted from "llx_actioncomm"',
        AMOK + "Then no third parties were deleted",
    ).expect_error("not all that changed in llx_actioncomm is known", failed=1, passed=1)


class TestExpectedChangeSets:
    def files(self, project: Project) -> list[Path]:
        return sorted((project.path / "steps.changes").glob("*"))

    def test_are_written_once_and_compared_from_then_on(self, project: Project) -> None:
        first = ACME + MOVES + AS_EXPECTED
        run_scenarios(project, first).expect_error("is missing", UPDATE, "inserted llx_societe#1", failed=1)
        assert self.files(project) == []
        run = run_scenarios(project, first, arguments=(UPDATE,)).expect(0, passed=1)
        (file,) = self.files(project)
        assert f"expected changes written: {file.relative_to(project.path)}" in run.text
        run_scenarios(project, first).expect(0, passed=1)

    def test_tell_an_unexpected_row_a_missing_one_and_another_value_apart(self, project: Project) -> None:
        other = (
            'When the agent calls POST "thirdparties" with:\n| name | Other |\n| zip | 29000 |\n| town | Quimper |\n'
        )
        run_scenarios(project, ACME + MOVES + AS_EXPECTED, arguments=(UPDATE,)).expect(0, passed=1)
        run = run_scenarios(project, ACME.replace("Acme", "Acme Ltd") + MOVES + AS_EXPECTED)
        run.expect_error("different: llx_societe#1 nom: 'Acme' was expected, it is 'Acme Ltd'", failed=1)
        run = run_scenarios(project, ACME + MOVES + other + AS_EXPECTED)
        run.expect_error("unexpected: inserted llx_societe#2", failed=1)
        run = run_scenarios(project, ACME + AS_EXPECTED)
        run.expect_error("missing: updated llx_societe rowid=1", failed=1)

    def test_are_the_same_with_both_strategies_and_whatever_the_keys_are(self, project: Project) -> None:
        run_scenarios(project, ACME + AS_EXPECTED, arguments=(UPDATE,)).expect(0, passed=1)
        project.configure(project.estate.settings(journal=True))
        # The first one's customer is deleted again, and its number is not given twice.
        gone = 'Then the answer is an id, kept as "it"\nWhen the agent calls DELETE "thirdparties/{it}"\n'
        run_scenarios(project, ACME + gone + ACME + AS_EXPECTED).expect(0, passed=1)

    def test_that_cannot_be_read_are_named_and_written_anew(self, project: Project) -> None:
        run_scenarios(project, ACME + AS_EXPECTED, arguments=(UPDATE,)).expect(0, passed=1)
        (file,) = self.files(project)
        for spoilt in (b"<<<<<<< HEAD\n", b"\xff\xfe"):
            file.write_bytes(spoilt + file.read_bytes())
            run = run_scenarios(project, ACME + AS_EXPECTED)
            run.expect_error(f"not as {file.relative_to(project.path)} has it\nit cannot be read", failed=1)
            run_scenarios(project, ACME + AS_EXPECTED, arguments=(UPDATE,)).expect(0, passed=1)
        run_scenarios(project, ACME + AS_EXPECTED).expect(0, passed=1)

    def test_of_no_scenario_any_more_are_told(self, project: Project) -> None:
        run_scenarios(project, ACME + AS_EXPECTED, arguments=(UPDATE,)).expect(0, passed=1)
        (file,) = self.files(project)
        run = run_scenarios(project, ACME).expect(0, passed=1)
        assert f"no scenario expects these changes any more: {file.relative_to(project.path)}" in run.text

    def test_are_each_examples_own(self, project: Project) -> None:
        outline = """Feature: steps
          Scenario Outline: a customer
            When the agent calls POST "thirdparties" with:
              | name | <name> |
            Then the changes are as expected

            Examples:
              | name |
              | Acme |
              | Emca |
        """
        run_scenarios(project, AS_EXPECTED, arguments=("--collect-only",))
        (project.path / "steps.feature").write_text(outline)
        project.run(UPDATE).expect(0, passed=2)
        assert len(self.files(project)) == 2
        project.run("-n", "2").expect(0, passed=2)
        assert (
            "no scenario expects these changes" not in project.run("-k", "Emca").expect(0, passed=1, deselected=1).text
        )
