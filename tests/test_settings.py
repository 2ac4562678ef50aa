"""Settings: where they come from, which wins, and what is said of those that cannot be used."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from pytest_erp_sandbox.errors import SettingsError
from pytest_erp_sandbox.loading import load_settings
from pytest_erp_sandbox.plugin import OVERRIDES
from pytest_erp_sandbox.settings import Settings

PAIR = '[prod]\ndsn = "postgresql://prod/erp"\n[sandbox]\ndsn = "postgresql://sandbox/erp"\n'


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.upper().startswith("ERP_SANDBOX_"):
            monkeypatch.delenv(name)


def load(folder: Path, text: str, **overrides: object) -> Settings:
    (folder / "erp-sandbox.toml").write_text(text)
    settings = load_settings(folder, overrides)
    assert settings is not None
    return settings


def refusal(folder: Path, text: str, **overrides: object) -> str:
    with pytest.raises(SettingsError) as refused:
        load(folder, text, **overrides)
    return str(refused.value)


def test_longer_than_time_is_counted_and_homes_of_nobody_are_refused(tmp_path: Path) -> None:
    assert "lease-timeout" in refusal(tmp_path, PAIR, lease_timeout="99999999999999d")
    assert "~nobody-here/cache" in refusal(tmp_path, f'{PAIR}[golden]\npath = "~nobody-here/cache"')
    assert "~nobody-here/agent" in refusal(tmp_path, f'{PAIR}[agent]\ncommand = ["~nobody-here/agent"]')


def test_without_any_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "pytest-erp-sandbox-user"\n')
    monkeypatch.setenv("ERP_SANDBOX_TEST_ANYTHING", "the test suite's own")
    assert load_settings(tmp_path) is None


def test_the_option_wins_over_the_variable_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f'reset = "scenario"\n{PAIR}'
    assert load(tmp_path, text).reset == "scenario"
    monkeypatch.setenv("ERP_SANDBOX_RESET", "session")
    assert load(tmp_path, text).reset == "session"
    assert load(tmp_path, text, reset="never").reset == "never"


@pytest.mark.parametrize("key", ["max-age", "max_age"])
def test_a_nested_variable_wins_over_either_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    text = f'{PAIR}[golden]\n{key} = "1h"\nkeep = 5\n'
    assert load(tmp_path, text).golden.max_age == timedelta(hours=1)
    monkeypatch.setenv("ERP_SANDBOX_GOLDEN__MAX_AGE", "90s")
    golden = load(tmp_path, text).golden
    assert (golden.max_age, golden.keep) == (timedelta(seconds=90), 5)


def test_variables_alone_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERP_SANDBOX_PROD__DSN", "postgresql://prod/erp")
    monkeypatch.setenv("ERP_SANDBOX_SANDBOX__DSN", "postgresql://sandbox/erp")
    monkeypatch.setenv("erp_sandbox_agent__rights", '["societe.*"]')
    settings = load_settings(tmp_path)
    assert settings is not None
    assert settings.agent.rights == ("societe.*",)


def test_keys_in_a_variables_json_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {
        "name": "left",
        "dsn": "host=b",
        "erp": {"url": "http://a", "instance-unique-id": "x"},
        "may-lose": ["a-b"],
    }
    monkeypatch.setenv("ERP_SANDBOX_SANDBOXES", json.dumps([place]))
    settings = load_settings(tmp_path, {"refresh": "never"})
    assert settings is not None
    (sandbox,) = settings.all_sandboxes
    assert sandbox.erp.instance_unique_id is not None
    assert sandbox.may_lose == ("a-b",)


def test_paths_are_relative_to_the_project(tmp_path: Path) -> None:
    text = 'programs = "bin"\n[prod]\ndump = "prod.dump"\n[sandbox]\ndsn = "host=a"\n[golden]\npath = "cache"\n'
    settings = load(tmp_path, text)
    assert settings.programs == tmp_path / "bin"
    assert settings.prod.dump == tmp_path / "prod.dump"
    assert settings.golden.path == tmp_path / "cache"


@pytest.mark.parametrize(("processors", "connections"), [(None, 2), (1, 2), (3, 3), (64, 4)])
def test_a_restore_uses_as_many_connections_as_there_are_processors_within_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int | None, connections: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    text = '[prod]\ndsn = "host=a"\n[sandbox]\ndsn = "host=b"\n'
    assert load(tmp_path, text).connections == connections
    assert load(tmp_path, f"jobs = 7\n{text}").connections == 7


def test_each_setting_that_is_no_table_has_an_option_and_each_option_a_setting() -> None:
    tables = {"prod", "sandbox", "sandboxes", "golden", "agent", "changes", "cluster"}
    assert set(OVERRIDES) == set(Settings.model_fields) - tables


class TestRefused:
    def test_an_unknown_key(self, tmp_path: Path) -> None:
        said = refusal(tmp_path, f'{PAIR}[sandbox.erp]\nurll = "http://a"\n')
        assert "sandbox.erp.urll (erp-sandbox.toml): unknown key. Did you mean url?" in said

    @pytest.mark.parametrize("name", ["ERP_SANDBOX_PROD__DNS", "erp_sandbox_prod__dns"])
    def test_a_mistyped_nested_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setenv(name, "postgresql://a:hidden-password@b/c")
        said = refusal(tmp_path, PAIR)
        assert f"prod.dns (variable {name}): unknown key. Did you mean dsn?" in said
        assert "hidden-password" not in said

    def test_a_mistyped_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ERP_SANDBOX_REFRSH", "never")
        assert "Did you mean ERP_SANDBOX_REFRESH?" in refusal(tmp_path, PAIR)

    def test_a_bad_value_names_the_option_it_came_from(self, tmp_path: Path) -> None:
        assert "lease-timeout (--erp-sandbox-lease-timeout)" in refusal(tmp_path, PAIR, lease_timeout="soon")

    def test_a_bad_value_within_a_variables_json(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ERP_SANDBOX_GOLDEN", '{"keep": 0}')
        assert "golden.keep (variable ERP_SANDBOX_GOLDEN)" in refusal(tmp_path, PAIR)

    def test_a_variable_that_is_no_json(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ERP_SANDBOX_SANDBOXES", "hidden-password")
        said = refusal(tmp_path, PAIR)
        assert "ERP_SANDBOX_SANDBOXES is not valid JSON" in said
        assert "hidden-password" not in said

    @pytest.mark.parametrize("dsn", ["hidden-password", "host=a password='hidden-password"])
    def test_a_bad_dsn(self, tmp_path: Path, dsn: str) -> None:
        said = refusal(tmp_path, f'[prod]\ndsn = "host=a"\n[sandbox]\ndsn = "{dsn}"\n')
        assert "sandbox.dsn is not a PostgreSQL DSN" in said
        assert "hidden-password" not in said

    def test_settings_in_both_files(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text("[tool.erp-sandbox]\ndemo = true\n")
        assert "both in erp-sandbox.toml and in pyproject.toml" in refusal(tmp_path, PAIR)

    def test_a_broken_file(self, tmp_path: Path) -> None:
        assert "erp-sandbox.toml cannot be read" in refusal(tmp_path, "[prod\n")

    def test_something_that_is_no_table(self, tmp_path: Path) -> None:
        assert "tool.erp-sandbox is not a table" in refusal(tmp_path, "[tool]\nerp-sandbox = 3\n")

    @pytest.mark.parametrize("where", ["", 'embedded = true\ndsn = "postgresql://sandbox/erp"'])
    def test_a_sandbox_that_is_nowhere_or_in_two_places(self, tmp_path: Path, where: str) -> None:
        said = refusal(tmp_path, f'[prod]\ndump = "prod.dump"\n[sandbox]\nname = "one"\n{where}\n')
        assert "say where the sandbox is: dsn, secret or credentials, or else embedded = true" in said

    def test_several_sandboxes_on_the_embedded_server(self, tmp_path: Path) -> None:
        several = '[[sandboxes]]\nname = "a"\nembedded = true\n[[sandboxes]]\nname = "b"\nembedded = true\n'
        assert "the embedded server has one sandbox" in refusal(tmp_path, f'[prod]\ndump = "prod.dump"\n{several}')

    def test_the_demo_beside_a_prod_of_ones_own(self, tmp_path: Path) -> None:
        assert "demo = true, and a prod or sandbox of your own" in refusal(tmp_path, f"demo = true\n{PAIR}")


def test_the_demo_can_be_tried_where_there_are_settings(tmp_path: Path) -> None:
    assert load(tmp_path, PAIR, demo=True).demo


def test_secrets_are_the_passwords_and_unique_ids_and_are_not_shown(tmp_path: Path) -> None:
    text = """
    [prod]
    dsn = "postgresql://a:prod%2Dpassword@b/c"
    [sandbox]
    dsn = "host=a password=sandbox-password"
    [sandbox.erp]
    url = "http://somebody:basic-password@erp"
    instance-unique-id = "the-unique-id"
    """
    settings = load(tmp_path, text)
    secrets = {secret.get_secret_value() for secret in settings.secrets()}
    assert secrets >= {"prod-password", "sandbox-password", "basic-password", "the-unique-id"}
    assert "prod" not in secrets
    for secret in secrets - {"basic-password"}:
        assert secret not in repr(settings)


def test_a_claim_that_this_pod_has_mounted_is_the_cache_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of processes stands for a volume: it is mounted everywhere."""
    text = f'{PAIR}namespace = "erp-sandbox"\n[golden]\nclaim = "erp-golden"\npath = '
    assert load(tmp_path, f'{text}"/proc"').golden.claim_elsewhere == "erp-golden"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert load(tmp_path, f'{text}"/proc"').golden.claim_elsewhere is None
    assert load(tmp_path, f'{text}"cache"').golden.claim_elsewhere == "erp-golden"
