"""What is remembered of digests."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from open_workshop_storage.services.downloads.stored_digests import Digests
from open_workshop_storage.services.storage.files import Facts, StoredFile
from open_workshop_storage.services.storage.local import LocalFiles

pytestmark = pytest.mark.anyio

SHA256 = sha256(b"x").hexdigest()


class CountedFiles(LocalFiles):
    """Counts how often facts are asked for."""

    asked = 0

    async def facts(self, file: StoredFile, *, even_if_edited: bool = False) -> Facts | None:
        self.asked += 1
        return await super().facts(file, even_if_edited=even_if_edited)


@pytest.fixture
def files(tmp_path: Path) -> CountedFiles:
    return CountedFiles(tmp_path)


async def stored(files: LocalFiles, folder: Path, path: str = "x", facts: Facts | None = None) -> StoredFile:
    source = folder / "source"
    source.write_bytes(b"x")
    await files.put(source, f"resource/{path}", facts)
    return await files.find("resource", path)


async def test_a_digest_is_read_once_for_each_version(files: CountedFiles, tmp_path: Path) -> None:
    digests = Digests(files)
    for asked, digest in ((1, SHA256), (2, "5e" * 32)):
        file = await stored(files, tmp_path, facts=Facts(sha256=digest))
        assert [await digests.get(file) for _ in range(3)] == [digest] * 3
        assert files.asked == asked


async def test_a_file_without_a_digest_may_get_one(files: CountedFiles, tmp_path: Path) -> None:
    digests = Digests(files)
    file = await stored(files, tmp_path, facts=Facts(unpacked_bytes=7))
    assert await digests.get(file) is None
    await files.keep(file, Facts(sha256=SHA256))
    assert await digests.get(file) == SHA256


async def test_files_of_long_names_are_told_and_not_remembered(files: CountedFiles, tmp_path: Path) -> None:
    digests = Digests(files)
    file = await stored(files, tmp_path, "long/" * 60 + "x", Facts(sha256=SHA256))
    assert [await digests.get(file) for _ in range(2)] == [SHA256] * 2
    assert files.asked == 2
