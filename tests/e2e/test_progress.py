"""Watching a transfer on its socket."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from open_workshop_storage.client import StorageError
from tests.support.archives import SMALL_MOD, compressed_tar_of, seven_zip_of, tar_of, zip_of
from tests.support.client import InterruptedBody, Message, Watcher, upload, watching
from tests.support.manager import Answer
from tests.support.processes import connections, keepalive_timers
from tests.support.services import Services

pytestmark = pytest.mark.anyio

NO_JOB_YET = {"event": "progress", "bytes": 0, "total": None, "status": "pending", "stage": "pending", "percent": None}
STATUS_OF_STAGE = {
    "pending": {"pending"},
    "uploading": {"uploading"},
    "uploaded": {"processing"},
    "extracting": {"processing"},
    "repacking": {"processing"},
    "packed": {"packed", "moved"},
}
SOCKETS = 8
"""So many spread over several workers; more are opened until they do."""


def stages_of(messages: list[Message]) -> list[str]:
    """Return each stage once, in the order of its first message."""
    return list(dict.fromkeys(message["stage"] for message in messages))


def check_messages(messages: list[Message], size: int) -> None:
    """Check what holds for every successful upload of so many bytes that was watched from its start."""
    assert NO_JOB_YET.items() <= messages[0].items()
    for earlier, later in zip(messages, messages[1:], strict=False):
        assert earlier["bytes"] <= later["bytes"] <= size
        assert earlier != later
        if earlier["stage"] == later["stage"]:
            assert (earlier["percent"] or 0) <= (later["percent"] or 0)
    for message in messages:
        assert message["status"] in STATUS_OF_STAGE[message["stage"]]
        assert message["event"] in {"progress", "stage", "complete"}
        if message["stage"] in ("extracting", "repacking"):
            assert 0 <= message["percent"] <= 100
        else:
            assert message["percent"] is None
    assert [message["event"] for message in messages].index("complete") == len(messages) - 1
    assert (messages[-1]["stage"], messages[-1]["bytes"], messages[-1]["total"]) == ("packed", size, size)


@pytest.mark.parametrize(
    ("sent", "stages"),
    [
        pytest.param(zip_of(SMALL_MOD), ["pending", "uploading", "uploaded", "packed"], id="kept zip"),
        pytest.param(
            seven_zip_of(SMALL_MOD),
            ["pending", "uploading", "uploaded", "extracting", "repacking", "packed"],
            id="7z",
        ),
        pytest.param(
            compressed_tar_of(SMALL_MOD, "gz"),
            ["pending", "uploading", "uploaded", "extracting", "repacking", "packed"],
            id="tar.gz",
        ),
        pytest.param(b"any other file", ["pending", "uploading", "uploaded", "repacking", "packed"], id="other file"),
    ],
)
async def test_a_socket_opened_before_the_job_sees_every_stage_in_order_and_is_closed_normally(
    sent: bytes, stages: list[str], services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        assert (await upload(http, services.loader, ticket.token, sent)).status_code == 200
        messages = await watcher.finish()
    assert stages_of(messages) == stages
    check_messages(messages, len(sent))
    assert watcher.close_code == 1000


async def test_percent_is_live_while_7z_packs(services_memory: Services, http: httpx.AsyncClient) -> None:
    text = random.Random(2).randbytes(1_500_000).hex().encode()
    ticket = services_memory.ticket(pack_level=9)
    async with watching(services_memory.loader, ticket.job_id, ticket.token) as watcher:
        assert (await upload(http, services_memory.loader, ticket.token, tar_of({"text.txt": text}))).status_code == 200
        messages = await watcher.finish()
    assert any(message["stage"] == "repacking" and 0 < message["percent"] < 100 for message in messages)


async def test_a_socket_creates_no_job(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        assert watcher.messages[0].items() >= NO_JOB_YET.items()
        with pytest.raises(StorageError, match="404 Job not found"):
            await asyncio.to_thread(services.manager.move, ticket.job_id, "archive", "mods/1/x.zip")
    assert not (services.main_dir / "temp" / ticket.job_id).exists()


async def test_a_socket_opened_after_the_end_gets_the_end_and_is_closed(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    assert (await upload(http, services.loader, ticket.token, zip_of(SMALL_MOD))).status_code == 200
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        (message,) = await watcher.finish()
    assert (message["event"], message["status"], watcher.close_code) == ("complete", "moved", 1000)

    failed = services.ticket()
    assert (await upload(http, services.loader, failed.token, zip_of(SMALL_MOD)[:-50])).status_code == 400
    async with watching(services.loader, failed.job_id, failed.token) as watcher:
        (message,) = await watcher.finish()
    assert (message["event"], message["message"], watcher.close_code) == ("error", "Corrupt archive", 1000)


async def test_a_socket_without_a_token_for_its_job_is_refused_with_403(services: Services) -> None:
    ticket = services.ticket()
    others = [
        None,
        "",
        "nonsense",
        services.ticket().token,
        services.manager.transfer_token(ticket.job_id, aud="manager"),
        services.manager.transfer_token(ticket.job_id, exp=1),
        ticket.token[:-4],
    ]
    for token in others:
        with pytest.raises(InvalidStatus) as refusal:
            async with watching(services.loader, ticket.job_id, token):
                pass
        assert refusal.value.response.status_code == 403, token


async def test_every_socket_sees_every_event_whichever_worker_holds_it(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    server = services.servers["loader"]
    sent = seven_zip_of(SMALL_MOD)
    async with AsyncExitStack() as stack:

        async def one_more() -> Watcher:
            return await stack.enter_async_context(watching(services.loader, ticket.job_id, ticket.token))

        def workers_that_hold_one() -> int:
            return sum(connections(pid, server.port) > 0 for pid in server.workers())

        watchers = [await one_more() for _ in range(SOCKETS)]
        while services.store == "redis" and workers_that_hold_one() < 2:
            assert len(watchers) < 10 * SOCKETS, "all sockets are held by one worker"
            watchers.append(await one_more())
        assert (await upload(http, services.loader, ticket.token, sent)).status_code == 200
        seen = await asyncio.gather(*(watcher.finish() for watcher in watchers))
    check_messages(seen[0], len(sent))
    assert all(messages == seen[0] for messages in seen)
    assert {watcher.close_code for watcher in watchers} == {1000}


async def test_a_socket_that_joins_midway_misses_no_later_stage(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    sent = seven_zip_of(SMALL_MOD)
    body = InterruptedBody(sent)

    async with asyncio.TaskGroup() as tasks, watching(services.loader, ticket.job_id, ticket.token) as early:
        tasks.create_task(upload(http, services.loader, ticket.token, aiter(body), size=str(len(sent))))
        await early.until(stage="uploading")
        async with watching(services.loader, ticket.job_id, ticket.token) as late:
            assert late.messages[0]["stage"] == "uploading"
            assert late.messages[0]["total"] == len(sent)
            body.go_on.set()
            assert stages_of(await late.finish()) == ["uploading", "uploaded", "extracting", "repacking", "packed"]


async def test_complete_is_sent_before_the_callback(services: Services, http: httpx.AsyncClient) -> None:
    ticket = services.ticket()
    manager_answers = threading.Event()
    services.manager.script(ticket.job_id, Answer(hold=manager_answers))
    async with asyncio.TaskGroup() as tasks, watching(services.loader, ticket.job_id, ticket.token) as watcher:
        sending = tasks.create_task(upload(http, services.loader, ticket.token, zip_of(SMALL_MOD)))
        assert (await watcher.finish())[-1]["event"] == "complete"
        assert not sending.done()
        manager_answers.set()
    assert sending.result().status_code == 200


async def test_the_kernel_looks_whether_an_idle_client_is_still_there(services: Services) -> None:
    ticket = services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token):
        # A client that vanished cannot be had here, but the timer of its probes shows.
        timers = keepalive_timers(services.servers["loader"].port)
    assert timers and all(timers)


async def test_an_expired_token_opens_the_socket_of_a_job_that_has_not_ended_and_no_other(
    services: Services, http: httpx.AsyncClient
) -> None:
    ticket = services.ticket()
    expired = services.manager.transfer_token(ticket.job_id, exp=int(time.time()) - 100)
    sent = zip_of(SMALL_MOD)
    body = InterruptedBody(sent)

    async def assert_refused(token: str) -> None:
        with pytest.raises(InvalidStatus) as refusal:
            async with watching(services.loader, ticket.job_id, token):
                pass
        assert refusal.value.response.status_code == 403

    await assert_refused(expired)
    async with asyncio.TaskGroup() as tasks, watching(services.loader, ticket.job_id, ticket.token) as early:
        tasks.create_task(upload(http, services.loader, ticket.token, aiter(body)))
        await early.until(stage="uploading")
        # After TRANSFER_RESUME_SECONDS it is worth nothing.
        await assert_refused(services.manager.transfer_token(ticket.job_id, exp=int(time.time()) - 86500))
        async with watching(services.loader, ticket.job_id, expired) as late:
            assert late.messages[0]["stage"] == "uploading"
            body.go_on.set()
            assert (await late.finish())[-1]["event"] == "complete"
    await assert_refused(expired)


async def test_a_socket_without_a_job_ends_with_its_token(services: Services, http: httpx.AsyncClient) -> None:
    ticket, other = services.ticket(), services.ticket()
    # The leeway ends in a moment.
    ends_soon = [services.manager.transfer_token(name.job_id, exp=int(time.time()) - 27) for name in (ticket, other)]
    body = InterruptedBody(zip_of(SMALL_MOD))
    async with (
        asyncio.TaskGroup() as tasks,
        watching(services.loader, ticket.job_id, ends_soon[0]) as nothing_to_see,
        watching(services.loader, other.job_id, ends_soon[1]) as watcher,
    ):
        tasks.create_task(upload(http, services.loader, other.token, aiter(body)))
        with pytest.raises(ConnectionClosedError) as closed:
            await nothing_to_see.finish()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        body.go_on.set()
        assert (await watcher.finish())[-1]["event"] == "complete"
