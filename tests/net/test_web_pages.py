"""Telling a web page from a file by its first bytes, however they are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from open_workshop_storage.utils.net.web_pages import WebPage, may_be_page, refusing_pages

pytestmark = pytest.mark.anyio


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
