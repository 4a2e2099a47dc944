"""Undoing gzip piece by piece."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Iterable

import pytest

from open_workshop_storage.utils.net.content_codings import gunzipped

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 4096


async def unpacked(chunks: Iterable[bytes]) -> list[bytes]:
    async def coming() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [piece async for piece in gunzipped(coming())]


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
async def test_members_come_out_one_after_the_other(size: int) -> None:
    packed = gzip.compress(BODY) + gzip.compress(b"") + gzip.compress(b"more")
    pieces = await unpacked(packed[start : start + size] for start in range(0, len(packed), size))
    assert b"".join(pieces) == BODY + b"more"


async def test_no_piece_is_larger_than_256_kib() -> None:
    pieces = await unpacked([gzip.compress(bytes(8 << 20))])
    assert sum(map(len, pieces)) == 8 << 20
    assert max(map(len, pieces)) <= 256 * 1024


@pytest.mark.parametrize("packed", [gzip.compress(BODY)[:-1], gzip.compress(b"") * 100_000, gzip.compress(BODY) + b"x"])
async def test_what_is_cut_off_or_hardly_anything_comes_of_fails(packed: bytes) -> None:
    with pytest.raises(zlib.error):
        await unpacked([packed])
