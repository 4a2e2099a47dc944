"""What a worker remembers of unpacked sizes and of the contents of ZIPs, and what it reads for that."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import ServiceUnavailable, UnsupportedFormat
from open_workshop_storage.services.downloads import stored_archives
from open_workshop_storage.services.downloads.stored_archives import UnpackedSizes, ZipDirectories
from open_workshop_storage.services.storage.files import Facts, OpenedFile, StorageType, StoredFile
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.utils.archives.contents import ZipContents
from tests.archives.zips import Entry, zip_from
from tests.support.archives import seven_zip_of, zip_of

pytestmark = pytest.mark.anyio


class Reading:
    """An opened file that counts the bytes that are read of it, and may let readers wait.

    Attributes:
        count: How many.
        may_go_on: Whether a read may end.
    """

    def __init__(self, opened: OpenedFile) -> None:
        self.file: StoredFile = opened.file
        self.count = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self._opened = opened

    async def read(self, offset: int, length: int) -> bytes | bytearray:
        """Count, and read."""
        await self.may_go_on.wait()
        block = await self._opened.read(offset, length)
        self.count += len(block)
        return block


class Store:
    """Files of a test."""

    def __init__(self, root: Path) -> None:
        self.files = LocalFiles(root)
        self._folder = root / "archive"
        self._folder.mkdir()

    @asynccontextmanager
    async def opened(self, content: bytes, name: str = "x.zip", size: int = 0) -> AsyncIterator[Reading]:
        """Store a file, filled up with NULs to a size, and open it."""
        replacing = self._folder / "new"
        replacing.write_bytes(content)
        if size:
            os.truncate(replacing, size)
        replacing.rename(self._folder / name)
        async with self.files.open(await self.files.find("archive", name)) as opened:
            yield Reading(opened)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def names(contents: ZipContents) -> list[str]:
    return [line.split('"')[3] for line in contents.listing.decode().split("},")]


async def test_each_version_is_read_once_however_many_ask(store: Store) -> None:
    directories = ZipDirectories()
    async with store.opened(zip_of({"a": b"x"})) as first:
        first.may_go_on.clear()
        asking = [asyncio.create_task(directories.of(first)) for _ in range(20)]
        await asyncio.sleep(0.05)
        first.may_go_on.set()
        found = await asyncio.gather(*asking)
        once = first.count
        assert {*map(id, found)} == {id(found[0])} and names(found[0]) == ["a"]
        assert await directories.of(first) is found[0] and first.count == once
    async with store.opened(zip_of({"b": b"x"})) as second:
        assert names(await directories.of(second)) == ["b"]


async def test_what_is_no_zip_is_looked_at_once(store: Store) -> None:
    directories = ZipDirectories()
    async with store.opened(b"no archive") as opened:
        for _ in range(2):
            with pytest.raises(UnsupportedFormat):
                await directories.of(opened)
            assert opened.count <= 30


async def test_one_that_asked_and_left_does_not_spoil_it_for_the_others(store: Store) -> None:
    directories = ZipDirectories()
    async with store.opened(zip_of({"a": b"x"})) as opened:
        opened.may_go_on.clear()
        first, second = (asyncio.create_task(directories.of(opened)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        opened.may_go_on.set()
        assert names(await second) == ["a"] and first.cancelled()


async def test_of_a_large_zip_only_the_end_is_read(store: Store) -> None:
    content = zip_of({"noise": os.urandom(5_000_000)}, zipfile.ZIP_STORED)
    async with store.opened(content) as opened:
        await ZipDirectories().of(opened)
        assert opened.count < 1_500_000


async def test_of_what_only_ends_in_nuls_a_bounded_part_is_read(store: Store) -> None:
    async with store.opened(zip_of({"a": b"x"}), size=10 * 1024**3) as opened:
        with pytest.raises(UnsupportedFormat):
            await ZipDirectories().of(opened)
        assert opened.count < 1.1 * stored_archives.MOST_CONTENTS_BYTES


async def test_a_directory_that_would_take_more_than_the_memory_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_archives, "MOST_CONTENTS_BYTES", 100_000)
    directories = ZipDirectories()
    async with store.opened(zip_of({f"{number}": b"" for number in range(500)})) as opened:
        assert len(names(await directories.of(opened))) == 500
    async with store.opened(zip_of({f"{number}": b"" for number in range(800)})) as opened:
        with pytest.raises(UnsupportedFormat):
            await directories.of(opened)
    # What is not listed counts, too.
    long_name = zip_from([Entry(b"a" * 250, extra=b"\x99\x99\x60\xea" + bytes(60_000), local_extra=b"")] * 2)
    async with store.opened(long_name) as opened:
        with pytest.raises(UnsupportedFormat):
            await directories.of(opened)


async def test_what_is_remembered_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_archives, "MOST_CONTENTS_BYTES", 200_000)
    directories = ZipDirectories()
    for number in range(6):
        content = zip_of({f"{number}-{entry}": b"" for entry in range(500)})
        async with store.opened(content, f"{number}.zip") as opened:
            await directories.of(opened)
    known = directories._known
    assert 1 <= len(known) <= 3 and known.currsize <= 200_000


async def test_what_slow_clients_still_hold_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_archives, "_MOST_USED_BYTES", 200_000)
    directories = ZipDirectories()
    held = []
    with pytest.raises(ServiceUnavailable):
        for number in range(20):
            content = zip_of({f"{number}-{entry}": b"" for entry in range(500)})
            async with store.opened(content, f"{number}.zip") as opened:
                held.append(await directories.of(opened))
    assert 2 <= len(held) <= 4


class CountingFiles(LocalFiles):
    """Counts how often a file is read.

    Attributes:
        reads: How often.
    """

    reads = 0

    @asynccontextmanager
    async def local_copy(self, file: StoredFile, *, ends_only: bool = False) -> AsyncIterator[Path]:
        """Count, and give the path."""
        self.reads += 1
        async with super().local_copy(file, ends_only=ends_only) as path:
            yield path


@pytest.fixture
def files(tmp_path: Path) -> CountingFiles:
    return CountingFiles(tmp_path)


@pytest.fixture
async def sizes(files: CountingFiles) -> AsyncIterator[UnpackedSizes]:
    async with aclosing(UnpackedSizes(files)) as sizes:
        yield sizes


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive" / "x.zip"


async def test_the_size_of_each_version_is_read_once(stored: Path, files: CountingFiles, sizes: UnpackedSizes) -> None:
    stored.write_bytes(zip_of({"a": b"x" * 10}))
    first = await files.find("archive", "x.zip")
    assert await asyncio.gather(*(sizes.get(first) for _ in range(20))) == [10] * 20
    assert await sizes.get(first) == 10 and files.reads == 1
    stored.write_bytes(zip_of({"a": b"x" * 10, "b": b"y" * 5}))
    assert await sizes.get(await files.find("archive", "x.zip")) == 15


async def test_what_is_kept_with_a_file_is_believed_and_the_file_not_read(
    tmp_path: Path, files: CountingFiles, sizes: UnpackedSizes
) -> None:
    (tmp_path / "source").write_bytes(b"no archive")
    await files.put(tmp_path / "source", "archive/x.zip", Facts(77))
    assert await sizes.get(await files.find("archive", "x.zip")) == 77
    assert files.reads == 0


async def test_an_archive_of_7z_has_a_size_unless_it_is_encrypted(
    stored: Path, files: CountingFiles, sizes: UnpackedSizes
) -> None:
    entries = {"a": b"x" * 10, "folder/b": b"y" * 5, "empty": b""}
    for switches, size in (([], 15), (["-psecret"], None), (["-psecret", "-mhe=on"], None)):
        stored.write_bytes(seven_zip_of(entries, *switches))
        assert await sizes.get(await files.find("archive", "x.zip")) == size


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", zip_of({"a": b"x"})[:-10], b"7z\xbc\xaf\x27\x1c" + bytes(60), seven_zip_of({"a": b"x"})[:-1]],
    ids=["empty", "no archive", "ZIP cut off", "7z of zeros", "7z cut off"],
)
async def test_what_cannot_be_read_has_no_size(
    content: bytes, stored: Path, files: CountingFiles, sizes: UnpackedSizes
) -> None:
    stored.write_bytes(content)
    assert await sizes.get(await files.find("archive", "x.zip")) is None


async def test_a_file_that_went_away_has_no_size(stored: Path, files: CountingFiles, sizes: UnpackedSizes) -> None:
    stored.write_bytes(zip_of({"a": b"x"}))
    found = await files.find("archive", "x.zip")
    stored.unlink()
    assert await sizes.get(found) is None


@pytest.mark.skipif((3, 12) <= sys.version_info < (3, 12, 7), reason="it keeps each part of a Path for ever")
async def test_long_names_take_no_more_memory_than_short_ones(files: CountingFiles, sizes: UnpackedSizes) -> None:
    tracemalloc.start()
    for number in range(200):
        name = f"archive/{number:\U0001f600>4000}"
        long = StoredFile(name, StorageType.ARCHIVE, 1, 1, (number,), None)
        assert await sizes.get(long) is None
    gc.collect()
    remembered, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The names alone have 3,200,000 bytes.
    assert remembered < 2_000_000


@pytest.mark.parametrize("returned", [10**4000, -1, "1", None], ids=["huge", "negative", "text", "nothing"])
async def test_what_no_size_can_be_is_not_believed(
    returned: object, stored: Path, files: CountingFiles, sizes: UnpackedSizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(*arguments: object, **options: object) -> object:
        return returned

    stored.write_bytes(zip_of({"a": b"x"}))
    monkeypatch.setattr(sizes._children, "call", call)
    assert await sizes.get(await files.find("archive", "x.zip")) is None
