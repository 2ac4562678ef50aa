"""``[tool.erp-sandbox]``, ``ERP_SANDBOX_…`` and options become settings; what is wrong is said, and where it stands."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from .errors import SettingsError
from .settings import (
    PREFIX,
    AgentSettings,
    ChangesSettings,
    ClusterSettings,
    DocumentsSettings,
    ErpSettings,
    GoldenSettings,
    ProdSettings,
    SandboxSettings,
    Settings,
    Table,
    absolute,
)

__all__ = ["load_settings"]

TEST_PREFIX = f"{PREFIX}TEST_"
"""The test suite's own variables, which are no settings."""

_AnyTable = TypeVar("_AnyTable", bound=Table)


def load_settings(folder: Path, overrides: Mapping[str, object] | None = None) -> Settings | None:
    """Read the settings of the project in ``folder``.

    Args:
        folder: where ``pyproject.toml`` or ``erp-sandbox.toml`` is; relative paths in it are relative to this folder.
        overrides: what the command line says, by top-level key; it wins over the environment, which wins over the file.

    Returns:
        The settings, or None where there is neither a table, nor a variable, nor an override: the plugin stays inert.

    Raises:
        SettingsError: an unknown key or variable, or a bad value; the message names each, and where it stands.
    """
    overrides = dict(overrides or {})
    table, file = _read_table(folder)
    variables = [name for name in os.environ if name.upper().startswith(PREFIX) and not _is_test_variable(name)]
    if table is None and not variables and not overrides:
        return None
    _refuse_unknown_variables(variables)

    class Located(Settings):
        @classmethod
        def settings_customise_sources(  # type: ignore[override]
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            **_: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                init_settings,
                _Variables(settings_cls),
                InitSettingsSource(settings_cls, init_kwargs=_snake_case(table or {})),
            )

    try:
        settings = Located(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _explained(error, overrides, variables, file) from None
    except ValueError:
        # pydantic-settings quotes a value that it cannot parse, which may be a secret.
        raise SettingsError(
            f"a variable of {', '.join(sorted(variables))} is not valid JSON",
            hint="Tables and lists in the environment are written as JSON; single keys as ERP_SANDBOX_PROD__DSN=….",
        ) from None
    _refuse_two_prods(settings, asked_for_demo=bool(overrides.get("demo")))
    # A DSN that libpq does not understand is better refused now than when it is needed.
    settings.prod.database()
    for sandbox in settings.all_sandboxes:
        sandbox.database()
    return _with_absolute_paths(settings, folder)


class _Variables(EnvSettingsSource):
    """Variables, with keys in JSON as a file has them."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return _snake_case(super().decode_complex_value(field_name, field, value))


def _refuse_two_prods(settings: Settings, *, asked_for_demo: bool) -> None:
    """Where the demo was not asked for just now (it takes the place of all else then), the settings contradict."""
    if settings.demo and not asked_for_demo and (settings.prod != ProdSettings() or settings.all_sandboxes):
        raise SettingsError(
            "the settings have demo = true, and a prod or sandbox of your own",
            hint="Remove either; --erp-sandbox-demo tries the demo without any change of the settings.",
        )


def _is_test_variable(name: str) -> bool:
    return name.upper().startswith(TEST_PREFIX)


def _read_table(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The settings table of the folder's file, if there is one, and what to call the place in messages."""
    found: list[tuple[dict[str, Any], str]] = []
    for name in ("erp-sandbox.toml", "pyproject.toml"):
        try:
            content = tomllib.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{folder / name} cannot be read: {error}") from None
        tool = content.get("tool", {})
        if name == "erp-sandbox.toml" and "tool" not in content:
            found.append((content, name))
        elif isinstance(tool, dict) and "erp-sandbox" in tool:
            found.append((tool["erp-sandbox"], f"{name} [tool.erp-sandbox]"))
            if not isinstance(tool["erp-sandbox"], dict):
                raise SettingsError(f"{name}: tool.erp-sandbox is not a table", hint="Write [tool.erp-sandbox].")
        elif name == "erp-sandbox.toml":
            raise SettingsError(f"{name} has a table [tool], but no [tool.erp-sandbox] in it")
    if len(found) > 1:
        raise SettingsError(
            f"settings stand both in erp-sandbox.toml and in pyproject.toml of {folder}",
            hint="Keep one of them.",
        )
    return found[0] if found else (None, "")


def _snake_case(table: Any) -> Any:
    """Turn ``max-age`` into ``max_age``, here: pydantic-settings merges its sources before it looks at aliases."""
    if isinstance(table, dict):
        return {key.replace("-", "_"): _snake_case(value) for key, value in table.items()}
    if isinstance(table, list):
        return [_snake_case(value) for value in table]
    return table


def _refuse_unknown_variables(variables: Sequence[str]) -> None:
    """Pydantic-settings passes over variables whose first part is unknown; a typing error must not go unseen."""
    for name in variables:
        key = name.upper().removeprefix(PREFIX).split("__")[0].lower()
        if key not in Settings.model_fields:
            known = [PREFIX + field.upper() for field in Settings.model_fields]
            raise SettingsError(f"unknown variable {name}", hint=_did_you_mean(name.upper(), known))


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(known)}."


