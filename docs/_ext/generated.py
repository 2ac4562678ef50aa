"""Pages made of the code: ``<!-- generated: settings -->`` in one is replaced by what the code says of its settings."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pytest_bdd.steps import step_function_context_registry
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from pytest_erp_sandbox.dolibarr.parts import PARTS
from pytest_erp_sandbox.plugin import OVERRIDES, pytest_addoption
from pytest_erp_sandbox.settings import PREFIX, Settings

PROJECT = Path(__file__).parents[2]

_STEPS = {
    "steps": "The ERP's API, the sandbox's rows, and the invariants",
    "change_steps": "What was changed",
    "agent_steps": "Your agent",
}
_WORDS = {bool: "`true` or `false`", int: "a number", float: "a number", timedelta: "a duration", Path: "a path"}


def settings() -> Iterator[str]:
    """Each setting: what it is for, its type, its default, and how else it can be given."""
    docs = ModuleAnalyzer.for_module(Settings.__module__).find_attr_docs()
    return _table(Settings, "", "", {owner_and_name: " ".join(text) for owner_and_name, text in docs.items()})


def _table(model: type[BaseModel], prefix: str, about: str, docs: dict[tuple[str, str], str]) -> Iterator[str]:
    """The settings of one table, then those of the tables in it."""
    inner: list[tuple[type[BaseModel], str, str]] = []
    name = prefix.removesuffix(".")
    yield f"## {name}\n\n`[tool.erp-sandbox.{name}]`: {about}\n" if name else "## The run\n\n`[tool.erp-sandbox]`\n"
    for name, field in model.model_fields.items():
        if name == "sandboxes":
            continue  # each of them is as the one
        key = prefix + name.replace("_", "-")
        said = next((docs[each.__name__, name] for each in model.__mro__ if (each.__name__, name) in docs), "")
        tables = [each for each in (field.annotation, *get_args(field.annotation)) if _is_table(each)]
        if tables:
            inner.append((tables[0], f"{key}.", said or " ".join((tables[0].__doc__ or "").split())))
        else:
            yield f"### `{key}`\n\n{said}\n\n:::{{container}} facts\n{' · '.join(_facts(key, name, field))}\n:::\n"
    for each in inner:
        yield from _table(*each, docs)


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _facts(key: str, name: str, field: FieldInfo) -> Iterator[str]:
    """A setting's type, its default, its variable, its option."""
    yield _kind(field.annotation)
    default = _toml(field.get_default(call_default_factory=True, validated_data={}))
    yield f"default `{default}`" if default else "no default"
    yield f"`{PREFIX}{key.replace('.', '__').replace('-', '_').upper()}`"
    if "." not in key and name in OVERRIDES:
        yield f"`--erp-sandbox-{key}`"


def _kind(annotation: Any) -> str:
    arguments = [each for each in get_args(annotation) if each is not type(None)]
    if get_origin(annotation) is Literal:
        return " or ".join(f'`"{each}"`' for each in arguments)
    if annotation == Settings.model_fields["quarantine"].annotation:
        parts = ", ".join(f'`"{part}"`' for part in PARTS)
        return f"`true`, `false`, or a list of {parts}"
    if get_origin(annotation) is tuple:
        return "a list of paths" if arguments[0] is Path else "a list of strings"
    if get_origin(annotation) is dict:
        return "a table"
    return _kind(arguments[0]) if arguments else _WORDS.get(annotation, "a string")


def _toml(value: Any) -> str:
    """A default as the file has it; empty where there is none."""
    if value is None:
        return ""
    if value == PARTS:
        return "true"
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        return next(f'"{seconds // size}{unit}"' for unit, size in _UNITS.items() if seconds % size == 0)
    if isinstance(value, Path):
        return json.dumps(str(value).replace(str(Path.home()), "~"))
    return json.dumps(value.get_secret_value() if isinstance(value, SecretStr) else value)


_UNITS = {"h": 3600, "min": 60, "s": 1}


