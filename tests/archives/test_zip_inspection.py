"""ZIPs that stay as they are, those that do not, and small ones whose data are tested where their headers are read."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from open_workshop_storage.core.errors import RepackFailed
from open_workshop_storage.utils.archives.zip_headers import CentralHeader
from open_workshop_storage.utils.archives.zip_inspection import MOST_TESTED_BYTES, is_intact
from tests.archives import fake_seven_zip
from tests.archives.workbench import Workbench
from tests.archives.zips import FAT, UTF8, Entry, streamed, unicode_path, zip_from
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of

pytestmark = pytest.mark.anyio

TEXT = b"some text that can be compressed " * 50
NOISE = random.Random(6).randbytes(10_000)
# What libarchive takes attributes from: 0x6c78, with the system and the mode of a symbolic link.
LINK_ATTRIBUTES = struct.pack("<HHBHI", 0x6C78, 7, 0b101, 3 << 8, 0o120777 << 16)
STREAMED = streamed(Entry(b"a", TEXT))
PACKED = Entry(b"a", TEXT).packed()
BEFORE = b"before"
SOUND = CentralHeader(20, 0, 8, 0, zlib.crc32(TEXT), len(PACKED), len(TEXT), 0, 0, b"a", None, True, 47)
EMPTY = SOUND._replace(crc=0, unpacked_bytes=0)
Changed = tuple[CentralHeader, bytes]


@pytest.mark.parametrize("method", ["Deflate", "Deflate64", "BZip2", "LZMA", "PPMd"])
async def test_a_zip_of_a_usual_method_is_kept_after_its_test(method: str, workbench: Workbench) -> None:
    assert await workbench.is_kept(seven_zip_of(SMALL_MOD, "-tzip", f"-mm={method}"))


async def test_a_zip_with_zstandard_is_kept(workbench: Workbench) -> None:
    frame = bytes.fromhex("28b52ffd2064") + b"\x23\x03\x00" + b"a"  # one block: "a", 100 times
    entry = Entry(b"zeros.txt", b"a" * 100, method=93, packed_as=frame)
    assert await workbench.is_kept(zip_from([entry]))


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="none"),
        pytest.param([Entry(b"a/", method=0, mode=0o040755), Entry(b"b/", method=0, mode=0o040755)], id="folders"),
        pytest.param([Entry(b"empty", method=0)], id="an empty file"),
        pytest.param([Entry(b"empty", b"")], id="an empty file that takes two bytes deflated"),
        pytest.param([Entry(b"noise", NOISE, method=0), Entry(b"text", TEXT)], id="one of two stored"),
        pytest.param([streamed(Entry(b"a", TEXT)), streamed(Entry(b"b", TEXT))], id="sizes after the data"),
        pytest.param([replace(STREAMED, after=STREAMED.after[4:])], id="sizes without mark"),
        pytest.param([Entry("ü".encode("cp437"), TEXT)], id="a name in code page 437"),
        pytest.param([Entry("€".encode(), TEXT, flags=UTF8)], id="a name in UTF-8"),
        pytest.param([Entry(b"a", TEXT, needed=46)], id="an entry for readers that know BZip2"),
        pytest.param([Entry(b"a", TEXT), Entry(b"A", TEXT)], id="names that differ in case"),
    ],
)
async def test_a_sound_zip_that_saves_enough_is_kept(entries: list[Entry], workbench: Workbench) -> None:
    assert await workbench.is_kept(zip_from(entries))


async def test_a_large_zip_format_is_kept(workbench: Workbench) -> None:
    with zipfile.ZipFile(workbench.source, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("large.txt", "w", force_zip64=True) as entry:
            entry.write(TEXT)
    assert await workbench.is_kept(workbench.source.read_bytes())


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        pytest.param(zip_of(SMALL_MOD, zipfile.ZIP_STORED), SMALL_MOD, id="stored"),
        pytest.param(zip_of({"noise": NOISE}), {"noise": NOISE}, id="hardly smaller"),
        pytest.param(
            zip_from([Entry(b"a", TEXT), Entry(b"b", TEXT, before=b"padding" * 10)]),
            {"a": TEXT, "b": TEXT},
            id="with a gap",
        ),
        pytest.param(zip_from([Entry(b"a", TEXT, before=b"PK00")]), {"a": TEXT}, id="with the mark of a single piece"),
        pytest.param(
            zip_from([Entry(b"a", TEXT), replace(Entry(b"b", TEXT), before=zip_from([Entry(b"c")]))]),
            {"a": TEXT, "b": TEXT},
            id="with an entry that its directory does not name",
        ),
        pytest.param(
            zip_from([Entry(b"a", TEXT), Entry(b"b", TEXT, before=b"padding" * 10 + zip_from([]))]),
            {"a": TEXT, "b": TEXT},
            id="with an end record before its last entry",
        ),
        pytest.param(
            zip_from([Entry(b"a", TEXT, extra=unicode_path(b"a", "b")), Entry(b"a", NOISE)]),
            {"a": NOISE, "b": TEXT},
            id="with two entries of one name where no Unicode path is known",
        ),
        pytest.param(zip_from([Entry(b"a", TEXT)]) + b"something after it", {"a": TEXT}, id="with a tail"),
        pytest.param(zip_from([replace(STREAMED, after=b"")]), {"a": TEXT}, id="with no sizes after the data"),
        pytest.param(
            zip_from([streamed(Entry(b"a", TEXT), large=True)]), {"a": TEXT}, id="with large sizes that are not needed"
        ),
        pytest.param(
            zip_from([Entry(b"e", TEXT, extra=unicode_path(b"e", "€"))]),
            {"€": TEXT},
            id="with a name as a Unicode path",
        ),
        pytest.param(zip_from([Entry("€".encode(), TEXT)]), {"€": TEXT}, id="with UTF-8 that does not say so"),
        pytest.param(zip_from([Entry(b"a", TEXT, needed=47)]), {"a": TEXT}, id="with an entry for newer readers"),
        pytest.param(zip_from([Entry(b"a", TEXT, flags=0x20)]), {"a": TEXT}, id="with patched data"),
        pytest.param(
            zip_from([Entry(b"a", TEXT, system=FAT, dos_attributes=8)]), {"a": TEXT}, id="with the name of a volume"
        ),
        pytest.param(
            zip_from([Entry(b"a", TEXT, local_extra=LINK_ATTRIBUTES)]), {"a": TEXT}, id="with a link to some readers"
        ),
    ],
)
async def test_another_zip_is_packed_again(sent: bytes, content: dict[str, bytes], workbench: Workbench) -> None:
    assert not await workbench.is_kept(sent)
    assert await workbench.repack(sent) == sum(map(len, content.values()))
    packed = workbench.packed_content()
    assert {name: data for name, data in packed.items() if data is not None} == content


async def test_one_percent_decides(workbench: Workbench) -> None:
    def zip_saving(part: int) -> bytes:
        """Return a ZIP of one stored and one Deflate entry that saves one part in so many, to the byte."""
        text = Entry(b"text", bytes(1000))
        saved = 1000 - len(text.packed())
        return zip_from([text, Entry(b"stored", bytes(saved * part - 1000), method=0)])

    assert await workbench.is_kept(zip_saving(100))
    assert not await workbench.is_kept(zip_saving(101))


@pytest.mark.parametrize(
    ("changed", "intact"),
    [
        pytest.param((SOUND, PACKED), True, id="deflated"),
        pytest.param((SOUND, PACKED + b"the next entry"), True, id="followed by others"),
        pytest.param((SOUND._replace(method=0, packed_bytes=len(TEXT)), TEXT), True, id="stored"),
        pytest.param((EMPTY._replace(packed_bytes=2), b"\3\0"), True, id="empty, deflated"),
        pytest.param((EMPTY._replace(method=0, packed_bytes=0), b""), True, id="empty, stored"),
        pytest.param((SOUND, b"\7" + PACKED[1:]), False, id="data that cannot be inflated"),
        pytest.param((SOUND, PACKED[:-1]), False, id="a file that is cut off"),
        pytest.param((SOUND._replace(packed_bytes=len(PACKED) - 1), PACKED), False, id="less packed than there is"),
        pytest.param((SOUND._replace(packed_bytes=len(PACKED) + 1), PACKED + b"x"), False, id="bytes behind the end"),
        pytest.param((SOUND._replace(unpacked_bytes=len(TEXT) - 1), PACKED), False, id="more than the header says"),
        pytest.param((SOUND._replace(unpacked_bytes=len(TEXT) + 1), PACKED), False, id="less than the header says"),
        pytest.param((SOUND._replace(crc=1), PACKED), False, id="another checksum"),
        pytest.param((EMPTY._replace(packed_bytes=len(PACKED)), PACKED), False, id="empty by its header alone"),
        pytest.param((SOUND._replace(method=9), PACKED), False, id="another method"),
    ],
)
def test_only_data_that_are_all_that_the_header_says_are_intact(changed: Changed, intact: bool) -> None:
    header, data = changed
    assert is_intact(io.BytesIO(BEFORE + data), header, len(BEFORE)) is intact


def zip_over_the_limit() -> bytes:
    return zip_of({"half": bytes(MOST_TESTED_BYTES // 2), "and more": bytes(MOST_TESTED_BYTES // 2 + 1)})


def zip_with_wrong_data() -> bytes:
    return zip_from([Entry(b"a", TEXT), Entry(b"b", TEXT, packed_as=b"\7" + PACKED[1:])])


async def test_a_small_sound_zip_is_kept_without_7z(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_seven_zip.install(workbench.folder, "exit 1", monkeypatch)
    assert await workbench.is_kept(zip_of({"a": TEXT, "empty": b""}))


@pytest.mark.parametrize("sent", [zip_over_the_limit, zip_with_wrong_data])
async def test_7z_judges_a_larger_zip_and_one_that_is_not_sound(
    sent: Callable[[], bytes], workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_seven_zip.install(workbench.folder, "exit 1", monkeypatch)
    with pytest.raises(RepackFailed):
        await workbench.is_kept(sent())
