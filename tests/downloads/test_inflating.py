"""Entries that are inflated as they are sent; what a whole answer is like stands in `test_contents.py`."""

from __future__ import annotations

import asyncio
import random
import secrets
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from open_workshop_storage.services.downloads.inflating import InflatedEntry
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.utils.archives.faults import CorruptData

pytestmark = pytest.mark.anyio

CONTENTS = {
    "noise": secrets.token_bytes(1_000_003),
    "text": b"some text, " * 100_000,
    "both": b"".join(secrets.token_bytes(1000) + bytes(50_000) for _ in range(40)),
}


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
async def test_blocks_of_any_size_make_up_the_content(
    content: bytes, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    packed = deflated(content)
    (tmp_path / "resource").mkdir()
    (tmp_path / "resource/x").write_bytes(b"before" + packed + b"after")
    files, lengths = LocalFiles(tmp_path), random.Random(1)
    async with files.open(await files.find("resource", "x")) as opened:
        entry = InflatedEntry(opened, range(6, 6 + len(packed)), len(content), zlib.crc32(content), threads)
        await entry.begin()
        received = b""
        while len(received) < len(content):
            wanted = lengths.choice([1, 100, 8192, 262_144])
            block = await entry.read(len(received), wanted)
            assert 0 < len(block) <= wanted
            received += block
    assert received == content


async def test_a_zip_that_becomes_shorter_is_an_error(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    packed = deflated(CONTENTS["noise"])
    (tmp_path / "resource").mkdir()
    path = tmp_path / "resource/x"
    path.write_bytes(packed)
    files = LocalFiles(tmp_path)
    async with files.open(await files.find("resource", "x")) as opened:
        entry = InflatedEntry(opened, range(len(packed)), len(CONTENTS["noise"]), 0, threads)
        await entry.begin()
        path.write_bytes(packed[:300_000])
        with pytest.raises(OSError, match="shorter"):
            for _ in range(20):
                await entry.read(0, 100_000)


async def test_data_that_never_become_anything_end(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    """Empty blocks of Deflate, which take place and hold nothing."""
    packed = b"\0\0\0\xff\xff" * 200_000
    (tmp_path / "resource").mkdir()
    (tmp_path / "resource/x").write_bytes(packed)
    files = LocalFiles(tmp_path)
    async with files.open(await files.find("resource", "x")) as opened:
        entry = InflatedEntry(opened, range(len(packed)), 10, 0, threads)
        with pytest.raises(CorruptData):
            await asyncio.wait_for(entry.begin(), 60)
