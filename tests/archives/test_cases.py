"""Archives as real people send them."""

from __future__ import annotations

import gzip
import struct
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import CorruptArchive, EncryptedArchive, UnsafeArchive
from tests.archives.rars import file4, file5, in_unicode4, rar4, rar5
from tests.archives.refused import TEXT
from tests.archives.sevens import (
    ARCHIVE,
    FOLDER,
    HIDDEN,
    READ_ONLY,
    REPARSE,
    SPARSE,
    seven_zip_from,
    windows_link,
    with_mode,
)
from tests.archives.tars import member, tar_from
from tests.archives.workbench import Workbench
from tests.archives.zips import FAT, UTF8, Entry, local_header, streamed, zip_from
from tests.support.archives import COMPRESS, seven_zip_of, tar_of, zip_of

pytestmark = pytest.mark.anyio

MORE = TEXT.upper()
BOTH = {"mod/a.txt": TEXT, "mod/b.txt": MORE}
FOLDER_MODE = 0o040755
NAMES = {
    "cp932": ["ソフト/表示.txt", "ソフト/予定の一覧.txt", "能力/説明書をお読みください.txt"],
    "gb18030": ["模组/说明.txt", "模组/安装方法和注意事项.txt", "贴图/建筑材质.png"],
    "big5": ["模組/說明.txt", "模組/安裝方法.txt", "音樂/戰鬥背景音樂.ogg"],
    "cp949": ["모드/설명서.txt", "모드/설치 방법.txt", "음악/배경음악.ogg"],
    "cp866": ["Моды/Описание.txt", "Моды/Инструкция по установке.txt", "Звуки/Шаги в лесу.ogg"],
    "cp1251": ["Моды/Описание.txt", "Моды/Инструкция по установке.txt", "Звуки/Шаги в лесу.ogg"],
    "cp437": ["Größen/Übersicht.txt", "Größen/Überblick für Anfänger.txt", "Geräusche/Schläge und Stöße.ogg"],
    "cp1252": ["Größen/Übersicht.txt", "Größen/Überblick für Anfänger.txt", "Geräusche/Schläge und Stöße.ogg"],
}
LONG_NAME = "漢字" * 45 + ".txt"


def fat(name: bytes, content: bytes = b"", method: int = 8, attributes: int = ARCHIVE) -> Entry:
    """Return an entry of Windows or DOS."""
    return Entry(name, content, method, system=FAT, dos_attributes=attributes)


SKIPPED = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"size"