def _explained(
    error: ValidationError, overrides: Mapping[str, object], variables: Sequence[str], file: str
) -> SettingsError:
    """All that is wrong, a line each: the key, where it stands, and what would be right."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        location = [str(part) for part in problem["loc"]]
        key = ".".join(part.replace("_", "-") for part in location) or "settings"
        where = _place(location, overrides, variables) or file or "command line or environment"
        said = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            said = f"unknown key. {_did_you_mean(key.rpartition('.')[2], _known_keys(location[:-1]))}"
        lines.append(f"{key} ({where}): {said}")
    return SettingsError("the settings cannot be used\n" + "\n".join(f"  {line}" for line in lines))


def _place(location: Sequence[str], overrides: Mapping[str, object], variables: Sequence[str]) -> str | None:
    """The option or variable that a value came from, if it was one: they win over the file."""
    if location and location[0] in overrides:
        return f"--erp-sandbox-{location[0].replace('_', '-')}"
    path = f"{PREFIX}{'__'.join(location)}__".upper()
    # A variable can also hold the whole table, as JSON.
    return next((f"variable {name}" for name in variables if path.startswith(f"{name.upper()}__")), None)


def _known_keys(path: Sequence[str]) -> list[str]:
    """The keys of the table at ``path``, as a TOML file has them."""
    tables: dict[str, type[BaseModel]] = {
        "prod": ProdSettings,
        "sandbox": SandboxSettings,
        "sandboxes": SandboxSettings,
        "cluster": ClusterSettings,
        "documents": DocumentsSettings,
        "golden": GoldenSettings,
        "agent": AgentSettings,
        "changes": ChangesSettings,
        "erp": ErpSettings,
    }
    names = [part for part in path if not part.isdigit()]
    model: type[BaseModel] = tables[names[-1]] if names else Settings
    return [name.replace("_", "-") for name in model.model_fields]


def _with_absolute_paths(settings: Settings, folder: Path) -> Settings:
    def with_absolute(table: _AnyTable, *keys: str) -> _AnyTable:
        return table.model_copy(update={key: absolute(path, folder) for key in keys if (path := getattr(table, key))})

    def absolute_place(place: SandboxSettings) -> SandboxSettings:
        return with_absolute(place, "credentials").model_copy(
            update={"erp": with_absolute(place.erp, "htdocs", "documents")}
        )

    update: dict[str, object] = {
        "golden": with_absolute(settings.golden, "path").model_copy(
            update={"prepare": tuple(absolute(path, folder) for path in settings.golden.prepare)}
        ),
        "prod": with_absolute(settings.prod, "dump", "credentials"),
        "cluster": with_absolute(settings.cluster, "kubeconfig"),
        "agent": settings.agent.located(folder),
        "report": tuple(absolute(path, folder) for path in settings.report),
        "sandboxes": tuple(map(absolute_place, settings.sandboxes)),
        "sandbox": None if settings.sandbox is None else absolute_place(settings.sandbox),
    }
    if settings.programs is not None:
        update["programs"] = absolute(settings.programs, folder)
    return settings.model_copy(update=update)
