"""ZIPs that stay as they are, and those that do not."""

from __future__ import annotations

import random
import struct
import zipfile
from dataclasses import replace

import pytest

from tests.archives.workbench import Workbench
from tests.archives.zips import FAT, UTF8, Entry, streamed, unicode_path, zip_from
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of

pytestmark = pytest.mark.anyio

TEXT = b"some text that can be compressed " * 50
NOISE = random.Random(6).randbytes(10_000)
# What libarchive takes attributes from: 0x6c78, with the system and the mode of a symbolic link.
LINK_ATTRIBUTES = struct.pack("<HHBHI", 0x6C78, 7, 0b101, 3 << 8, 0o120777 << 16)
STREAMED = streamed(Entry(b"a", TEXT))


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
