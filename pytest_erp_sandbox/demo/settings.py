"""The demo's coordinates as settings, all of them or only where the sandbox is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..settings import ErpSettings, ProdSettings, SandboxSettings, Settings
from .coordinates import Demo, DemoSandbox

__all__ = ["with_demo"]


@contextmanager
def with_demo(settings: Settings, project: Path) -> Iterator[Settings]:
    """The settings as they are; or, where they ask for the demo, with it running and as prod and sandbox.

    Where only the sandbox's database is to be embedded, the demo's is taken, and nothing else of it.

    Args:
        settings: with or without ``demo`` or ``sandbox.embedded``.
        project: the folder whose demo it is; all who use it share one.

    Raises:
        SettingsError: the demo's PostgreSQL is not installed.
    """
    own = settings.sandbox
    if not settings.demo and (own is None or not own.embedded):
        yield settings
        return
    from .use import use_demo

    with use_demo(project) as demo:
        if settings.demo or own is None:
            yield _all_of(demo, settings)
        else:
            yield settings.model_copy(update={"sandbox": _embedded(own, demo.sandboxes[0])})


def _all_of(demo: Demo, settings: Settings) -> Settings:
    places = tuple(
        SandboxSettings(
            name=sandbox.name,
            dsn=sandbox.dsn,
            role=sandbox.role,
            erp=ErpSettings(url=sandbox.url, instance_unique_id=sandbox.unique_id),
        )
        for sandbox in demo.sandboxes
    )
    golden = settings.golden.model_copy(update={"path": demo.golden_path})
    return settings.model_copy(update={"prod": ProdSettings(dsn=demo.prod_dsn), "sandboxes": places, "golden": golden})


def _embedded(own: SandboxSettings, embedded: DemoSandbox) -> SandboxSettings:
    # The server's port is another one each time it starts; what keys are encrypted with may not change with it.
    unique_id = own.erp.instance_unique_id or embedded.unique_id
    erp = own.erp.model_copy(update={"instance_unique_id": unique_id})
    return own.model_copy(update={"dsn": embedded.dsn, "role": embedded.role, "erp": erp})
