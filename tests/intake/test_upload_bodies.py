"""Bodies that count as far as they came."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from open_workshop_storage.core.changes import Pace
from open_workshop_storage.core.errors import ChecksumDiffers, ClientGone, UploadTimedOut
from open_workshop_storage.services.intake.receive import ReceiveLimits
from open_workshop_storage.services.intake.upload_bodies import Ending, UploadBody, reading_ahead

pytestmark = pytest.mark.anyio


def limits(idle_seconds: float = 0, min_bytes_per_second: int = 0) -> ReceiveLimits:
    return ReceiveLimits(0, 0, idle_seconds, min_bytes_per_second, 0, UploadTimedOut)


def never() -> asyncio.Future[None]:
    """Return what interrupts a body once it is done."""
    return asyncio.get_running_loop().create_future()


async def body(*chunks: bytes, leaves: bool = False, waits: bool = False) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if leaves:
        raise ClientGone
    if waits:
        await asyncio.Event().wait()


async def all_of(upload: UploadBody) -> bytes:
    return b"".join([chunk async for chunk in upload])


@pytest.mark.parametrize("room", [None, 6, 100])
async def test_a_whole_body_is_complete(room: int | None) -> None:
    upload = UploadBody(body(b"abc", b"def"), never(), limits(), Pace(), room, "sha256")
    assert await all_of(upload) == b"abcdef"
    assert upload.ending is Ending.COMPLETE and upload.refusal(hashlib.sha256(b"abcdef").digest()) is None
    assert isinstance(upload.refusal(b"another"), ChecksumDiffers)


async def test_the_first_bytes_come_in_beside_something_else_and_the_whole_body_is_read() -> None:
    read = list[bytes]()

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in body(b"abc", b"def"):
            read.append(chunk)
            yield chunk

    with reading_ahead(chunks()) as whole:
        await asyncio.sleep(0)
        assert read == [b"abc"]
    assert b"".join([chunk async for chunk in whole]) == b"abcdef"


async def test_a_client_that_leaves_beside_something_else_is_gone_for_those_who_read() -> None:
    with reading_ahead(body(leaves=True)) as whole:
        await asyncio.sleep(0)
    with pytest.raises(ClientGone):
        await anext(whole)


async def test_the_first_bytes_are_given_up_where_what_stands_beside_them_fails() -> None:
    given_up = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in body(waits=True):
                yield chunk
        finally:
            given_up.set()

    with pytest.raises(ClientGone), reading_ahead(chunks()):
        await asyncio.sleep(0)
        raise ClientGone
    async with asyncio.timeout(30):
        await given_up.wait()


async def test_a_client_that_leaves_cuts_it() -> None:
    upload = UploadBody(body(b"abc", leaves=True), never(), limits(), Pace(), None, "")
    assert (await all_of(upload), upload.ending) == (b"abc", Ending.CUT)


async def test_a_client_that_sends_nothing_more_leaves_it_idle() -> None:
    # The job lives on, also if it has sent next to nothing by then.
    pace = Pace(59.9)
    upload = UploadBody(body(b"abc", waits=True), never(), limits(0.05, 1000), pace, None, "")
    assert (await all_of(upload), upload.ending) == (b"abc", Ending.STALLED)


async def test_another_request_interrupts_it() -> None:
    interrupted = never()
    upload = UploadBody(body(b"abc", waits=True), interrupted, limits(), Pace(), None, "")
    chunks = aiter(upload)
    assert await anext(chunks) == b"abc"
    interrupted.set_result(None)
    assert await anext(chunks, None) is None
    assert upload.ending is Ending.INTERRUPTED


async def test_nothing_comes_of_bytes_for_which_there_is_no_room() -> None:
    upload = UploadBody(body(b"abc", b"def"), never(), limits(), Pace(), 5, "")
    assert (await all_of(upload), upload.ending) == (b"abc", Ending.TOO_LONG)


@pytest.mark.parametrize(("earlier", "ending"), [(Pace(100, 99_000), Ending.TOO_SLOW), (Pace(100, 101_000), None)])
async def test_what_earlier_bodies_of_the_job_brought_counts(earlier: Pace, ending: Ending | None) -> None:
    pace, slowest = replace(earlier), limits(min_bytes_per_second=1000)
    upload = UploadBody(body(b"abc"), never(), slowest, pace, None, "")
    assert await all_of(upload) == (b"" if ending else b"abc")
    assert upload.ending is (ending or Ending.COMPLETE)
    assert pace.sent_bytes == earlier.sent_bytes + (0 if ending else 3)
    assert pace.waited_seconds > earlier.waited_seconds