REPACKED = {
    "7z with read-only folders": (
        seven_zip_from(
            ("mod", None, with_mode(FOLDER | READ_ONLY, 0o040555)),
            ("mod/a.txt", TEXT, with_mode(ARCHIVE, 0o100644)),
        ),
        {"mod/a.txt": TEXT},
    ),
    "7z with a hidden folder": (
        seven_zip_from((".git", None, FOLDER | HIDDEN), (".git/config", TEXT, ARCHIVE)),
        {".git/config": TEXT},
    ),
    "7z with a mode without type": (seven_zip_from(("a", TEXT, with_mode(0, 0o644))), {"a": TEXT}),
    "7z with the attribute of links on an ordinary file": (
        seven_zip_from(("a", TEXT, ARCHIVE | SPARSE | REPARSE), ("b", MORE, ARCHIVE)),
        {"a": TEXT, "b": MORE},
    ),
    "7z with the attribute of links on a folder": (
        seven_zip_from(("m", None, FOLDER | REPARSE), ("m/a", TEXT, ARCHIVE)),
        {"m/a": TEXT},
    ),
    "zip with the attribute of links on a folder": (
        zip_from([fat(b"m/", method=0, attributes=FOLDER | REPARSE), fat(b"m/a", TEXT)]),
        {"m/a": TEXT},
    ),
    "7z with NULs behind": (seven_zip_of({"a": TEXT}) + bytes(5000), {"a": TEXT}),
    "rar with NULs behind": (rar5(file5(b"a", TEXT)) + bytes(5000), {"a": TEXT}),
    "rar with a mode without type": (rar5(file5(b"a", TEXT, mode=0o644)), {"a": TEXT}),
    "rar 4 with a mode without type": (rar4(file4(b"a", TEXT, mode=0o644)), {"a": TEXT}),
    "zip with the attribute of links on an ordinary file": (
        zip_from([fat(b"a", TEXT, attributes=ARCHIVE | REPARSE)]),
        {"a": TEXT},
    ),
    "zip with backslashes": (zip_from([fat(b"mod\\", method=0), fat(b"mod\\a.txt", TEXT, 0)]), {"mod/a.txt": TEXT}),
    "zip of Unix with backslashes": (
        zip_from([Entry(b"mod\\a.txt", TEXT), Entry(b"mod\\b.txt", MORE)]),
        BOTH,
    ),
    "zip with two separators": (zip_from([replace(fat(b"m\\a", TEXT), local_name=b"m/a")]), {"m/a": TEXT}),
    "zip with a last byte that looks like a backslash": (
        zip_from([fat("mod/性能".encode("cp932"), TEXT), fat(b"mod/a.txt", MORE)]),
        {"mod/性能": TEXT, "mod/a.txt": MORE},
    ),
    "zip of what came through a pipe": (zip_from([Entry(b"-", TEXT, mode=0o010600)]), {"-": TEXT}),
    "zip with zeros behind": (zip_from([Entry(b"a", TEXT)]) + bytes(100_000), {"a": TEXT}),
    "zip with an extra field past its end": (
        zip_from([Entry(b"a", TEXT, extra=b"\xff\xff\xff\x7f\1\2\3\4")]),
        {"a": TEXT},
    ),
    "zip with an extra field past its end in a local header": (
        zip_from([Entry(b"a", TEXT, local_extra=struct.pack("<HH", 0x000A, 32) + bytes(10))]),
        {"a": TEXT},
    ),
    "zip with a large format's field of no size": (
        zip_from([Entry(b"a", TEXT, extra=struct.pack("<HH", 1, 0))]),
        {"a": TEXT},
    ),
    "zip with a folder by its attribute only": (
        zip_from([fat(b"folder", method=0, attributes=FOLDER), Entry(b"folder/a", TEXT)]),
        {"folder/a": TEXT},
    ),
    "zip with the attribute of folders on a file": (
        zip_from([fat(b"a", TEXT, attributes=FOLDER), Entry(b"b", MORE)]),
        {"a": TEXT, "b": MORE},
    ),
    "zip with a folder that has packed data": (
        zip_from([Entry(b"f/", mode=FOLDER_MODE, packed_as=b"\3\0"), Entry(b"f/a", TEXT)]),
        {"f/a": TEXT},
    ),
    "zip with a stored entry whose size follows": (
        zip_from([streamed(Entry(b"a", b"PK\7\x08" + bytes(12), method=0)), Entry(b"b", TEXT)]),
        {"a": b"PK\7\x08" + bytes(12), "b": TEXT},
    ),
    "zip with a signature at the end of its comment": (
        zip_from([Entry(b"a", TEXT)])[:-2] + struct.pack("<H", 10) + b"commentPK\5",
        {"a": TEXT},
    ),
    "zip with a nameless header before its first entry": (
        zip_from([Entry(b"a", TEXT, before=local_header(Entry(b"", method=0, extra=bytes(102)))), Entry(b"b", MORE)]),
        {"a": TEXT, "b": MORE},
    ),
    "zip whose first entry is no longer in its directory": (
        zip_from([Entry(b"a", TEXT, before=local_header(Entry(b"gone", TEXT)) + Entry(b"gone", TEXT).packed())]),
        {"a": TEXT},
    ),
    "tar of a backup": (tar_from([member("m", b"Ya\0\0", kind=b"D"), member("m/a", TEXT)]), {"m/a": TEXT}),
    "tar with backslashes": (tar_of({"mod\\a.txt": TEXT}), {"mod/a.txt": TEXT}),
    "7z with backslashes": (
        seven_zip_from(("mod\\", None, FOLDER), ("mod\\a.txt", TEXT, ARCHIVE), ("mod\\b.txt", MORE, ARCHIVE)),
        BOTH,
    ),
    "rar with backslashes": (rar5(file5(b"mod\\a.txt", TEXT), file5(b"mod/b.txt", MORE)), BOTH),
    "tar with a folder twice": (
        tar_from([member("m", kind=tarfile.DIRTYPE), member("m/a", TEXT), member("m", kind=tarfile.DIRTYPE)]),
        {"m/a": TEXT},
    ),
    **{
        f"tar.{form} with NULs behind": (COMPRESS[form](tar_of(BOTH)) + bytes(512), BOTH)
        for form in ("gz", "bz2", "xz", "zst")
    },
    **{
        f"tar.{form} with padding that is no NULs": (COMPRESS[form](tar_of(BOTH)) + b"padding" * 99, BOTH)
        for form in ("gz", "bz2", "xz", "zst")
    },
    "tar.zst with frames to skip": (SKIPPED + COMPRESS["zst"](tar_of(BOTH)) + SKIPPED, BOTH),
    "one tar in two gzip members with NULs between": (
        gzip.compress(tar_of(BOTH)[:700]) + bytes(99) + gzip.compress(tar_of(BOTH)[700:]),
        BOTH,
    ),
    **{
        f"zip with names in {page}": (
            zip_from([fat(name.encode(page), TEXT, 0) for name in names]),
            dict.fromkeys(names, TEXT),
        )
        for page, names in NAMES.items()
    },
    **{
        f"rar 4 with names in {page}": (
            rar4(*(file4(name.replace("/", "\\").encode(page), TEXT) for name in names)),
            dict.fromkeys(names, TEXT),
        )
        for page, names in NAMES.items()
    },
    "rar 4 with folders and names in cp932, one of them in Unicode too": (
        rar4(
            file4("性能".encode("cp932"), mode=FOLDER_MODE, flags=0x00E0),
            file4("性能\\性能".encode("cp932"), TEXT),
            file4("性能\\説明.txt".encode("cp932"), MORE, flags=0x1000, behind_name=bytes(2)),
            file4("表.txt".encode("cp932") + b"\0" + in_unicode4("表.txt"), TEXT, flags=0x0200),
            file4("ソ.txt".encode("cp932"), MORE, flags=0x0100),
            file4(b"plain.txt", TEXT),
        ),
        {"性能/性能": TEXT, "性能/説明.txt": MORE, "表.txt": TEXT, "ソ.txt": MORE, "plain.txt": TEXT},
    ),
    "zip with names that are not the UTF-8 that they say they are": (
        zip_from([replace(fat(name.encode("cp437"), TEXT), flags=UTF8) for name in NAMES["cp437"]]),
        dict.fromkeys(NAMES["cp437"], TEXT),
    ),
    **{
        f"tar{'.gz' if pack is gzip.compress else ''} with names in cp932": (
            pack(tar_from([member(name.encode("cp932").decode("utf-8", "surrogateescape"), TEXT) for name in names])),
            dict.fromkeys(names, TEXT),
        )
        for pack in (bytes, gzip.compress)
        for names in [["first.txt", *NAMES["cp932"]]]
    },
}