def options() -> Iterator[str]:
    """Pytest's options of this plugin."""
    found: list[tuple[str, dict[str, Any]]] = []

    class Parser:
        def getgroup(self, *_: str) -> Parser:
            return self

        def addoption(self, name: str, **attributes: Any) -> None:
            found.append((name, attributes))

    pytest_addoption(Parser())  # type: ignore[arg-type]
    yield "| option | |\n|---|---|"
    for name, attributes in found:
        value = attributes.get("metavar") or "\\|".join(attributes.get("choices", ()))
        yield f"| `{name}{f'={value}' if value else ''}` | {attributes['help']} |"


def fixtures() -> Iterator[str]:
    """The fixtures, as pytest knows them."""
    listed = _pytest("--fixtures")
    found = re.findall(r"^(erp_\w+)( \[session scope\])? -- \S+\n((?:    .*\n|\n(?=    ))+)", listed, re.MULTILINE)
    for title, chosen in (("For tests", ""), ("Once a session", " [session scope]")):
        yield f"## {title}\n"
        for name, scope, text in found:
            if scope == chosen:
                yield f"### `{name}`\n\n{re.sub('^    ', '', text, flags=re.MULTILINE)}\n"


def markers() -> Iterator[str]:
    """The markers, as pytest knows them."""
    for name, text in re.findall(r"^@pytest\.mark\.(\w*erp_sandbox\w*\S*): (.*)$", _pytest("--markers"), re.MULTILINE):
        yield f"### `{name}`\n\n{text[0].upper()}{text[1:]}.\n"


def _pytest(option: str) -> str:
    command = [sys.executable, "-m", "pytest", option, "-v", "-p", "no:cacheprovider", f"--rootdir={PROJECT}", "docs"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def steps() -> Iterator[str]:
    """The Gherkin steps: how they are written, and what they do."""
    for module, title in _STEPS.items():
        there = importlib.import_module(f"pytest_erp_sandbox.{module}")
        yield f"## {title}\n\n{there.__doc__}\n"
        for context in step_function_context_registry.values():
            if context.step_func.__module__ == there.__name__:
                keyword = (context.type or "given, when or then").capitalize()
                choices = {name: _choices(of) for name, of in _GROUP.findall(context.parser.name)}
                of = "; ".join(f"`{name.upper()}`: {said}" for name, said in choices.items() if said)
                text = " ".join((context.step_func.__doc__ or "").split())
                facts = f"*{keyword}*{f' · {of}' if of else ''}"
                yield f"### `{_readable(context.parser.name)}`\n\n{text}\n\n:::{{container}} facts\n{facts}\n:::\n"


_GROUP = re.compile(r"\(\?P<(\w+)>((?:[^()]|\(\?:[^()]*\))*)\)")
"""A part of a step's pattern that has a name, in which there may be a part that has none."""


def _readable(pattern: str) -> str:
    """A step's pattern as people write the step: ``NAME`` stands for what differs, ``a/b`` for either word."""
    named = re.sub(r"{(\w+)(?::\w+)?}", _capitals, _GROUP.sub(_capitals, pattern)).replace("\\'", "'")
    return re.sub(r"\(\?:([^()]*)\)", lambda match: match[1].replace("|", "/"), named).replace("s?", "(s)")


def _capitals(match: re.Match[str]) -> str:
    return match[1].upper()


def _choices(pattern: str) -> str:
    """What may stand in a part of a step; empty where that is anything."""
    if pattern in ('[^"]*', '[^"]+', ".*"):
        return ""
    words = re.sub(r"\(\?:(\w+)[^()]*\)|s\?", r"\1", pattern).split("|")
    return ", ".join("a number" if word == "\\d+" else word for word in words)


def _expand(_app: Sphinx, _docname: str, source: list[str]) -> None:
    parts = {"settings": settings, "options": options, "fixtures": fixtures, "markers": markers, "steps": steps}
    source[0] = re.sub(r"<!-- generated: (\w+) -->", lambda match: "\n".join(parts[match[1]]()), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the pages when Sphinx reads them."""
    app.connect("source-read", _expand)
    return {"parallel_read_safe": True}
