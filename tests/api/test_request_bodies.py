"""Reading request bodies within their limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from fastapi import Request
from starlette.types import Message

from open_workshop_storage.api.request_bodies import body_chunks, has_left, raw_body, whole_body
from open_workshop_storage.core.errors import BadRequest, ClientGone, RawBodyExpected, TooManyPieces, UploadTimedOut

pytestmark = pytest.mark.anyio


def request_of(chunks: Iterable[bytes], *, ends: bool = True, content_type: str = "") -> Request:
    messages: Iterable[Message] = ({"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks)
    coming = iter([*messages, {"type": "http.request"} if ends else {"type": "http.disconnect"}])

    async def receive() -> Message:
        return next(coming)

    return Request({"type": "http", "headers": [(b"content-type", content_type.encode())]}, receive)


async def size_of(chunks: Iterable[bytes]) -> int:
    return sum([len(chunk) async for chunk in body_chunks(request_of(chunks))])


async def test_a_body_of_very_many_small_pieces_is_refused() -> None:
    assert await size_of([b"x"] * 4000) == 4000
    assert await size_of([bytes(512)] * 20_000) == 512 * 20_000
    assert await size_of([bytes(100_000)] + [b"x"] * 4200) == 104_200
    for size in (1, 64, 500):
        with pytest.raises(TooManyPieces):
            await size_of([bytes(size)] * 200_000)


@pytest.mark.parametrize("cut", [1, 5, 1000])
@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=b", "multipart/form-data", "application/zip"])
@pytest.mark.parametrize("before", [b"--b\r\n", b"\r\n--b\r\n", b"--b\r\nContent-Type: application/zip\r\n"])
async def test_a_form_is_no_raw_body_whatever_its_type_says(before: bytes, content_type: str, cut: int) -> None:
    form = before + b'Content-Disposition: form-data; name="file"; filename="mod.zip"\r\n\r\nPK\r\n--b--\r\n'
    with pytest.raises(RawBodyExpected, match="^Send the file as the raw body$"):
        async for _ in raw_body(request_of([form[:cut], form[cut:]], content_type=content_type)):
            pass


@pytest.mark.parametrize("cut", [1, 10, 1000])
async def test_a_form_with_text_before_its_first_part_is_no_raw_body(cut: int) -> None:
    form = b'This is a form.\r\n--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nPK\r\n--b--\r\n'
    with pytest.raises(RawBodyExpected):
        async for _ in raw_body(request_of([form[:cut], form[cut:]], content_type="multipart/form-data; boundary=b")):
            pass


@pytest.mark.parametrize("content_type", ["application/zip", "multipart/form-data", "multipart/form-data; boundary=b"])
async def test_a_file_is_a_raw_body_whatever_its_type_says(content_type: str) -> None:
    for pieces in ([b"PK\x03\x04", b"--b\r\n"], [b"-", b"- Lua\r\nprint(1)"], [b"--b\r\n"] * 1000, [b" "], []):
        request = request_of(pieces, content_type=content_type)
        assert b"".join([chunk async for chunk in raw_body(request)]) == b"".join(pieces)


async def test_a_client_that_leaves_is_told_from_the_end_of_a_body() -> None:
    with pytest.raises(ClientGone):
        async for _ in body_chunks(request_of([b"x"], ends=False)):
            pass


async def test_a_client_that_leaves_after_its_body_is_told_from_one_that_waits() -> None:
    async def nothing_comes() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    assert await has_left(request_of([], ends=False))
    assert not await has_left(Request({"type": "http"}, nothing_comes))


async def test_a_small_body_has_a_limit_on_its_size() -> None:
    assert await whole_body(request_of([b"12", b"345"]), 5, 0) == b"12345"
    with pytest.raises(BadRequest, match="^Request body too large$"):
        await whole_body(request_of([b"12", b"3456"]), 5, 0)


async def test_a_small_body_has_a_limit_on_its_time() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(UploadTimedOut):
        await whole_body(Request({"type": "http", "headers": []}, receive), 5, 0.01)
