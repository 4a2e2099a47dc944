"""Undoing content codings piece by piece."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import AsyncIterator, Iterable

import pytest

from open_workshop_storage.utils.net.content_codings import BrokenCoding, UnknownCoding, decoded
from tests.support.archives import zip_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 4096


async def unpacked(chunks: Iterable[bytes], *codings: str) -> list[bytes]:
    async def coming() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [piece async for piece in decoded(coming(), codings or ["gzip"])]


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
async def test_members_come_out_one_after_the_other(size: int) -> None:
    packed = gzip.compress(BODY) + gzip.compress(b"") + gzip.compress(b"more")
    pieces = await unpacked(packed[start : start + size] for start in range(0, len(packed), size))
    assert b"".join(pieces) == BODY + b"more"


async def test_no_piece_is_larger_than_256_kib() -> None:
    pieces = await unpacked([gzip.compress(bytes(8 << 20))])
    assert sum(map(len, pieces)) == 8 << 20
    assert max(map(len, pieces)) <= 256 * 1024


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(BODY, mtime=0)[:-1], gzip.compress(b"", mtime=0) * 100_000, gzip.compress(BODY, mtime=0) + b"x"],
)
async def test_what_is_cut_off_or_hardly_anything_comes_of_fails(packed: bytes) -> None:
    with pytest.raises(BrokenCoding):
        await unpacked([packed])


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
@pytest.mark.parametrize(
    ("codings", "packed"),
    [
        (["deflate"], zlib.compress(BODY)),
        (["zstd"], zstd.compress(BODY)),
        (["gzip", "gzip"], gzip.compress(gzip.compress(BODY, mtime=0), mtime=0)),
        (["gzip", "gzip"], gzip.compress(BODY, mtime=0)),
        (["zstd", "x-gzip"], gzip.compress(zstd.compress(BODY), mtime=0)),
    ],
)
async def test_other_codings_and_two_of_them_are_undone(codings: list[str], packed: bytes, size: int) -> None:
    pieces = await unpacked((packed[start : start + size] for start in range(0, len(packed), size)), *codings)
    assert b"".join(pieces) == BODY


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "compress", "x-compress", "gzip", "dcz"])
@pytest.mark.parametrize(
    "body", [b"", zip_of({"a": b"a"}), b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x01\x00", b"\xff\xd8\xff"]
)
async def test_a_file_that_is_none_of_the_coding_stays_as_it_is(coding: str, body: bytes) -> None:
    assert b"".join(await unpacked([body[:2], body[2:]], coding)) == body


@pytest.mark.parametrize("coding", ["zstd", "compress"])
async def test_text_stays_as_it_is_where_the_coding_has_a_mark(coding: str) -> None:
    assert await unpacked([b"text"], coding) == [b"text"]


@pytest.mark.parametrize(
    ("codings", "body"),
    [
        (["br"], b"text"),
        (["deflate"], b"text"),
        (["compress"], b"\x1f\x9d\x90text"),
        (["gzip"] * 3, gzip.compress(b"", mtime=0)),
    ],
)
async def test_what_may_be_in_a_coding_that_is_not_undone_is_refused(codings: list[str], body: bytes) -> None:
    with pytest.raises(UnknownCoding):
        await unpacked([body], *codings)


@pytest.mark.parametrize("cut", [zlib.compress(BODY)[:-1], zstd.compress(BODY)[:-1], zstd.compress(BODY) + b"x"])
async def test_broken_deflate_and_zstd_fail(cut: bytes) -> None:
    with pytest.raises(BrokenCoding):
        await unpacked([cut], "zstd" if cut.startswith(b"\x28") else "deflate")
