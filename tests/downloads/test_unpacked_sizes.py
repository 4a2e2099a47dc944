"""What a worker remembers of archives' unpacked sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from open_workshop_storage.services.downloads.unpacked_sizes import UnpackedSizes
from open_workshop_storage.services.storage.files import Facts, StoredFile
from open_workshop_storage.services.storage.local import LocalFiles
from tests.support.archives import zip_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive" / "x.zip"


async def test_the_size_of_each_version_is_read_once(stored: Path, tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    sizes = UnpackedSizes(files)
    stored.write_bytes(zip_of({"a": b"x" * 10}))
    first = await files.find("archive", "x.zip")
    assert await sizes.get(first) == 10
    stored.unlink()
    assert await sizes.get(first) == 10
    stored.write_bytes(zip_of({"a": b"x" * 10, "b": b"y" * 5}))
    assert await sizes.get(await files.find("archive", "x.zip")) == 15


async def test_what_is_kept_with_a_file_is_believed_and_the_file_not_read(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    (tmp_path / "source").write_bytes(b"no archive")
    await files.put(tmp_path / "source", "archive/x.zip", Facts(77))
    assert await UnpackedSizes(files).get(await files.find("archive", "x.zip")) == 77


class CountingFiles(LocalFiles):
    """Counts how often a file is read."""

    reads = 0

    @asynccontextmanager
    async def local_copy(self, file: StoredFile) -> AsyncIterator[Path]:
        """Count, and give the path."""
        self.reads += 1
        async with super().local_copy(file) as path:
            yield path


async def test_requests_at_the_same_time_read_a_directory_once(stored: Path, tmp_path: Path) -> None:
    stored.write_bytes(zip_of({"a": b"x" * 10}))
    files = CountingFiles(tmp_path)
    sizes, found = UnpackedSizes(files), await files.find("archive", "x.zip")
    assert await asyncio.gather(*(sizes.get(found) for _ in range(20))) == [10] * 20
    assert files.reads == 1


@pytest.mark.parametrize("content", [b"", b"no archive", zip_of({"a": b"x"})[:-10]])
async def test_what_cannot_be_read_has_no_size(content: bytes, stored: Path, tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    stored.write_bytes(content)
    assert await UnpackedSizes(files).get(await files.find("archive", "x.zip")) is None


async def test_a_file_that_went_away_has_no_size(stored: Path, tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    stored.write_bytes(zip_of({"a": b"x"}))
    found = await files.find("archive", "x.zip")
    stored.unlink()
    assert await UnpackedSizes(files).get(found) is None
