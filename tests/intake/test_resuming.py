"""A fetch that goes on where an earlier one stopped, if the file is still the same (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

from asyncio import StreamWriter

import pytest

from open_workshop_storage.core.errors import DownloadFailed, OriginRefused
from tests.support.origins import Origin, Request, fetcher, reply, running_origin

pytestmark = pytest.mark.anyio

BODY = b"0123456789"
WHOLE = reply(200, 'ETag: "v1"', body=BODY)
DATE = "Mon, 02 Jan 2023 10:00:00 GMT"


def rest(*headers: str, start: int = 4, end: int = 9, total: str = "10") -> bytes:
    return reply(206, f"Content-Range: bytes {start}-{end}/{total}", *headers, body=BODY[start : end + 1])


async def resumed(origin: Origin, offset: int = 4, validator: str | None = '"v1"') -> tuple[int, int | None, bytes]:
    """Return the offset, the total and the bytes of a resumed fetch."""
    async with fetcher().open(origin.url, offset=offset, validator=validator) as response:
        body = b"".join([chunk async for chunk in response.chunks])
        assert response.validator == validator
        return response.offset, response.total, body


@pytest.mark.parametrize("validator", ['"v1"', DATE])
async def test_only_the_rest_comes(validator: str) -> None:
    header = f"ETag: {validator}" if validator == '"v1"' else f"Last-Modified: {validator}"
    async with running_origin(rest(header)) as origin:
        assert await resumed(origin, validator=validator) == (4, 10, BODY[4:])
    headers = origin.requests[0].headers
    assert (headers["range"], headers["if-range"]) == ("bytes=4-", validator)


async def test_the_origin_need_not_repeat_the_validator_or_know_the_total() -> None:
    async with running_origin(rest(total="*")) as origin:
        assert await resumed(origin) == (4, None, BODY[4:])


async def test_redirects_are_followed_with_the_range() -> None:
    async def answer(request: Request, writer: StreamWriter) -> bytes:
        return reply(302, "Location: /signed") if request.target == "/" else rest()

    async with running_origin(answer) as origin:
        assert await resumed(origin) == (4, 10, BODY[4:])


async def test_a_changed_file_comes_whole() -> None:
    async with running_origin(reply(200, 'ETag: "v2"', body=b"new")) as origin:
        async with fetcher().open(origin.url, offset=4, validator='"v1"') as response:
            assert (response.offset, response.total, response.validator) == (0, 3, '"v2"')
            assert [chunk async for chunk in response.chunks] == [b"new"]


@pytest.mark.parametrize(
    "partial",
    [
        rest('ETag: "v2"'),
        rest(start=5),
        rest(start=0),
        rest("Content-Encoding: gzip"),
        reply(206, "Content-Type: multipart/byteranges; boundary=x", body=b"--x--"),
        reply(206, "Content-Range: pages 4-9/10", body=BODY[4:]),
        reply(416, "Content-Range: bytes */3"),
    ],
    ids=["other version", "gap", "overlap", "packed", "multipart", "other unit", "unsatisfiable"],
)
async def test_what_does_not_fit_is_asked_for_again_from_the_start(partial: bytes) -> None:
    async def answer(request: Request, writer: StreamWriter) -> bytes:
        return partial if "range" in request.headers else WHOLE

    async with running_origin(answer) as origin:
        assert await resumed(origin) == (0, 10, BODY)
    assert len(origin.requests) == 2


@pytest.mark.parametrize(("offset", "validator"), [(0, '"v1"'), (4, None), (0, None)])
async def test_nothing_to_go_on_with_means_a_plain_request(offset: int, validator: str | None) -> None:
    async with running_origin(WHOLE) as origin:
        async with fetcher().open(origin.url, offset=offset, validator=validator) as response:
            assert response.offset == 0
    assert not {"range", "if-range"} & set(origin.requests[0].headers)


@pytest.mark.parametrize("answer", [rest(end=7), reply(206, "Content-Range: bytes 4-9/10", body=b"45", length=6)])
async def test_a_rest_that_ends_too_early_fails(answer: bytes) -> None:
    async with running_origin(answer) as origin:
        with pytest.raises(DownloadFailed):
            await resumed(origin)


async def test_a_refusal_is_no_reason_to_ask_again() -> None:
    async with running_origin(reply(404)) as origin:
        with pytest.raises(OriginRefused) as refusal:
            await resumed(origin)
    assert refusal.value.reason == "status:404"
    assert len(origin.requests) == 1
