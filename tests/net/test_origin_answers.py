"""What an origin says about its file, and telling a web page from one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_workshop_storage.utils.net.origin_answers import (
    WebPage,
    disposition_filename,
    may_be_page,
    partial_total,
    refusing_pages,
    strong_validator,
    total_size,
)

THEN = "Mon, 02 Jan 2023 10:00:00 GMT"
A_SECOND_LATER = "Mon, 02 Jan 2023 10:00:01 GMT"
pytestmark = pytest.mark.anyio


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

    return b"".join([chunk async for chunk in refusing_pages(chunks())])


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
