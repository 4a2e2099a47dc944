"""What a worker remembers of archives' unpacked sizes."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.downloads.unpacked_sizes import UnpackedSizes
from open_workshop_storage.services.storage.files import Facts, StoredFile
from open_workshop_storage.services.storage.local import LocalFiles
from tests.support.archives import seven_zip_of, zip_of

pytestmark = pytest.mark.anyio


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
