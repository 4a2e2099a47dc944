"""What an origin says about its file, undoing its codings, and telling a web page from a file."""

from __future__ import annotations

import gzip
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterable
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_workshop_storage.utils.net.origin_answers import (
    BrokenCoding,
    UnknownCoding,
    WebPage,
    disposition_filename,
    may_be_page,
    partial_total,
    refuse_pages,
    strong_validator,
    total_size,
    undo_codings,
)
from tests.support.archives import zip_of

THEN = "Mon, 02 Jan 2023 10:00:00 GMT"
A_SECOND_LATER = "Mon, 02 Jan 2023 10:00:01 GMT"
pytestmark = pytest.mark.anyio
pytestmark = pytest.mark.anyio
BODY = bytes(range(256)) * 4096


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        ("attachment", None),
        ("attachment; filename=", None),
        ("attachment; filename=mod.zip", "mod.zip"),
        ('attachment; filename="my mod; final.zip"', "my mod; final.zip"),
        ("attachment; FileName=mod.zip", "mod.zip"),
        ("inline; filename*=UTF-8''%D0%BC%D0%BE%D0%B4.zip", "мод.zip"),
        ("attachment; filename=plain.zip; filename*=UTF-8''%e2%82%ac.zip", "€.zip"),
        ("attachment; filename*=UTF-8''%e2%82%ac.zip; filename=plain.zip", "€.zip"),
        ('attachment; filename="мод.zip"', "мод.zip"),
        ("attachment; filename*=no-such-charset''a.zip", "a.zip"),
        ("attachment; filename*=idna''a..zip", "a..zip"),
        ("attachment; filename*=UTF-8''мод%20ä.zip", "мод ä.zip"),
        ("attachment; filename*=UTF-8''ä.zip", "ä.zip"),
        ("attachment; filename*=%D0%BC.zip", "м.zip"),
        ("attachment; filename*=iso-8859-1'de'%E4.zip", "ä.zip"),
        ("attachment; filename*=UTF-8''; filename=plain.zip", "plain.zip"),
        ("attachment; filename=" + "a" * 5000, None),
    ],
)
def test_the_file_name_of_a_disposition(disposition: str, expected: str | None) -> None:
    headers = httpx.Headers([(b"Content-Disposition", disposition.encode())])
    assert disposition_filename(headers) == expected


@given(st.text(st.characters(exclude_categories=["C"]), max_size=60))
def test_no_disposition_makes_it_stumble(text: str) -> None:
    for start in ("", "attachment; filename", "attachment; filename*0*="):
        disposition_filename(httpx.Headers([(b"Content-Disposition", (start + text).encode())]))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"ETag": '"v1"'}, '"v1"'),
        ({"ETag": '"v1"', "Last-Modified": THEN, "Date": A_SECOND_LATER}, '"v1"'),
        ({"ETag": 'W/"v1"'}, None),
        ({"ETag": "unquoted"}, None),
        ({"ETag": 'W/"v1"', "Last-Modified": THEN, "Date": A_SECOND_LATER}, THEN),
        ({"Last-Modified": THEN}, THEN),
        ({"Last-Modified": THEN, "Date": THEN}, None),
        ({"Last-Modified": formatdate(time.time() + 86400, usegmt=True)}, None),
        ({"Last-Modified": "soon", "Date": THEN}, None),
    ],
)
def test_what_a_later_fetch_can_be_resumed_with(headers: dict[str, str], expected: str | None) -> None:
    assert strong_validator(httpx.Headers(headers)) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Length": "12"}, 12),
        ({"Content-Length": "12", "Transfer-Encoding": "chunked"}, None),
        # It means nothing where the answer is all of a file (RFC 9110, section 14.4).
        ({"Content-Length": "2", "Content-Range": "bytes 10-11/12"}, 2),
        ({}, None),
    ],
)
def test_the_size_of_a_body(headers: dict[str, str], expected: int | None) -> None:
    assert total_size(httpx.Headers(headers)) == expected


@pytest.mark.parametrize(("part", "expected"), [("bytes 10-11/12", 12), ("bytes 10-11/*", None), ("", None)])
def test_the_size_of_the_file_that_an_answer_is_a_part_of(part: str, expected: int | None) -> None:
    assert partial_total(httpx.Headers({"Content-Range": part})) == expected


async def passed(body: bytes, size: int) -> bytes:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return b"".join([chunk async for chunk in refuse_pages(chunks())])


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html>",
        b"\n\t <p>gone",
        b"\xef\xbb\xbf<html>",
        b"<?xml?>",
        b"<a>" * 5000,
        "\ufeff \n<html>".encode("utf-16-le"),
        "\ufeff<html>".encode("utf-16-be"),
        "<html>".encode("utf-16-le"),
    ],
)
async def test_a_page_is_refused(body: bytes, size: int) -> None:
    with pytest.raises(WebPage):
        await passed(body, size)


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize("body", [b"", b"<", b"  ", b"text <b>", b"< 5", b" " * 10_000 + b"<html>", b"PK\3\4" * 3000])
async def test_anything_else_comes_through_to_the_byte(body: bytes, size: int) -> None:
    assert await passed(body, size) == body


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, True),
        ({"Content-Type": "TEXT/HTML", "Content-Disposition": "inline"}, True),
        ({"Content-Type": "application/xhtml+xml"}, True),
        ({"Content-Type": "text/html, text/html; charset=utf-8"}, True),
        ({"Content-Type": "text/html", "Content-Disposition": 'attachment; filename="a.html"'}, False),
        ({"Content-Type": "text/plain"}, False),
        ({}, False),
    ],
)
def test_a_page_has_the_type_of_one_and_no_name(headers: dict[str, str], expected: bool) -> None:
    assert may_be_page(httpx.Headers(headers)) is expected


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


async def unpacked(chunks: Iterable[bytes], *codings: str) -> list[bytes]:
    async def coming() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [piece async for piece in undo_codings(coming(), codings or ["gzip"])]


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
