"""A transfer that is started, sent and followed, by the real loader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from open_workshop_storage.client import InvalidToken, Progress, StorageError, Transfer
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.client import InterruptedBody, upload
from tests.support.origins import Origin, Request, reply, running_origin
from tests.support.services import Services

pytestmark = pytest.mark.anyio

MOD = zip_of(SMALL_MOD)


async def heard(transfer: Transfer) -> list[Progress]:
    return [progress async for progress in transfer.follow()]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin(reply(200, "Content-Disposition: attachment", body=seven_zip_of(SMALL_MOD))) as origin:
        yield origin


async def test_a_fetch_is_started_and_followed_to_its_end(
    services: Services, http: httpx.AsyncClient, origin: Origin
) -> None:
    ticket = services.ticket(download_url=f"{origin.url}/mod.7z")
    transfer = Transfer(http, services.loader + "/", ticket.token)
    assert transfer.job_id == ticket.job_id
    following = asyncio.create_task(heard(transfer))
    assert await transfer.start() == "started"
    *before, last = await following
    assert (last.event, last.stage, last.message) == ("complete", "packed", "")
    assert {"progress", "stage"} >= {progress.event for progress in before}
    stages = [progress.stage for progress in before]
    # The fetch may have begun by the time of the first look.
    assert "extracting" in stages and stages[0] in ("pending", "downloading")
    services.manager.wait_for_callbacks(ticket.job_id)
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == SMALL_MOD
    assert await transfer.start() == "moved"


async def test_a_failure_is_the_last_that_is_heard(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    transfer = Transfer(http, services.loader, ticket.token)
    body = InterruptedBody(MOD[:-50])
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(heard(transfer))
        sending = tasks.create_task(upload(http, services.loader, ticket.token, aiter(body)))
        body.go_on.set()
    assert (following.result()[-1].event, following.result()[-1].message) == ("error", "Corrupt archive")
    assert sending.result().text == "Corrupt archive"
    assert [progress.event for progress in await heard(transfer)] == ["error"]


async def test_a_token_of_another_secret_follows_nothing(services: Services, http: httpx.AsyncClient) -> None:
    with pytest.raises(StorageError, match="403 Access denied"):
        await heard(Transfer(http, services.loader, services.ticket().token[:-4] + "AAAA"))
    with pytest.raises(InvalidToken):
        Transfer(http, services.loader, "nonsense")


def event(number: int, kind: str, received: int) -> bytes:
    said = {"event": kind, "bytes": received, "total": 9, "status": "uploading", "stage": "uploading", "percent": None}
    return f"id: {number}\ndata: {json.dumps(said)}\n\n".encode()


async def test_events_go_on_after_cuts_where_they_were(services: Services, http: httpx.AsyncClient) -> None:
    parts = [event(3, "progress", 1) + event(5, "progress", 2)[:-20], event(5, "progress", 2), event(8, "complete", 9)]

    async def answer(request: Request, writer: asyncio.StreamWriter) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + parts.pop(0)

    async with running_origin(answer) as origin:
        progress = await heard(Transfer(http, origin.url, services.ticket().token))
        last_ids = [request.headers.get("last-event-id") for request in origin.requests]
    assert [(each.event, each.bytes) for each in progress] == [("progress", 1), ("progress", 2), ("complete", 9)]
    assert last_ids == [None, "3", "5"]


@pytest.mark.parametrize("content", [MOD, MOD[:-50]], ids=["sound", "refused"])
async def test_an_end_whose_answer_was_lost_is_heard_of_otherwise(
    content: bytes, services: Services, tmp_path: Path
) -> None:
    ticket, file, lost = services.ticket(), tmp_path / "mod.zip", list[int]()
    file.write_bytes(content)

    async def lose(answer: httpx.Response) -> None:
        if answer.request.method == "PATCH":
            lost.append(answer.status_code)
            raise httpx.ReadError("lost")

    async with httpx.AsyncClient(event_hooks={"response": [lose]}) as http:
        uploading = Transfer(http, services.loader, ticket.token).upload(file)
        if content is MOD:
            await uploading
        else:
            with pytest.raises(StorageError, match="^Corrupt archive$"):
                await uploading
    assert lost == [204 if content is MOD else 400]
