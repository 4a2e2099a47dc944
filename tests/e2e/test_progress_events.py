"""Watching a transfer over Server-Sent Events."""

from __future__ import annotations

import asyncio
import signal
import time

import httpx
import pytest

from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of
from tests.support.client import PATIENCE_SECONDS, InterruptedBody, upload, watching
from tests.support.event_streams import streaming
from tests.support.services import Services

pytestmark = pytest.mark.anyio


async def asked(
    http: httpx.AsyncClient, loader_url: str, job_id: str, token: str | None, heard: object = None
) -> tuple[int, str]:
    """Return status and text of an answer that is no stream."""
    answer = await http.get(
        f"{loader_url}/transfer/events/{job_id}",
        params={} if token is None else {"token": token},
        headers={} if heard is None else {"Last-Event-ID": str(heard)},
    )
    return answer.status_code, answer.text


async def test_a_stream_tells_what_a_socket_tells_under_growing_ids_and_ends_with_the_transfer(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    async with (
        streaming(http, services.loader, ticket.job_id, ticket.token) as stream,
        watching(services.loader, ticket.job_id, ticket.token) as watcher,
    ):
        headers = stream.answer.headers
        assert headers["content-type"].partition(";")[0] == "text/event-stream"
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert headers["access-control-allow-origin"] == "*"
        first = await stream.next()
        assert first is not None and (first.id, first.message) == (0, watcher.messages[0])
        assert (await upload(http, services.loader, ticket.token, seven_zip_of(SMALL_MOD))).status_code == 200
        events, messages = await stream.rest(), await watcher.finish()
    assert [event.message for event in events] == messages[1:]
    assert [event.id for event in events] == sorted({event.id for event in events}) and events[0].id > 0
    assert events[-1].message["event"] == "complete"


async def test_a_client_that_comes_back_goes_on_where_it_was(services: Services, http: httpx.AsyncClient) -> None:
    ticket, sent = services.ticket(), seven_zip_of(SMALL_MOD)
    body = InterruptedBody(sent)
    async with asyncio.TaskGroup() as tasks:
        async with streaming(http, services.loader, ticket.job_id, ticket.token) as stream:
            assert await stream.next() is not None
            tasks.create_task(upload(http, services.loader, ticket.token, aiter(body), size=str(len(sent))))
            heard = None
            while heard is None or heard.message["stage"] != "uploading" or heard.message["bytes"] != 10:
                heard = await stream.next()
        async with streaming(http, services.loader, ticket.job_id, ticket.token, heard.id) as stream:
            body.go_on.set()
            events = await stream.rest()
    assert [event.id for event in events] == sorted({event.id for event in events}) and events[0].id > heard.id
    assert heard.message not in [event.message for event in events]
    stages = list(dict.fromkeys(event.message["stage"] for event in events))
    assert stages[-4:] == ["uploaded", "extracting", "repacking", "packed"]


async def test_a_client_that_has_heard_the_end_is_told_to_ask_no_more(
    services: Services, http: httpx.AsyncClient
) -> None:
    moved, failed = services.ticket(), services.ticket()
    for ticket, sent in ((moved, zip_of(SMALL_MOD)), (failed, zip_of(SMALL_MOD)[:-50])):
        async with streaming(http, services.loader, ticket.job_id, ticket.token) as stream:
            await upload(http, services.loader, ticket.token, sent)
            *_, before, last = await stream.rest()
        assert await asked(http, services.loader, ticket.job_id, ticket.token, last.id) == (204, "")
        async with streaming(http, services.loader, ticket.job_id, ticket.token, before.id) as stream:
            (again,) = await stream.rest()
        assert again.message["event"] == last.message["event"]
        assert await asked(http, services.loader, ticket.job_id, ticket.token, again.id) == (204, "")
    assert last.message["message"] == "Corrupt archive"
    # Another attempt is something new.
    async with asyncio.TaskGroup() as tasks:
        body = InterruptedBody(zip_of(SMALL_MOD))
        async with watching(services.loader, failed.job_id, failed.token):
            tasks.create_task(upload(http, services.loader, failed.token, aiter(body)))
        while (answer := await asked_for_status(http, services, failed.job_id, failed.token, last.id)) == 204:
            await asyncio.sleep(0.02)
        assert answer == 200
        async with streaming(http, services.loader, failed.job_id, failed.token, last.id) as stream:
            body.go_on.set()
            events = await stream.rest()
    assert events[-1].message["event"] == "complete" and events[0].id > last.id


async def asked_for_status(http: httpx.AsyncClient, services: Services, job_id: str, token: str, heard: int) -> int:
    """Return the status of an answer, without its body."""
    url = f"{services.loader}/transfer/events/{job_id}"
    async with http.stream("GET", url, params={"token": token}, headers={"Last-Event-ID": str(heard)}) as answer:
        return answer.status_code


async def test_a_stream_is_refused_in_words_without_a_token_for_its_job(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket, sign = services.ticket(), services.manager.transfer_token
    for token, refusal in (
        (None, (401, "Token not found")),
        ("", (401, "Token not found")),
        ("nonsense", (403, "Access denied")),
        (services.ticket().token, (403, "Access denied")),
        (sign(ticket.job_id, aud="manager"), (403, "Access denied")),
        (sign(ticket.job_id, exp=int(time.time()) - 100), (403, "Access denied")),
        (sign("short"), (400, "Invalid job id")),
    ):
        assert await asked(http, services.loader, ticket.job_id, token) == refusal
    answer = await http.post(f"{services.loader}/transfer/events/{ticket.job_id}", params={"token": ticket.token})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS")


async def test_an_expired_token_opens_the_stream_of_a_job_that_has_not_ended(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket, body = services.ticket(), InterruptedBody(zip_of(SMALL_MOD))
    expired = services.manager.transfer_token(ticket.job_id, exp=int(time.time()) - 100)
    async with asyncio.TaskGroup() as tasks, watching(services.loader, ticket.job_id, ticket.token) as watcher:
        tasks.create_task(upload(http, services.loader, ticket.token, aiter(body)))
        await watcher.until(stage="uploading")
        async with streaming(http, services.loader, ticket.job_id, expired) as stream:
            body.go_on.set()
            assert (await stream.rest())[-1].message["event"] == "complete"
    assert await asked(http, services.loader, ticket.job_id, expired) == (403, "Access denied")


async def test_streams_and_sockets_of_a_job_share_one_limit_and_give_their_places_back(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["loader"], TRANSFER_MAX_SOCKETS_PER_JOB=2)
    ticket, other = services.ticket(), services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token):
        async with streaming(http, services.loader, ticket.job_id, ticket.token) as stream:
            assert await stream.next() is not None
            url = f"{services.loader}/transfer/events/{ticket.job_id}"
            answer = await http.get(url, params={"token": ticket.token})
            assert (answer.status_code, answer.text) == (503, "Service unavailable")
            assert answer.headers["retry-after"] == "5"
            async with streaming(http, services.loader, other.job_id, other.token) as another:
                assert await another.next() is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await asked_for_status(http, services, ticket.job_id, ticket.token, 99) != 200:
                await asyncio.sleep(0.05)


async def test_a_worker_that_stops_ends_its_streams(start_services: ServiceStarter, http: httpx.AsyncClient) -> None:
    services = start_services(apps=["loader"], SHUTDOWN_GRACE_SECONDS=1)
    ticket = services.ticket()
    async with streaming(http, services.loader, ticket.job_id, ticket.token) as stream:
        assert await stream.next() is not None
        services.servers["loader"].process.send_signal(signal.SIGTERM)
        assert await stream.rest() == []
