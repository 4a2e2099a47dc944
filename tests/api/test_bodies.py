"""Reading request bodies within their limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from fastapi import Request
from starlette.types import Message

from open_workshop_storage.api.bodies import body_chunks, whole_body
from open_workshop_storage.core.errors import BadRequest, ClientGone, TooManyPieces, UploadTimedOut

pytestmark = pytest.mark.anyio


def request_of(chunks: Iterable[bytes], *, ends: bool = True) -> Request:
    messages: Iterable[Message] = ({"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks)
    coming = iter([*messages, {"type": "http.request"} if ends else {"type": "http.disconnect"}])

    async def receive() -> Message:
        return next(coming)

    return Request({"type": "http", "headers": []}, receive)


async def size_of(chunks: Iterable[bytes]) -> int:
    return sum([len(chunk) async for chunk in body_chunks(request_of(chunks))])


async def test_a_body_of_very_many_small_pieces_is_refused() -> None:
    assert await size_of([b"x"] * 4000) == 4000
    assert await size_of([bytes(64)] * 20_000) == 64 * 20_000
    assert await size_of([bytes(100_000)] + [b"x"] * 5000) == 105_000
    for size in (1, 60):
        with pytest.raises(TooManyPieces):
            await size_of([bytes(size)] * 1_000_000)


async def test_a_client_that_leaves_is_told_from_the_end_of_a_body() -> None:
    with pytest.raises(ClientGone):
        async for _ in body_chunks(request_of([b"x"], ends=False)):
            pass


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
