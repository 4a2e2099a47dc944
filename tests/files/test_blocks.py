"""Reading blocks on the event loop."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from open_workshop_storage.utils.files.blocks import BlockReader

pytestmark = pytest.mark.anyio

CONTENT = secrets.token_bytes(100_000)


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
