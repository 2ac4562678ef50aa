"""The ready steps: what they let pass, and what they show of what they do not."""

from __future__ import annotations

import pytest

from .estates import Project, Run

PASSING = {
    "a table's fields, and no value": """
        When the agent calls POST "thirdparties" with:
          | name      | Acme |
          | zip       | 0123 |
          | email     | NULL |
        Then the answer is an id, kept as "acme"
        And the sandbox has 1 row in "llx_societe" where:
          | rowid | {acme} |
          | email | NULL   |
        And the sandbox has no rows in "public.llx_societe" where:
          | zip | 123 |
        When the agent calls DELETE "thirdparties/{acme}"
        Then the answer is 200
        """,
    "JSON, and values that were kept": """
        Given the agent calls GET "thirdparties/2"
        And the answer's "id" is kept as "elodie"
        And the answer's "town" is kept as "town"
        When the agent calls PUT "thirdparties/1" with the JSON:
          \"\"\"
          {"town": "{town}", "note_private": "like {elodie}"}
          \"\"\"
        Then the answer contains:
          | town         | {town}        |
          | note_private | like {elodie} |
        And the answer's "note_private" contains "like {elodie}"
        And the answer's "name_alias" is "NULL"
        """,
    "numbers are compared as numbers": """
        When the agent calls GET "thirdparties/1"
        Then the answer's "client" is "1.0"
        And the sandbox has 1 row in "llx_product" where:
          | ref   | CREPE-SUCRE |
          | price | 2.5         |
        """,
    "a refusal": """
        When the agent calls GET "users/login/admin"
        Then the answer is 403
        And the agent was not allowed to
        """,
    "a list": """
        When the agent calls GET "thirdparties?limit=2"
        Then the answer's "1.name" is "L'Atelier d'Élodie"
        """,
    "prod": """
        When the agent calls PUT "thirdparties/2" with:
          | name | Another |
        Then prod has 1 row in "llx_societe" where:
          | nom | L'Atelier d'Élodie |
        """,
    "the invariants": """
        Then every invariant holds
        And no invariant fails
        And the invariant "session is read-only" holds for prod
        And the invariant "prod is out of reach" holds for every sandbox
        """,
}

CAFE = 'GET /api/index.php/thirdparties/1 was answered 200: {"id": "1", "name": "Café de la Gare"'

FAILING = {
    "Then the answer is 200\n": ["the agent has not called anything yet"],
    'When the agent calls GET "thirdparties/1"\nThen the answer is 403': ["Then the answer is 403", CAFE],
    'When the agent calls GET "thirdparties/1"\nThen the agent was not allowed to': [CAFE],
    'When the agent calls GET "thirdparties/1"\nThen the answer is an id, kept as "x"': ["that is no id", CAFE],
    'When the agent calls GET "thirdparties/999"\nThen the answer is an id, kept as "x"': [
        "that is no id",
        "was answered 404",
    ],
    'When the agent calls GET "thirdparties/1"\nThen the answer\'s "zip" is "29200.5"': [
        "zip is '29200', not '29200.5'",
        CAFE,
    ],
    'When the agent calls GET "thirdparties/1"\nThen the answer\'s "name" contains "gare"': [
        "name is 'Café de la Gare'"
    ],
    'When the agent calls GET "thirdparties/1"\nThen the answer\'s "lines.0" is "1"': [
        "the answer has no 'lines.0'",
        CAFE,
    ],
    'When the agent calls GET "thirdparties"\nThen the answer\'s "99.name" is "1"': [
        "the answer has no '99.name'",
        "…",
    ],
    'When the agent calls GET "thirdparties/1"\nThen the answer contains:\n| name | a |\n| town | b |\n| id | 1 |': [
        "name is 'Café de la Gare', not 'a'\ntown is 'Brest', not 'b'\nGET"
    ],
    'When the agent calls GET "thirdparties/{nobody}"': ["{nobody} was not kept; kept is: nothing"],
    'When the agent calls POST "thirdparties" with:\n| name | Acme | Inc. |': ["the table has to have two columns"],
    'When the agent calls POST "thirdparties" with the JSON:\n"""\n{"name": }\n"""': [
        "JSONDecodeError: Expecting value"
    ],
    'Then the sandbox has no rows in "llx_societe"': ["the sandbox has 12, not 0; rows in llx_societe: 12 in all"],
    'Then the sandbox has 2 rows in "llx_societe" where:\n| zip | 29200 |\n| client | 1 |': [
        "the sandbox has 1, not 2; rows in llx_societe: 12 in all, 1 where zip is '29200', 8 where client is '1'"
    ],
    'Then the sandbox has 1 row in "llx_societe" where:\n| name | a |': [
        'UndefinedColumn: column "name" does not exist'
    ],
    'Then the sandbox has 1 row in "llx_societe" where:\n| rowid | a |': ['invalid input syntax for type integer: "a"'],
    'Then prod has no row in "llx_societe" where:\n| zip | 29200 |': [
        "prod has 1, not 0; rows in llx_societe: 12 in all"
    ],
    'Then the invariant "prod is out of reach" holds for prod': [
        "no invariant has that name; there are: is reachable, "
    ],
}


