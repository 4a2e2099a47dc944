"""What is in a ZIP, read from its directory; what is refused stands in `tests/downloads/test_contents.py`."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from array import array
from dataclasses import replace
from typing import Any

import pytest

from open_workshop_storage.utils.archives import contents as archive_contents
from open_workshop_storage.utils.archives.contents import ZipContents, read_contents
from open_workshop_storage.utils.archives.faults import UnpackedTooLarge
from tests.archives.zips import FAT, Entry, unicode_path, zip_from
from tests.support.archives import zip_of

ENOUGH = 64 * 1024**2


def contents_of(archive: bytes, most_bytes: int = ENOUGH) -> ZipContents:
    return read_contents(io.BytesIO(archive), most_bytes, lambda: None)


def listed(contents: ZipContents) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(b"[" + contents.listing + b"]")
    return found


def many(count: int, name: bytes = b"mod/textures/set/tile_%06d.dds") -> bytes:
    """Return a ZIP of so many empty files."""
    local, central = struct.Struct("<4sHHHHHIIIHH"), struct.Struct("<4sBBHHHHHIIIHHHHHII")
    body, directory = io.BytesIO(), io.BytesIO()
    for number in range(count):
        text, date = name % number, number % 0xFFFF
        directory.write(
            central.pack(
                b"PK\1\2", 20, 3, 20, 0, 0, date, 0x21, 0, 0, 0, len(text), 0, 0, 0, 0, 0o100644 << 16, body.tell()
            )
        )
        directory.write(text)
        body.write(local.pack(b"PK\3\4", 20, 0, 0, date, 0x21, 0, 0, 0, len(text), 0) + text)
    sizes = count & 0xFFFF, count & 0xFFFF, directory.tell(), body.tell()
    return body.getvalue() + directory.getvalue() + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, *sizes, 0)


def test_each_of_100000_files_is_listed_and_found() -> None:
    contents = contents_of(many(100_000))
    files = listed(contents)
    assert len(files) == 100_000
    for number in (0, 1, 777, 65_535, 65_536, 99_999):
        name = f"mod/textures/set/tile_{number:06}.dds"
        header = contents.find(name)
        assert files[number]["name"] == name and header is not None and header.name == name.encode()
    assert contents.find("mod/textures/set/tile_100000.dds") is None


def test_the_memory_that_many_files_take_is_what_is_told_and_bounded_while_they_are_read() -> None:
    file = io.BytesIO(many(10_000))
    tracemalloc.start()
    try:
        contents = read_contents(file, ENOUGH, lambda: None)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert contents.memory_bytes == pytest.approx(kept, rel=0.1)
    assert most < 4 * contents.memory_bytes


def test_files_are_found_also_where_all_names_have_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_contents, "_HASH", 0)
    contents = contents_of(zip_of({"a": b"1", "b": b"22", "c": b"333"}))
    sizes = [header.unpacked_bytes for name in "abc" if (header := contents.find(name))]
    assert sizes == [1, 2, 3] and contents.find("d") is None


def test_more_than_the_limit_is_refused() -> None:
    archive = many(1000)
    needed = contents_of(archive).memory_bytes
    assert len(listed(contents_of(archive, needed + 1000))) == 1000
    with pytest.raises(UnpackedTooLarge):
        contents_of(archive, needed - 100)


def test_names_that_grow_in_json_count_as_they_are_kept() -> None:
    with pytest.raises(UnpackedTooLarge):
        contents_of(many(2000, b"\1" * 240 + b"%06d"), 2_000_000)


def test_a_caller_can_pause_and_end_the_work() -> None:
    class Enough(Exception):
        pass

    pauses = array("b")

    def pause() -> None:
        pauses.append(1)
        if len(pauses) == 3:
            raise Enough

    with pytest.raises(Enough):
        read_contents(io.BytesIO(many(10_000)), ENOUGH, pause)


@pytest.mark.parametrize(
    "folder",
    [
        Entry(b"by name/", method=0),
        Entry(b"by mode", mode=0o040755, method=0),
        Entry(b"by attribute", system=FAT, dos_attributes=0x10, method=0),
    ],
    ids=lambda entry: entry.name.decode(),
)
def test_folders_are_known_by_name_or_by_attribute_if_nothing_is_in_them(folder: Entry) -> None:
    files = [Entry(b"holds something", b"x", mode=folder.mode), Entry(b"file", method=0)]
    assert [file["name"] for file in listed(contents_of(zip_from([folder, *files])))] == ["holds something", "file"]


def test_headers_of_the_usual_kind_and_others_are_told_alike() -> None:
    unusual = [
        Entry(b"with an extra field", extra=b"\x99\x99\x01\x00x"),
        Entry(b"in the large format", b"12", size=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 2)),
        Entry("Grüße".encode("cp437")),
        # No header follows that would be missed.
        Entry(b"the last with an extra field", extra=b"\x99\x99\x01\x00x"),
    ]
    entries = [Entry(b"usual/%d" % number, b"x" * number) for number in range(700)]
    for place, entry in zip((0, 300, 650, 703), unusual, strict=True):
        entries.insert(place, entry)
    archive = zip_from(entries)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        told = [(info.filename, info.file_size, info.compress_size, f"{info.CRC:08x}") for info in opened.infolist()]
    contents = contents_of(archive)
    assert [(*file.values(),)[:4] for file in listed(contents)] == told
    sizes = [(name, header.unpacked_bytes) for name, *_ in told if (header := contents.find(name))]
    assert sizes == [(name, size) for name, size, *_ in told]


def test_a_name_in_the_extra_field_counts_also_where_all_others_are_utf8() -> None:
    entries = [Entry(b"one", extra=unicode_path(b"one", "один")), Entry(b"two")]
    assert [file["name"] for file in listed(contents_of(zip_from(entries)))] == ["один", "two"]


def test_entries_may_lie_in_another_order_than_the_directorys() -> None:
    first, second = Entry(b"first", b"1" * 100, method=0), Entry(b"second", b"2", method=0)
    size = 30 + len(first.name) + 100
    turned = zip_from([replace(second, offset=size, written=False), first, replace(second, size=None)])
    body = zip_from([first, second]).partition(b"PK\1\2")[0]
    directory = turned[turned.index(b"PK\1\2") : turned.rindex(b"PK\1\2")]
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 2, 2, len(directory), len(body), 0)
    contents = contents_of(body + directory + end)
    assert [file["name"] for file in listed(contents)] == ["second", "first"]
    for name, at in (("first", 0), ("second", size)):
        header = contents.find(name)
        assert header is not None
        local = (body + directory)[at : at + 30 + len(name)]
        assert contents.data_of(header, local).start == at + 30 + len(name)
