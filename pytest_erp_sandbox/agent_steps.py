"""Ready Gherkin steps that ask an agent (``agent.command``), and look at what it answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_bdd import parsers, step, then

from .rehearsal import Rehearsal, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .asking import Asked

    Table = Sequence[Sequence[str]]


@step(parsers.re('the agent is asked "(?P<prompt>.*)"'))
def ask(erp_agent: Callable[[str], Asked], erp_rehearsal: Rehearsal, prompt: str) -> None:
    """Ask the agent, and wait until it has ended, with exit code 0; the prompt may name what an earlier step kept."""
    erp_rehearsal.asked.append(erp_agent(erp_rehearsal.filled(prompt)))


@step("the agent is asked:")
def ask_at_length(erp_agent: Callable[[str], Asked], erp_rehearsal: Rehearsal, docstring: str) -> None:
    """The same, with a prompt of several lines."""
    ask(erp_agent, erp_rehearsal, docstring)


@then(parsers.re('the agent answered "(?P<words>.*)"'))
def agent_answered(erp_rehearsal: Rehearsal, words: str) -> None:
    """All that it said on its standard output when it was asked last, but for white space around it."""
    answer = _answer(erp_rehearsal)
    expect(answer == erp_rehearsal.filled(words).strip(), f"the agent answered:\n{answer}")


@then("the agent answered:")
def agent_answered_at_length(erp_rehearsal: Rehearsal, docstring: str) -> None:
    """The same, of several lines."""
    agent_answered(erp_rehearsal, docstring)


@then(parsers.re('the agent\'s answer contains "(?P<words>.*)"'))
def answer_has(erp_rehearsal: Rehearsal, words: str) -> None:
    """What the answer has in it."""
    answer_has_all(erp_rehearsal, [[words]])


@then("the agent's answer contains:")
def answer_has_all(erp_rehearsal: Rehearsal, datatable: Table) -> None:
    """Several things that the answer has in it, one in each row of the table."""
    answer = _answer(erp_rehearsal)
    missing = [words for (words,) in datatable if erp_rehearsal.filled(words) not in answer]
    expect(not missing, f"there is no {', no '.join(map(repr, missing))} in what the agent answered:\n{answer}")


def _answer(rehearsal: Rehearsal) -> str:
    expect(rehearsal.asked, "the agent has not been asked anything yet")
    return rehearsal.asked[-1].answer.strip()
