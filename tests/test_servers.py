"""Which PostgreSQL servers the tests are run on."""

from __future__ import annotations

from pathlib import Path

from .servers import VERSIONS, others_in


def test_each_version_whose_server_is_installed_is_one_of_them(tmp_path: Path) -> None:
    for version, names in {
        "14": ("initdb", "postgres"),
        "15": ("initdb", "postgres"),
        "16": ("pg_dump", "psql"),
        "17": ("initdb", "postgres", "psql"),
        "100": ("initdb", "postgres"),
        "common": ("initdb", "postgres"),
    }.items():
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch(0o755)

    assert list(others_in(tmp_path, ["15", "18"]).items()) == [
        ("17", tmp_path / "17" / "bin"),
        ("100", tmp_path / "100" / "bin"),
    ]
    assert others_in(tmp_path / "nowhere", []) == {}


def test_the_oldest_and_the_wheels_come_first() -> None:
    assert list(VERSIONS)[:2] == ["15", "18"]
