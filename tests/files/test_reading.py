"""Opening files by paths without symbolic links, and reading their blocks."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from open_workshop_storage.utils.files.reading import BlockReader, UnlinkedOpener

pytestmark = pytest.mark.anyio
CONTENT = secrets.token_bytes(100_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Has `real/file`, and links to the folder and the file."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"content")
    (tmp_path / "real" / "link").symlink_to("file")
    (tmp_path / "linked").symlink_to("real")
    return tmp_path.resolve()


@pytest.mark.parametrize("on_loop", [False, True])
def test_a_file_is_opened_by_its_real_path(on_loop: bool, folder: Path) -> None:
    descriptor = UnlinkedOpener(os.O_RDONLY, on_loop=on_loop).open(str(folder / "real" / "file"))
    assert descriptor is not None
    try:
        assert os.read(descriptor, 100) == b"content"
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", ["real/link", "linked/file", "real/missing", "real/file/file"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
def test_nothing_is_opened_through_a_link(path: str, flags: int, folder: Path) -> None:
    assert UnlinkedOpener(flags).open(str(folder / path)) is None


@pytest.mark.parametrize("is_cached", [True, False])
async def test_all_bytes_come_whether_or_not_they_are_cached(is_cached: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        if not is_cached:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        reader, content = BlockReader(4096), b""
        while block := await reader.read(descriptor, len(content), 4096):
            content += block
        assert content == CONTENT
    finally:
        os.close(descriptor)


async def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            await BlockReader(10).read(descriptor, 0, 10)
    finally:
        os.close(descriptor)
