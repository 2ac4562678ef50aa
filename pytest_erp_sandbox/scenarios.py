"""What pytest-bdd knows of a scenario before it runs: its tags, and the fixtures that its steps will ask for.

pytest-bdd has no public names for that; what is used here is there in 8 and 9.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

__all__ = ["fixtures_asked_for", "is_scenario", "tags"]


def is_scenario(fixtures: Iterable[str]) -> bool:
    """Whether a test that asks for these fixtures is a scenario of pytest-bdd's."""
    return "_pytest_bdd_example" in fixtures


def tags(metafunc: pytest.Metafunc) -> Iterator[str]:
    """The tags of a scenario, the nearest first: its own, its rule's, its feature's; of any other test none."""
    if is_scenario(metafunc.fixturenames):
        template = _template(metafunc)
        for part in (template, template.rule, template.feature):
            yield from () if part is None else sorted(part.tags)


def fixtures_asked_for(metafunc: pytest.Metafunc) -> set[str]:
    """The names of all fixtures that a test asks for: by itself, by other fixtures, in the steps of a scenario."""
    found = set(metafunc.fixturenames)
    names = list(_arguments_of_steps(metafunc)) if is_scenario(found) else []
    while names:  # pytest's own way to get their definitions changed with 8.1
        if (name := names.pop()) not in found:
            found.add(name)
            definitions = sys.modules["pytest_bdd.compat"].getfixturedefs(_manager(metafunc), name, metafunc.definition)
            names += definitions[-1].argnames if definitions else ()
    return found


def _arguments_of_steps(metafunc: pytest.Metafunc) -> Iterator[str]:
    find = sys.modules["pytest_bdd.scenario"].find_fixturedefs_for_step
    registry = getattr(sys.modules["pytest_bdd.steps"], "step_function_context_registry", {})
    template = _template(metafunc)
    # Whatever an outline's examples are, they are examples of the same steps.
    example: dict[str, str] = next((each for examples in template.examples for each in examples.as_contexts()), {})
    for step in template.render(example).steps:
        for definition in find(step, _manager(metafunc), metafunc.definition):
            context = getattr(definition.func, "_pytest_bdd_step_context", None) or registry[definition.func]
            yield from inspect.signature(context.step_func).parameters


def _template(metafunc: pytest.Metafunc) -> Any:
    registry = getattr(sys.modules["pytest_bdd.scenario"], "scenario_wrapper_template_registry", {})
    return getattr(metafunc.function, "__scenario__", None) or registry[metafunc.function]


def _manager(metafunc: pytest.Metafunc) -> Any:
    return metafunc.definition.session._fixturemanager
