"""The site is built without a warning, and its reference is the code's."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pytest_bdd.steps import step_function_context_registry

import pytest_erp_sandbox
from pytest_erp_sandbox import agent_steps, change_steps, fixtures, steps
from pytest_erp_sandbox.command import cli
from pytest_erp_sandbox.demo.estate import PROD_DATABASE
from pytest_erp_sandbox.loading import load_settings
from pytest_erp_sandbox.plugin import OVERRIDES
from pytest_erp_sandbox.preflight import access, erps, invariants
from pytest_erp_sandbox.settings import DocumentsSettings, SandboxSettings, Settings

from .pages import ALL, PROJECT

NEEDED = {"prod.dsn": '"postgresql:///erp"', "sandbox.dsn": '"postgresql:///erp-sandbox"'}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    strictly = ["-W", "--keep-going", "-n", "-q", "-E", "-b", "html", "-d", str(folder / "doctrees")]
    subprocess.run([sys.executable, "-m", "sphinx", *strictly, "docs", str(folder)], cwd=PROJECT, check=True)
    return folder


def text_of(site: Path, page: str) -> str:
    """What is to be read on a page; code in backquotes."""
    text = (site / f"{page}.html").read_text(encoding="utf-8")
    (article,) = re.findall(r"<article.*?</article>", text, re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</?code[^>]*>", "`", article)))


def setting_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The keys of all settings, written out here once more: what the site has is to be found by other code."""
    tables: dict[object, type[BaseModel]] = {each | None: each for each in (DocumentsSettings, SandboxSettings)}
    for name, field in model.model_fields.items():
        key = f"{prefix}{name.replace('_', '-')}"
        default = field.get_default(call_default_factory=True, validated_data={})
        table = type(default) if isinstance(default, BaseModel) else tables.get(field.annotation)
        if table is not None:
            yield from setting_keys(table, f"{key}.")
        elif name != "sandboxes":
            yield key


class TestSettings:
    @pytest.fixture
    def defaults(self, site: Path) -> dict[str, str]:
        """What the page says of each setting: its default, empty where there is none."""
        found = re.findall(
            r"^`([\w.-]+)`¶\n+.+?\n\n[^\n]+ · (?:no default|default `([^\n]+?)`) · `ERP_SANDBOX_(\w+)`",
            text_of(site, "reference/settings"),
            re.MULTILINE | re.DOTALL,
        )
        assert all(
            variable == re.sub(r"\W", lambda s: {".": "__", "-": "_"}[s[0]], key).upper() for key, _, variable in found
        )
        return {key: default for key, default, _ in found}

    def test_each_one_is_there_with_its_variable(self, defaults: dict[str, str]) -> None:
        assert sorted(defaults) == sorted(setting_keys(Settings))

    def test_each_one_says_what_it_is_for(self, site: Path) -> None:
        text = text_of(site, "reference/settings")
        for key in setting_keys(Settings):
            about = re.search(rf"^`{re.escape(key)}`¶\n+(\S[^\n]*)", text, re.MULTILINE)
            assert about is not None, key
            assert " · " not in about[1], f"{key} is not explained"

    def test_the_defaults_are_as_it_says(
        self, defaults: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        said = {key: default for key, default in defaults.items() if default and ".documents." not in key}

        def loaded(keys: dict[str, str]) -> object:
            (tmp_path / "erp-sandbox.toml").write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
            settings = load_settings(tmp_path)
            assert settings is not None
            return settings.model_dump()

        assert loaded({**said, **NEEDED}) == loaded(NEEDED)

    def test_each_key_without_a_dot_has_an_option(self, site: Path) -> None:
        keys = [key for key in setting_keys(Settings) if "." not in key]
        assert sorted(OVERRIDES) == sorted(key.replace("-", "_") for key in keys)
        text = text_of(site, "reference/settings") + text_of(site, "reference/command")
        assert all(text.count(f"`--erp-sandbox-{key}") >= 2 for key in keys)


def test_each_command_and_each_of_its_options_is_there(site: Path) -> None:
    text = text_of(site, "reference/command")
    for name, command in cli.commands.items():
        assert re.search(rf"^{name}¶$", text, re.MULTILINE), name
        for option in command.params:
            assert max(option.opts, key=len) in text or option.name == "ids"


def test_each_step_is_there(site: Path) -> None:
    text = text_of(site, "reference/steps")
    ours = {each.__name__ for each in (steps, change_steps, agent_steps)}
    functions = [
        each.step_func for each in step_function_context_registry.values() if each.step_func.__module__ in ours
    ]
    assert len(functions) > 30
    for function in functions:
        # The first words: quotes and dots are set otherwise.
        about = re.split(r"[`'“”\"…]", (function.__doc__ or "").split("\n")[0])[0].strip()
        assert about, function
        assert about in text
    assert not re.search(r"\(\?|\\d", text)


def test_each_fixture_and_marker_is_there(site: Path) -> None:
    text = text_of(site, "reference/fixtures")
    for name in [*fixtures.__all__, "erp_rehearsal", "no_erp_sandbox", "erp_sandbox_trials(n)"]:
        assert re.search(rf"^`{re.escape(name)}`¶$", text, re.MULTILINE), name


def test_each_exported_name_is_there(site: Path) -> None:
    text = text_of(site, "reference/python")
    for name in pytest_erp_sandbox.__all__:
        assert re.search(rf"pytest_erp_sandbox\.`*{name}\b", text), name


def test_each_invariant_has_its_row() -> None:
    text = (PROJECT / "docs/explanation/integrity.md").read_text()
    source = Path(invariants.__file__).read_text() + Path(erps.__file__).read_text()
    others = [access._ENOUGH, access._LITTLE, access._KNOWN, erps._SERVABLE]
    names = [*re.findall(r'^ *@invariant\("([^"]+)"\)', source, re.MULTILINE), *others]
    rows = [row.split(" | ")[1] for row in text.split("## The invariants")[1].splitlines() if row.startswith("| ")][1:]
    assert sorted(rows) == sorted(names)


def test_what_is_said_twice_is_the_same() -> None:
    """The README's tables of layers and of strategies, in the explanations."""
    readme, docs = (PROJECT / "README.md").read_text(), PROJECT / "docs/explanation"
    for heading, page in (("What keeps prod from harm", "integrity.md"), ("Two ways back", "rewind.md")):
        section = readme.split(f"\n## {heading}\n")[1].split("\n##")[0]
        rows = [row for row in section.splitlines() if row.startswith("| ")]
        assert rows
        for row in rows:
            assert re.sub(r" \(the shell loop: .*?\)", "", row) in (docs / page).read_text(), row


def test_what_looks_like_a_setting_is_one() -> None:
    tables = {key.partition(".")[0] for key in setting_keys(Settings) if "." in key}
    known = {*setting_keys(Settings), "sandbox.documents", "prod.documents", "sandbox.erp"}
    for file in [PROJECT / "README.md", PROJECT / "SECURITY.md", *(PROJECT / "docs").rglob("*.md")]:
        for name, rest in re.findall(rf"`((?:{'|'.join(tables)})\.[\w.-]+)([^`]*)`", file.read_text()):
            assert name in known | {"agent.py", "sandbox.sql"}, f"{file}: {name}{rest}"


def test_prods_database_is_called_as_in_the_pages() -> None:
    assert sum(f"psql -d {PROD_DATABASE} -v owner=erp_role" in block.text for block in ALL) == 3
