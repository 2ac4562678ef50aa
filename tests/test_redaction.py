"""What is taken out of reports, and what is left as it is."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from pytest_erp_sandbox.redaction import AgentEnvironment, Redactor

SECRET = "p'ss w\"rd\\ä-0123456789"


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.add([SecretStr(SECRET), None, SecretStr("short")])
    return redactor


@pytest.mark.parametrize(
    "shown", [SECRET, repr(SECRET), json.dumps(SECRET), quote(SECRET, safe=""), f'{{"key": "{SECRET}"}}'], ids=str
)
def test_a_secret_is_hidden_in_each_spelling(redactor: Redactor, shown: str) -> None:
    text = redactor.text(f"before {shown} after")
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert "0123456789" not in text
    assert "p'ss" not in text


def test_what_is_left_of_a_shortened_one_is_hidden(redactor: Redactor) -> None:
    text = redactor.text(f"a = 'x{SECRET[:8]}...{SECRET[-8:]}y'")
    assert text == "a = 'x**********...**********y'"


def test_ordinary_text_stays(redactor: Redactor) -> None:
    text = "a short text ... with p's ... and 9s"
    assert redactor.text(text) == text


def test_a_secret_within_a_secret(redactor: Redactor) -> None:
    redactor.add([SecretStr(f"<{SECRET}>")])
    assert redactor.text(f"<{SECRET}>") == "**********"


def test_an_agents_environment_shows_its_names() -> None:
    environment = AgentEnvironment(DOLAPIKEY=SECRET)
    assert repr(environment) == "<environment of the agent: DOLAPIKEY>"
    assert dict(environment) == {"DOLAPIKEY": SECRET}