@pytest.mark.parametrize(("sent", "content"), [pytest.param(*case, id=name) for name, case in REPACKED.items()])
async def test_it_is_repacked(sent: bytes, content: dict[str, bytes], workbench: Workbench) -> None:
    assert await workbench.repack(sent) == sum(map(len, content.values()))
    packed = workbench.packed_content()
    assert {name: data for name, data in packed.items() if data is not None} == content


ONE, OTHER = tar_of({"a": TEXT}), tar_of({"b": TEXT})
BEHIND = {
    "tar behind tar": ONE + OTHER,
    "tar behind tar and padding": ONE + bytes(20_480) + OTHER,
    "zip behind tar": ONE + zip_of({"b": TEXT}),
    "tar.gz behind tar.gz": gzip.compress(ONE) + gzip.compress(OTHER),
    "tar.zst behind tar.gz": gzip.compress(ONE) + COMPRESS["zst"](OTHER),
    "7z behind 7z": seven_zip_of({"a": TEXT}) + seven_zip_of({"b": TEXT}),
    "7z behind 7z and NULs": seven_zip_of({"a": TEXT}) + bytes(99) + seven_zip_of({"b": TEXT}),
    "rar behind rar": rar5(file5(b"a", TEXT)) + rar5(file5(b"b", TEXT)),
    "rar 4 behind rar 4": rar4(file4(b"a", TEXT)) + rar4(file4(b"b", TEXT)),
    "tar behind zip": zip_of({"a": TEXT}) + OTHER,
    "zip behind zip": zip_of({"a": TEXT}) + zip_of({"b": TEXT}),
    "zip behind zip, with places in the whole file": zip_from([Entry(b"b", TEXT, before=zip_of({"a": TEXT}))]),
}


