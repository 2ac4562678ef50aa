"""A tar stream that passes through, each entry looked at."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_erp_sandbox import ClusterError
from pytest_erp_sandbox.cluster.tarstream import CheckedTar


def archive(*entries: tuple[str, bytes, str], content: bytes = b"") -> bytes:
    """An archive of entries (name, type, where a link points), in GNU's format."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, target in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def passed(whole: bytes, size: int = 10_000) -> bytes:
    """What passes of an archive that comes in pieces of this size."""
    return b"".join(CheckedTar((whole[at : at + size] for at in range(0, len(whole), size)), ["m", "n"]))


def names(whole: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        return tar.getnames()


FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("/etc/passwd", FILE, ""),
        ("m/../../evil", FILE, ""),
        ("../m/evil", FILE, ""),
        ("m/..", FOLDER, ""),
        (".", FOLDER, ""),
        ("evil", FILE, ""),
        (".erp-sandbox", FILE, ""),
        ("m", FILE, ""),
        ("m", LINK, "n"),
        ("m/link", LINK, "/etc/passwd"),
        ("m/link", LINK, "../../etc/passwd"),
        ("m/link", LINK, "../n/file"),
        ("m/a/link", LINK, "../../n"),
        ("m/link", LINK, "a/../../../etc"),
        ("m/link", LINK, "./../.."),
        ("m/link", HARD, "/etc/passwd"),
        ("m/link", HARD, "m/../../etc/passwd"),
        ("m/link", HARD, "n/file"),
        ("m/link", HARD, ""),
        ("m/device", tarfile.CHRTYPE, ""),
        ("m/device", tarfile.BLKTYPE, ""),
        ("m/pipe", tarfile.FIFOTYPE, ""),
        (f"m/{'x' * 200}/../../../evil", FILE, ""),
        (f"m/{'x' * 90}", LINK, f"{'../' * 60}etc"),
    ],
)
def test_what_would_lead_out_is_refused_and_named(name: str, kind: bytes, target: str) -> None:
    whole = archive(("m", FOLDER, ""), ("m/fine", FILE, ""), (name, kind, target))
    with pytest.raises(ClusterError, match="was not copied") as failure:
        passed(whole)
    assert repr(name).rstrip("'") in str(failure.value)


def test_a_file_beyond_a_link_of_the_same_archive_is_refused() -> None:
    # The link alone is harmless; with what goes through it, a way out can be made step by step.
    whole = archive(("m", FOLDER, ""), ("m/a", FOLDER, ""), ("m/a/up", LINK, ".."), ("m/a/up/up", LINK, ".."))
    with pytest.raises(ClusterError, match="beyond a symbolic link"):
        passed(whole)


def test_a_link_that_is_replaced_is_refused() -> None:
    with pytest.raises(ClusterError, match="beyond a symbolic link"):
        passed(archive(("m/a", LINK, "b"), ("m/a", FILE, "")))


def test_nothing_of_an_entry_that_is_refused_has_passed() -> None:
    whole = archive(("m/fine", FILE, ""), ("/etc/evil", FILE, ""), content=b"x" * 3000)
    came: list[bytes] = []

    def bytewise() -> Iterator[bytes]:
        for at in range(0, len(whole), 512):
            yield whole[at : at + 512]

    with pytest.raises(ClusterError):
        came.extend(bytes(piece) for piece in CheckedTar(bytewise(), ["m"]))
    assert b"evil" not in b"".join(came)


@pytest.mark.parametrize("size", [1, 7, 512, 513, 65536])
def test_what_is_harmless_passes_byte_by_byte_in_pieces_of_any_size(size: int) -> None:
    whole = archive(
        ("m", FOLDER, ""),
        ("m/naïve name\nwith newline", FILE, ""),
        (f"m/{'long ' * 60}", FILE, ""),
        ("m/link", LINK, "naïve name\nwith newline"),
        ("m/a/b/link", LINK, "../../c"),
        (f"m/{'l' * 150}", LINK, "t" * 150),
        ("m/hard", HARD, "m/link"),
        ("m/..strange..", FILE, ""),
        content=b"x" * 700,
    )
    came = passed(whole, size)
    assert whole.startswith(came)
    assert not whole[len(came) :].strip(b"\0")  # the padding of tar's record
    assert names(came) == names(whole)


def test_whatever_follows_the_end_does_not_pass() -> None:
    whole = archive(("m/fine", FILE, ""))
    tar = CheckedTar([whole, archive(("/etc/evil", FILE, ""))], ["m"])
    assert b"evil" not in b"".join(tar)
    assert tar.is_complete


def test_an_archive_without_its_end_is_not_complete() -> None:
    whole = archive(("m/fine", FILE, ""), content=b"x" * 2000)
    for cut in (700, 2560, 3072):
        tar = CheckedTar([whole[:cut]], ["m"])
        list(tar)
        assert not tar.is_complete
    tar = CheckedTar([whole], ["m"])
    list(tar)
    assert (tar.is_complete, tar.entries) == (True, 1)


@pytest.mark.parametrize("whole", [b"tar: not found\n" * 100, b"\xff" * 2048, bytes(range(256)) * 8])
def test_what_is_no_archive_is_refused(whole: bytes) -> None:
    with pytest.raises(ClusterError, match="not a tar archive"):
        passed(whole)


@pytest.mark.parametrize("tar", [["tar", "--format=gnu"], ["busybox", "tar"]])
def test_what_gnu_tar_and_busybox_tar_write_passes(tmp_path: Path, tar: list[str]) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / ("ü" * 100)).write_bytes(b"long")
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(b"x" * 100_000)
    (folder / "hard").hardlink_to(folder / "file")
    (folder / "link").symlink_to("file")
    whole = subprocess.run([*tar, "-cf", "-", "m"], cwd=tmp_path, capture_output=True, check=True).stdout
    assert sorted(names(passed(whole))) == ["m", "m/empty", "m/file", "m/hard", "m/link", f"m/{'ü' * 100}"]


def test_sizes_from_8_gb_on_are_understood() -> None:
    entry = tarfile.TarInfo("m/large")
    entry.size = 9 << 30
    header = entry.tobuf(tarfile.GNU_FORMAT)
    tar = CheckedTar([header, b"/etc/evil" * 1000], ["m"])
    assert len(b"".join(tar)) == len(header) + 9000  # all of it content of that file
