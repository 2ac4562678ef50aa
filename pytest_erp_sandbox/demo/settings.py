"""The demo's coordinates as settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..settings import ErpSettings, ProdSettings, SandboxSettings, Settings

__all__ = ["with_demo"]


@contextmanager
def with_demo(settings: Settings, project: Path) -> Iterator[Settings]:
    """The settings as they are; or, where they ask for the demo, with it running and as prod and sandbox.

    Args:
        settings: with or without ``demo``.
        project: the folder whose demo it is; all who use it share one.

    Raises:
        SettingsError: the demo's PostgreSQL is not installed.
    """
    if not settings.demo:
        yield settings
        return
    from .use import use_demo

    with use_demo(project) as demo:
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
        yield settings.model_copy(
            update={"prod": ProdSettings(dsn=demo.prod_dsn), "sandboxes": places, "golden": golden}
        )
