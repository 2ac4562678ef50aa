"""Documents of an ERP that is served here: whatever happens to them, each scenario finds what the first one found."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_erp_sandbox.dolibarr.documents import LocalDocuments
from pytest_erp_sandbox.errors import AgentError

OLD = 1_700_000_000


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    for each in ("facture/FA1", "societe/1", "empty", "with space"):
        (folder / each).mkdir(parents=True)
    (folder / "facture" / "FA1" / "FA1.pdf").write_bytes(b"%PDF\0\xff")
    (folder / "societe" / "1" / "naïve\nsecond line").write_text("old")
    (folder / "societe" / "logo").symlink_to("1/naïve\nsecond line")
    (folder / "with space" / "script").write_text("#!/bin/sh\n")
    (folder / "with space" / "script").chmod(0o755)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    return folder


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that a program could tell of a tree, times too, but when it was made."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
        if path.name != "install.lock"
    }


def edit_in_place(folder: Path) -> None:
    """The same size and the same time: only the time that no program sets tells."""
    pdf = folder / "facture" / "FA1" / "FA1.pdf"
    times = pdf.stat()
    pdf.write_bytes(b"%PDX\0\xff")
    os.utime(pdf, ns=(times.st_atime_ns, times.st_mtime_ns))


def file_for_folder(folder: Path) -> None:
    shutil.rmtree(folder / "facture")
    (folder / "facture").write_text("a file")


def folder_for_file(folder: Path) -> None:
    (folder / "with space" / "script").unlink()
    (folder / "with space" / "script").mkdir()
    (folder / "with space" / "script" / "in it").touch()


def link_elsewhere(folder: Path) -> None:
    (folder / "societe" / "logo").unlink()
    (folder / "societe" / "logo").symlink_to("/etc/passwd")


def add(folder: Path) -> None:
    (folder / "facture" / "FA2" / "thumbs").mkdir(parents=True)
    (folder / "facture" / "FA2" / "FA2.pdf").write_bytes(b"%PDF")
    (folder / "facture" / "out").symlink_to("/etc")


def remove(folder: Path) -> None:
    shutil.rmtree(folder / "societe")
    (folder / "empty").rmdir()


def chmod(folder: Path) -> None:
    (folder / "with space").chmod(0o700)
    (folder / "with space" / "script").chmod(0o600)


@pytest.mark.parametrize(
    "change",
    [add, remove, edit_in_place, file_for_folder, folder_for_file, link_elsewhere, chmod],
    ids=lambda change: change.__name__,
)
def test_whatever_was_changed_is_put_back(tmp_path: Path, given: Path, change: Callable[[Path], None]) -> None:
    documents = LocalDocuments(tmp_path / "served", given)
    before = seen(tmp_path / "served")
    assert before == seen(given)
    # The clock of a file system goes in steps.
    begun = time.time_ns()
    while (tmp_path / "clock").write_bytes(b"") or (tmp_path / "clock").stat().st_ctime_ns <= begun:
        pass
    change(tmp_path / "served")
    assert documents.put_back() > 0
    assert seen(tmp_path / "served") == before
    assert seen(given) == before
    assert documents.put_back() == 0


def test_an_erp_that_begins_with_nothing_has_nothing_again(tmp_path: Path) -> None:
    documents = LocalDocuments(tmp_path / "served", None)
    add(tmp_path / "served")
    documents.put_back()
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["install.lock"]


def test_a_link_that_leads_out_is_refused(tmp_path: Path, given: Path) -> None:
    (given / "societe" / "out").symlink_to("../../elsewhere")
    with pytest.raises(AgentError, match=r"sandbox\.erp\.documents\) leads out of it: 'societe/out'"):
        LocalDocuments(tmp_path / "served", given)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"nowhere \(sandbox\.erp\.documents\) cannot be copied: .*No such file"):
        LocalDocuments(tmp_path / "served", tmp_path / "nowhere")


def test_what_cannot_be_copied_is_named(tmp_path: Path, given: Path) -> None:
    os.mkfifo(given / "pipe")
    with pytest.raises(AgentError, match=r"cannot be copied: .*pipe.* is a named pipe"):
        LocalDocuments(tmp_path / "served", given)


def test_a_folder_that_was_changed_itself_meanwhile_is_said(tmp_path: Path, given: Path) -> None:
    documents = LocalDocuments(tmp_path / "served", given)
    remove(tmp_path / "served")
    (given / "societe" / "1" / "naïve\nsecond line").write_text("longer than before")
    with pytest.raises(AgentError, match=r"1 of the ERP's documents are not what they were.*second line"):
        documents.put_back()
