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


def record(name: bytes, kind: bytes, content: bytes = b"", target: bytes = b"", **fields: bytes) -> bytes:
    """A header as it comes, and what follows it: what no tar program would write, but anybody can send."""
    size, magic = fields.get("size", b"%011o\0" % len(content)), fields.get("magic", b"ustar  \0")
    header = name.ljust(100, b"\0") + b"0000755\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8 + kind
    header = ((header + target).ljust(257, b"\0") + magic).ljust(345, b"\0") + fields.get("rest", b"")
    header = header.ljust(512, b"\0")
    return header[:148] + b"%06o\0 " % sum(header) + header[156:] + content + bytes(-len(content) % 512)


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


TOP, LEADS_OUT = record(b"m/", FOLDER), record(b"m/out", LINK, target=b"../..")
DEEP = b"".join(record(name, FOLDER) for name in (b"m/a/", b"m/a/b/", b"m/a/b/c/"))
UP = record(b"m/a/b/c/up", LINK, target=b"../../..")  # to m itself


@pytest.mark.parametrize(
    "sent",
    [
        # A long name: tar cuts at the first NUL, or at the length that was said.
        record(b"@", b"L", b"m/link\0/x/y/z\0") + record(b"m/link", LINK, target=b"../../.."),
        record(b"@", b"L", b"m/link\0/x/y/z") + record(b"m/link", LINK, target=b"../../.."),
        record(b"@", b"L", b"m/x", size=b"00000000013\0")[:-509] + b"/y/z".ljust(509, b"\0") + LEADS_OUT,
        record(b"@", b"K", b"x\0../../..\0") + record(b"m/link", LINK),
        record(b"@", b"K", b"") + record(b"m/link", LINK, target=b"x"),
        record(b"@", b"L", b"") + record(b"m/link", LINK, target=b"x"),
        # GNU tar makes a folder of it, and reads its content as entries.
        record(b"m/file/", FILE, LEADS_OUT),
        record(b"m/file/", b"\0", LEADS_OUT),
        record(b"m/file/", LINK, target=b"x"),
        # So do both of these.
        record(b"m/folder/", FOLDER, LEADS_OUT),
        record(b"m/link", LINK, LEADS_OUT, target=b"x"),
        record(b"m/file", FILE) + record(b"m/hard", HARD, LEADS_OUT, target=b"m/file"),
        # busybox makes hard links of these.
        record(b"m/file", FILE, target=b"/etc/passwd"),
        record(b"@", b"K", b"/etc/passwd\0") + record(b"m/file", FILE),
        # One more name for a link, in a folder less deep: whence it leads out.
        DEEP + UP + record(b"m/up", HARD, target=b"m/a/b/c/up"),
        DEEP + UP + record(b"m/to", LINK, target=b"a/b/c") + record(b"m/up", HARD, target=b"m/to/up"),
        # busybox puts these bytes before the name, whatever the format; GNU tar where it is another one.
        record(b"m/file", FILE, rest=b"../../.."),
        record(b"m/file", FILE, rest=b"../../..", magic=b"ustar\00000"),
        record(b"m/file", FILE, magic=bytes(8)),
        # busybox takes it for the archive's end; GNU tar forgets the long name at an empty block.
        record(b"@", b"L", b"m/file\0") + record(b"", FILE, LEADS_OUT),
        record(b"@", b"L", b"m/a/b/c/link\0") + bytes(512) + LEADS_OUT,
        bytes(512) + record(b"m/file", FILE),
        # Numbers that not all read in the same way, or not at all.
        *(
            record(b"m/file", FILE, LEADS_OUT, size=size)
            for size in (
                b"0000000_1000",
                b"+00000001000",
                b"-00000001000",
                b"0o0000001000",
                b"\t00000001000",
                b"0\x000000001000",
                b" " * 12,
                b"\x80\0\0\1\0\0\0\0\0\0\2\0",
                b"\x81" + bytes(9) + b"\2\0",
                b"\xff" * 10 + b"\2\0",
            )
        ),
        # Of other programs: multi-volume, sparse, a volume's label, dumps of folders, pax.
        *(record(b"m/file", kind) for kind in (b"7", b"A", b"D", b"M", b"N", b"S", b"V", b"X", b"Z", b"g", b"x")),
    ],
)
def test_what_tar_programs_may_read_otherwise_is_refused(sent: bytes) -> None:
    with pytest.raises(ClusterError, match=r"not a tar archive as|was not copied"):
        passed(TOP + sent + bytes(1024))


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
        ("m/a/b/hard", HARD, "m/a/b/link"),
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
