"""What the client makes of answers that it did not hope for, and when it asks again."""

from __future__ import annotations

import httpx
import pytest

from open_workshop_storage.client import Moved, StorageError
from open_workshop_storage.client.calls import Backoff, from_fields, parse, request, stream
from tests.support.origins import Answer, reply, running_origin
from tests.support.servers import free_port

pytestmark = pytest.mark.anyio

TEXT, HTML, JSON = (f"Content-Type: {kind}" for kind in ("text/plain; charset=utf-8", "text/html", "application/json"))
REFUSALS = {
    "a message": (reply(413, TEXT, body="Zu groß".encode()), (413, "Zu groß", None)),
    "with a pause": (reply(503, TEXT, "Retry-After: 7", body=b"Storage busy"), (503, "Storage busy", 7)),
    "with a date": (reply(503, TEXT, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", body=b"a"), (503, "a", None)),
    "a page of a proxy": (reply(502, HTML, body=b"<h1>Bad Gateway</h1>"), (502, "As Said", None)),
    "nothing": (reply(500, TEXT), (500, "As Said", None)),
    "a redirect": (reply(302, "Location: http://other.test/"), (302, "As Said", None)),
}


async def refused(http: httpx.AsyncClient, answer: Answer) -> tuple[int | None, str, int | None]:
    async with running_origin(answer) as origin:
        with pytest.raises(StorageError) as refusal:
            await request(http, "GET", origin.url)
    error = refusal.value
    return error.status, error.message, error.retry_after


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_has_the_status_and_the_services_own_message(case: str, http: httpx.AsyncClient) -> None:
    answer, wanted = REFUSALS[case]
    assert await refused(http, answer) == wanted


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", reply(200, body=b"some", length=9)])
async def test_an_answer_that_breaks_off_is_none(answer: bytes, http: httpx.AsyncClient) -> None:
    status, message, _ = await refused(http, answer)
    assert status is None and message.startswith("No answer from the storage: ")


async def test_a_storage_that_is_away_is_told(http: httpx.AsyncClient) -> None:
    with pytest.raises(StorageError, match="No answer") as refusal:
        await request(http, "GET", f"http://127.0.0.1:{free_port()}/")
    assert refusal.value.status is None


async def test_a_body_that_breaks_off_while_it_is_read_is_told(http: httpx.AsyncClient) -> None:
    async with running_origin(reply(200, body=b"some", length=9)) as origin:
        with pytest.raises(StorageError, match="No answer"):
            async with stream(http, "GET", origin.url) as answer:
                async for _ in answer.aiter_bytes():
                    pass


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"7", b'{"job_id": "a"}'])
async def test_an_answer_of_something_else_is_told(body: bytes, http: httpx.AsyncClient) -> None:
    async with running_origin(reply(200, JSON, body=body)) as origin:
        with pytest.raises(StorageError, match="Unexpected answer"):
            parse(await request(http, "GET", origin.url), lambda moved: from_fields(Moved, moved))


def test_what_later_services_say_besides_is_passed_over() -> None:
    moved = {"job_id": "a", "final_path": "b", "final_bytes": 1, "unpacked_bytes": 2, "sha256": None}
    assert from_fields(Moved, {**moved, "later": 3}) == Moved(**moved)  # type: ignore[arg-type]


def test_an_error_reads_well() -> None:
    assert (str(StorageError(409, "Upload already finished")), str(StorageError(None, "gone"))) == (
        "409 Upload already finished",
        "gone",
    )


@pytest.mark.parametrize("status", [None, 429, 502, 503, 504])
async def test_what_passes_by_itself_is_waited_for_until_patience_ends(status: int | None) -> None:
    error = StorageError(status, "away")
    await Backoff(60).wait(error)
    with pytest.raises(StorageError, match="away"):
        await Backoff(0).wait(error)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422, 500, 507])
async def test_a_refusal_is_final_unless_it_passes_here(status: int) -> None:
    error = StorageError(status, "refused")
    with pytest.raises(StorageError, match="refused"):
        await Backoff(60).wait(error)
    await Backoff(60).wait(error, is_passing=True)


async def test_a_pause_that_would_outlast_the_patience_is_not_made() -> None:
    with pytest.raises(StorageError, match="busy"):
        await Backoff(60).wait(StorageError(503, "busy", retry_after=61))


async def test_pauses_grow_and_begin_afresh_after_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    backoff = Backoff(60)
    for _ in range(9):
        await backoff.wait(StorageError(None, "cut"))
    backoff.reset()
    await backoff.wait(StorageError(None, "cut"))
    await backoff.wait(StorageError(503, "busy", retry_after=5))
    *growing, last, first_again, asked_for = pauses
    assert all(0.1 * 2**number <= pause <= 0.2 * 2**number for number, pause in enumerate(growing[:6]))
    assert 5 <= last <= 10 and 0.1 <= first_again <= 0.2 and asked_for == 5