@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in BEHIND.items()])
async def test_an_archive_behind_another_is_never_lost(sent: bytes, workbench: Workbench) -> None:
    with pytest.raises(CorruptArchive):
        await workbench.accept(sent)


WHOLE_ZIP = b"PK\7\x08" + zip_from([Entry(b"noise", bytes(range(256)) * 40, method=0)])
PIECES = {
    "mod.z02": WHOLE_ZIP[4000:8000],
    "mod.zip.002": WHOLE_ZIP[4000:8000],
    "mod.7z.002": seven_zip_of({"noise": bytes(9000)}, "-mx=0")[4000:8000],
    "mod.r01": rar5(file5(b"noise", bytes(9000)))[4000:8000],
    "mod.zip": WHOLE_ZIP[8000:-22] + WHOLE_ZIP[-22:-18] + struct.pack("<HH", 2, 2) + WHOLE_ZIP[-14:],
}


@pytest.mark.parametrize("name", PIECES)
async def test_a_piece_of_a_split_archive_is_corrupt(name: str, workbench: Workbench) -> None:
    workbench.source.write_bytes(PIECES[name])
    with pytest.raises(CorruptArchive):
        await workbench.archives.inspector.inspect(workbench.source, name, 0)


@pytest.mark.parametrize("name", ["notes.7z.txt", "mod.001", "z01", "photo.r2"])
async def test_an_ordinary_file_with_a_similar_name_is_no_piece(name: str, workbench: Workbench) -> None:
    await workbench.repack(b"text", name=name)
    assert workbench.packed_content() == {name: b"text"}


async def test_an_encrypted_directory_is_known_by_its_first_local_header(workbench: Workbench) -> None:
    sent = zip_from([Entry(b"0", TEXT, flags=0x2041)])
    at = sent.index(b"PK\1\2")
    with pytest.raises(EncryptedArchive):
        await workbench.accept(sent[:at] + bytes(byte ^ 0x55 for byte in sent[at:-22]) + sent[-22:])


async def test_a_name_that_only_this_disk_cannot_hold_is_kept_and_not_extracted(workbench: Workbench) -> None:
    entry = Entry(LONG_NAME.encode(), TEXT, flags=UTF8)
    assert await workbench.is_kept(zip_from([entry]))
    for sent in (
        zip_from([replace(entry, method=0)]),
        tar_of({LONG_NAME: TEXT}),
        rar5(file5(LONG_NAME.encode(), TEXT)),
    ):
        with pytest.raises(UnsafeArchive, match="A file name in the archive is too long"):
            await workbench.accept(sent)


@pytest.mark.parametrize("target", ["a", "..\\..\\evil", "\\??\\C:\\Windows", "/etc/passwd"])
async def test_a_link_of_windows_in_a_7z_is_refused(target: str, workbench: Workbench) -> None:
    with pytest.raises(UnsafeArchive):
        await workbench.accept(seven_zip_from(("a", TEXT, ARCHIVE), ("link", windows_link(target), ARCHIVE | REPARSE)))


async def test_a_blank_texture_is_no_bomb(workbench: Workbench) -> None:
    sent = seven_zip_from(("blank.dds", bytes(30_000_000), ARCHIVE))
    assert len(sent) < 6_000
    workbench.source.write_bytes(sent)
    assert (await workbench.archives.inspector.inspect(workbench.source, "a", 0)).unpacked_bytes == 30_000_000


@pytest.mark.skipif(
    b"Rar5" not in subprocess.run(["7z", "i"], capture_output=True).stdout.partition(b"Codecs:")[2],
    reason="this 7z has no codec for RAR",
)
async def test_a_compressed_rar_is_repacked_where_7z_can(workbench: Workbench) -> None:
    await workbench.repack(Path(__file__).with_name("cases").joinpath("rar5-compressed.rar").read_bytes())
    packed = workbench.packed_content()
    assert {name for name, content in packed.items() if content is not None} == {"mod/a.txt", "mod/b.txt"}
