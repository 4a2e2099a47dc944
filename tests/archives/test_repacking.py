"""What becomes of archives that are packed again."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest

from open_workshop_storage.services.archives.repacking import settle_tree
from open_workshop_storage.utils.archives.faults import UnsafeEntry
from tests.archives.rars import file4, file5, rar4, rar5
from tests.archives.tars import member, tar_from
from tests.archives.workbench import Content, Workbench
from tests.archives.zips import FAT, UTF8, Entry, unicode_path, zip_from
from tests.support.archives import SMALL_MOD, Entries, compressed_tar_of, seven_zip_of, tar_of, zip_of

pytestmark = pytest.mark.anyio

TEXT = b"some text that can be compressed " * 50
FOLDER = 0o040755
SMALL_MOD_BYTES = sum(map(len, SMALL_MOD.values()))
EMPTY_SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c\x00\x04" + struct.pack("<I", zlib.crc32(bytes(20))) + bytes(20)


def seven_zip_of_another_maker(entries: Entries) -> bytes:
    """Return a 7z that `7z` had no part in."""
    file = io.BytesIO()
    with py7zr.SevenZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(content, name)
    return file.getvalue()


def files_of(content: Content) -> dict[str, bytes]:
    return {name: data for name, data in content.items() if data is not None}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(seven_zip_of(SMALL_MOD), id="7z"),
        pytest.param(seven_zip_of_another_maker(SMALL_MOD), id="7z of another maker"),
        pytest.param(seven_zip_of(SMALL_MOD, "-m0=BCJ2", "-m1=LZMA"), id="7z with a filter"),
        pytest.param(seven_zip_of(SMALL_MOD, "-mtr=off"), id="7z without attributes"),
        pytest.param(seven_zip_of(SMALL_MOD, "-ms=off", "-mhc=off"), id="7z neither solid nor with packed headers"),
        pytest.param(rar5(*(file5(name.encode(), data) for name, data in SMALL_MOD.items())), id="rar 5"),
        pytest.param(tar_of(SMALL_MOD), id="tar"),
        *(pytest.param(compressed_tar_of(SMALL_MOD, form), id=f"tar.{form}") for form in ("gz", "bz2", "xz", "zst")),
        pytest.param(gzip.compress(tar_of(SMALL_MOD)[:512]) + gzip.compress(tar_of(SMALL_MOD)[512:]), id="two gz"),
    ],
)
async def test_an_archive_becomes_a_deflated_zip_of_the_same_files(sent: bytes, workbench: Workbench) -> None:
    assert await workbench.repack(sent) == SMALL_MOD_BYTES
    assert files_of(workbench.packed_content()) == SMALL_MOD
    with zipfile.ZipFile(workbench.packed) as archive:
        methods = {info.filename: info.compress_type for info in archive.infolist()}
    assert methods["mod/descriptor.mod"] == zipfile.ZIP_DEFLATED


async def test_a_rar_4_becomes_a_zip(workbench: Workbench) -> None:
    assert await workbench.repack(rar4(file4(b"a.txt", TEXT), file4(b"b/c.txt", b"c"))) == len(TEXT) + 1
    assert files_of(workbench.packed_content()) == {"a.txt": TEXT, "b/c.txt": b"c"}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"no archive" * 100, id="text"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"P", id="one byte"),
        pytest.param(gzip.compress(TEXT), id="gz of no tar"),
        pytest.param(gzip.compress(os.urandom(6_000_000), 1), id="large gz of no tar"),
        pytest.param(gzip.compress(zip_of(SMALL_MOD)), id="gz of a zip"),
        pytest.param(b"MZ" + bytes(500) + zip_of(SMALL_MOD), id="self-extracting zip"),
        pytest.param(b"MZ" + bytes(500) + seven_zip_of(SMALL_MOD), id="self-extracting 7z"),
        pytest.param(Path("/usr/bin/env").read_bytes(), id="ELF"),
        pytest.param(bytes(10_240), id="tar of nothing"),
    ],
)
async def test_any_other_file_becomes_a_zip_with_that_file(sent: bytes, workbench: Workbench) -> None:
    assert await workbench.repack(sent, name="over uns.txt") == len(sent)
    assert workbench.packed_content() == {"over uns.txt": sent}


async def test_an_old_tar_without_its_magic_is_any_other_file(workbench: Workbench) -> None:
    old = bytearray(tar_of({"a.txt": TEXT}))
    old[257:265] = bytes(8)
    assert await workbench.repack(bytes(old)) == len(old)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(zip_from([Entry(b"x", TEXT, method=0), Entry(b"a/b/", method=0, mode=FOLDER)]), id="zip"),
        pytest.param(rar5(file5(b"x", TEXT), file5(b"a/b", mode=FOLDER)), id="rar"),
        pytest.param(tar_from([member("./x", TEXT), member("./a/b/", kind=tarfile.DIRTYPE)]), id="tar"),
    ],
)
async def test_empty_folders_stay(sent: bytes, workbench: Workbench) -> None:
    await workbench.repack(sent)
    assert workbench.packed_content() == {"x": TEXT, "a": None, "a/b": None}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(EMPTY_SEVEN_ZIP, id="7z"),
        pytest.param(rar5(), id="rar"),
        pytest.param(tar_from([member("./", kind=tarfile.DIRTYPE)]), id="tar of its root only"),
    ],
)
async def test_an_empty_archive_becomes_an_empty_zip(sent: bytes, workbench: Workbench) -> None:
    assert await workbench.repack(sent) == 0
    assert workbench.packed.read_bytes() == zip_of({})


async def test_a_7z_of_folders_and_empty_files_becomes_a_zip_of_them(workbench: Workbench) -> None:
    assert await workbench.repack(seven_zip_of({"a/b/empty": b"", "c": b""})) == 0
    assert workbench.packed_content() == {"a": None, "a/b": None, "a/b/empty": b"", "c": b""}


async def test_names_of_zips_are_those_that_readers_see(workbench: Workbench) -> None:
    entries = [
        Entry("grüße/ñ.txt".encode("cp437"), b"1", method=0, system=FAT),
        Entry("€ with flag".encode(), b"2", method=0, flags=UTF8),
        Entry("€ without flag".encode(), b"3", method=0),
        Entry(b"other", b"4", method=0, extra=unicode_path(b"other", "€ as extra field")),
        Entry(b".hidden", b"5", method=0),
        Entry(b"-switch", b"6", method=0),
        Entry(b"@list", b"7", method=0),
        Entry(b"star*", b"8", method=0),
    ]
    await workbench.repack(zip_from(entries))
    names = ["grüße/ñ.txt", "€ with flag", "€ without flag", "€ as extra field", ".hidden", "-switch", "@list", "star*"]
    assert files_of(workbench.packed_content()) == {name: b"%d" % n for n, name in enumerate(names, 1)}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
async def test_long_names_of_tars_stay(form: int, workbench: Workbench) -> None:
    name = "/".join(["ein langer Ordner ü"] * 12) + "/" + "ü" * 100
    await workbench.repack(tar_from([member(name, TEXT)], form))
    assert files_of(workbench.packed_content()) == {name: TEXT}


async def test_a_tar_name_in_another_encoding_is_read_as_in_a_zip(workbench: Workbench) -> None:
    raw = "grüße".encode("cp437").decode("utf-8", "surrogateescape")
    await workbench.repack(tar_from([member(raw, TEXT)]))
    assert files_of(workbench.packed_content()) == {"grüße": TEXT}


async def test_sparse_files_of_a_tar_come_out_whole(workbench: Workbench) -> None:
    sparse = workbench.folder / "sparse"
    with sparse.open("wb") as file:
        for offset in (0, 500_000, 900_000):
            file.seek(offset)
            file.write(b"data at %d" % offset)
        file.truncate(2_000_000)
    for form in ("gnu", "pax"):
        command = ["tar", "--sparse", "--hole-detection=raw", f"--format={form}", "-cf", "-", "sparse"]
        sent = subprocess.run(command, cwd=workbench.folder, stdout=subprocess.PIPE, check=True).stdout
        assert len(sent) < 100_000
        for packed in (sent, gzip.compress(sent)):
            assert await workbench.repack(packed) == 2_000_000
            assert workbench.packed_content() == {"sparse": sparse.read_bytes()}


@pytest.mark.parametrize("kind", [b"V", b"A"], ids=["a volume's label", "an access control list"])
async def test_what_is_no_file_is_no_entry(kind: bytes, workbench: Workbench) -> None:
    await workbench.repack(tar_from([member("a", b"no file", kind=kind), member("a", TEXT)]))
    assert workbench.packed_content() == {"a": TEXT}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(
            zip_from(
                [
                    Entry(b"suid", TEXT, method=0, mode=0o106777),
                    Entry(b"plain", TEXT, method=0, mode=0o100000),
                    Entry(b"folder/", method=0, mode=0o041000),
                    Entry(b"folder/file", TEXT, method=0, mode=0o100666),
                ]
            ),
            id="zip",
        ),
        pytest.param(
            zip_from(
                [
                    Entry(b"suid", TEXT, mode=0o104777),
                    Entry(b"plain", TEXT, mode=0o100000),
                    Entry(b"folder/", method=0, mode=0o040755),
                    Entry(b"folder/file", TEXT, mode=0o100666),
                ]
            ),
            id="zip that would stay as it is but for that",
        ),
        pytest.param(
            tar_from(
                [
                    member("suid", TEXT, mode=0o6777),
                    member("plain", TEXT, mode=0),
                    member("folder", kind=tarfile.DIRTYPE, mode=0o1000),
                    member("folder/file", TEXT, mode=0o666),
                ]
            ),
            id="tar",
        ),
    ],
)
async def test_odd_modes_are_dropped(sent: bytes, workbench: Workbench) -> None:
    await workbench.repack(sent)
    modes = {
        path.relative_to(workbench.extracted).as_posix(): path.stat().st_mode for path in workbench.extracted.rglob("*")
    }
    assert modes == {"suid": 0o100755, "plain": 0o100644, "folder": 0o040755, "folder/file": 0o100644}


@pytest.mark.parametrize("mtime", [1_000_000_000, -5, 10**18, float("nan")])
async def test_times_of_tars_do_no_harm(mtime: float, workbench: Workbench) -> None:
    await workbench.repack(tar_from([member("a", TEXT, pax_headers={"mtime": str(mtime)})], tarfile.PAX_FORMAT))
    expected = mtime if mtime == 1_000_000_000 else 0
    assert (workbench.extracted / "a").stat().st_mtime == expected


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda folder: (folder / "link").symlink_to("/etc/passwd"), id="a link to a file"),
        pytest.param(lambda folder: (folder / "folder" / "link").symlink_to("."), id="a link to a folder"),
        pytest.param(lambda folder: os.mkfifo(folder / "pipe"), id="a pipe"),
        pytest.param(lambda folder: os.link(folder / "file", folder / "second"), id="a hard link"),
    ],
)
def test_whatever_is_no_plain_file_or_folder_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    assert settle_tree(tmp_path) == 1
    make(tmp_path)
    with pytest.raises(UnsafeEntry):
        settle_tree(tmp_path)


def test_backslashes_become_folders(tmp_path: Path) -> None:
    for name in ("m\\", "m\\s", "n", "n/t\\u"):
        (tmp_path / name).mkdir()
    for name in ("m\\a", "m\\s\\b", "n\\c", "n/t\\u/d", "o\\p\\e"):
        (tmp_path / name).write_bytes(b"x")
    assert settle_tree(tmp_path) == 5
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"m/a", "m/s/b", "n/c", "n/t/u/d", "o/p/e"}


@pytest.mark.parametrize("names", [("m/a", "m\\a"), ("m/s/a", "m\\s/b"), ("m/a/b", "m\\a")], ids="/".join)
def test_what_would_stand_at_one_place_is_refused(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsafeEntry):
        settle_tree(tmp_path)


def test_nothing_is_moved_into_a_link(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "m").symlink_to(tmp_path)
    (tmp_path / "tree" / "m\\a").write_bytes(b"x")
    with pytest.raises(UnsafeEntry):
        settle_tree(tmp_path / "tree")
    assert not (tmp_path / "a").exists()