def rehearse(project: Project, *scenarios: str, arguments: tuple[str, ...] = ("--erp-sandbox-reset=session",)) -> Run:
    """Run scenarios, given by their steps."""
    texts = [f"  Scenario: number {number}\n{steps}\n" for number, steps in enumerate(scenarios, 1)]
    (project.path / "steps.feature").write_text("Feature: steps\n" + "".join(texts))
    project.pytester.makepyfile(test_steps="from pytest_bdd import scenarios\nscenarios('.')\n")
    return project.run(*arguments)


def test_what_is_so_passes(project: Project) -> None:
    rehearse(project, *PASSING.values()).expect(0, passed=len(PASSING))


def test_what_is_not_so_is_shown_as_the_step_and_the_reason(project: Project) -> None:
    run = rehearse(project, *FAILING)
    run.expect_error(*(part for parts in FAILING.values() for part in parts), failed=len(FAILING))
    assert "pytest_erp_sandbox/steps.py" not in run.text
    for steps in FAILING:
        last = [line for line in steps.splitlines() if line.startswith(("When", "Then"))][-1]
        assert last in run.text
    assert "steps.feature:3" in run.text


def test_a_key_that_is_not_accepted_is_no_right_that_lacks(project: Project) -> None:
    project.pytester.makeconftest(
        "from pytest_bdd import when\n"
        "@when('the key is another')\n"
        "def other_key(erp_api): erp_api.headers['DOLAPIKEY'] = 'another'\n"
    )
    steps = 'When the key is another\nAnd the agent calls GET "thirdparties/1"\nThen the agent was not allowed to'
    rehearse(project, steps).expect_error("thirdparties/1 was answered 401", failed=1)


def test_with_full_trace_the_code_is_shown(project: Project) -> None:
    run = rehearse(project, "Then the answer is 200", arguments=("--full-trace",))
    assert "pytest_erp_sandbox/steps.py" in run.text
    assert "AssertionError: the agent has not called anything yet" in run.text


def test_other_steps_are_shown_as_ever(project: Project) -> None:
    project.scenarios("something is wrong")
    run = project.run()
    assert "AssertionError: this scenario fails" in run.text
    assert "test_parties.py" in run.text


@pytest.mark.parametrize("reset", ["session", "never"])
def test_the_sandbox_is_as_prod_was_though_resets_are_rare(project: Project, reset: str) -> None:
    scenario = """
        Given the sandbox is as prod was
        When the agent calls POST "thirdparties" with:
          | name | Acme |
        Then the sandbox has 1 row in "llx_societe" where:
          | nom | Acme |
    """
    if reset == "never":  # the agent of an earlier run is needed
        rehearse(project, "Then no invariant fails").expect(0, passed=1)
    rehearse(project, scenario, scenario, arguments=(f"--erp-sandbox-reset={reset}",)).expect(0, passed=2)


def test_a_sandbox_that_is_never_reset_is_put_back_by_the_golden_dump_that_is_there_however_old(
    project: Project,
) -> None:
    """A new one would be prepared in a sandbox: in the one that the scenario has."""
    rehearse(project, "Then no invariant fails").expect(0, passed=1)
    settings = project.estate.settings()
    project.configure({**settings, "golden": {**settings.get("golden", {}), "max-age": "0s"}, "lease-timeout": "1s"})
    rehearse(project, "Given the sandbox is as prod was", arguments=("--erp-sandbox-reset=never",)).expect(0, passed=1)


def test_prod_cannot_be_asked_without_a_dsn(project: Project) -> None:
    rehearse(project, "Then no invariant fails").expect(0, passed=1)
    settings = project.estate.settings(refresh="never")
    del settings["prod"]
    project.configure(settings)
    steps = 'Then prod has no row in "llx_societe" where:\n| rowid | 1 |'
    rehearse(project, steps).expect_error("prod cannot be asked: the settings have no prod.dsn", failed=1)
