"""What the limits and time-outs of the settings do to transfers."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from open_workshop_storage.client import StorageError
from tests.conftest import ServiceStarter
from tests.support.archives import compressed_tar_of, zip_of
from tests.support.client import InterruptedBody, raw_request, upload, watching
from tests.support.origins import Answer, Request, reply, running_origin
from tests.support.services import Services, Ticket, running_services

pytestmark = pytest.mark.anyio

MAX_BYTES = 50_000
TOO_BIG_UNPACKED = {"zeros.bin": bytes(1_000_001)}


@pytest.fixture(scope="module", params=["memory", "redis"])
def strict(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A loader with narrow limits, once for each job store."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    with running_services(
        tmp_path_factory.mktemp(f"strict-{request.param}"),
        url,
        apps=["loader"],
        TRANSFER_MAX_BYTES=MAX_BYTES,
        TRANSFER_MAX_UNPACKED_BYTES=1_000_000,
        TRANSFER_UPLOAD_CONCURRENCY=1,
    ) as services:
        yield services


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A loader that waits for nothing for long."""
    with running_services(
        tmp_path_factory.mktemp("impatient"),
        apps=["loader"],
        TRANSFER_IDLE_TIMEOUT_SECONDS=0.4,
        TRANSFER_UPLOAD_TIMEOUT_SECONDS=1,
        TRANSFER_DOWNLOAD_TIMEOUT_SECONDS=1,
    ) as services:
        yield services


async def drops() -> AsyncIterator[bytes]:
    """A body that never pauses for long and takes longer than it may."""
    for _ in range(13):
        yield b"drop"
        await asyncio.sleep(0.1)


async def assert_upload_refused(
    services: Services,
    http: httpx.AsyncClient,
    ticket: Ticket,
    sent: bytes | AsyncIterator[bytes],
    status: int,
    text: str,
    reason: str,
) -> None:
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        answer = await upload(http, services.loader, ticket.token, sent)
        end = (await watcher.finish())[-1]
    assert (answer.status_code, answer.text) == (status, text)
    assert (end["event"], end["message"]) == ("error", text)
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", reason)
    assert not (services.main_dir / "temp" / ticket.job_id).exists()


async def assert_fetch_ends(services: Services, http: httpx.AsyncClient, ticket: Ticket, reason: str | None) -> None:
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token})
        end = (await watcher.finish())[-1]
    assert end["event"] == ("error" if reason else "complete")
    (callback,) = services.manager.wait_for_callbacks(ticket.job_id)
    assert callback.claims.get("reason") == reason


async def test_an_upload_that_takes_too_long_in_all_times_out(impatient: Services, http: httpx.AsyncClient) -> None:
    await assert_upload_refused(impatient, http, impatient.ticket(), drops(), 408, "Upload timed out", "timeout")


async def test_an_upload_that_falls_silent_times_out(impatient: Services) -> None:
    ticket = impatient.ticket()
    for length in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        head = f"POST /transfer/upload?token={ticket.token} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n"
        answer = await raw_request(impatient.loader, head.encode() + b"4\r\ndrop\r\n")
        assert (answer.status, answer.body) == (408, b"Upload timed out")
    callbacks = impatient.manager.wait_for_callbacks(ticket.job_id, 2)
    assert [callback.claims["reason"] for callback in callbacks] == ["timeout", "timeout"]


async def silent_from_the_start(request: Request, writer: asyncio.StreamWriter) -> bytes:
    await asyncio.Event().wait()
    return b""


async def silent_midway(request: Request, writer: asyncio.StreamWriter) -> bytes:
    writer.write(reply(200, body=b"half", length=8))
    await asyncio.Event().wait()
    return b""


async def endless(request: Request, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"4\r\ndrop\r\n")
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("origin_answer", [silent_from_the_start, silent_midway, endless])
async def test_a_fetch_that_is_silent_or_takes_too_long_times_out(
    origin_answer: Answer, impatient: Services, http: httpx.AsyncClient
) -> None:
    async with running_origin(origin_answer) as origin:
        await assert_fetch_ends(impatient, http, impatient.ticket(download_url=origin.url), "timeout")


async def test_more_than_the_setting_allows_is_too_large(strict: Services, http: httpx.AsyncClient) -> None:
    await assert_upload_refused(
        strict, http, strict.ticket(), bytes(MAX_BYTES + 1), 413, "File too large", "size_limit"
    )
    async with running_origin(reply(200, body=bytes(MAX_BYTES + 1))) as origin:
        await assert_fetch_ends(strict, http, strict.ticket(download_url=origin.url), "size_limit")
        await origin.left[0].wait()
    assert (await upload(http, strict.loader, strict.ticket().token, bytes(MAX_BYTES))).status_code == 200


async def flood(request: Request, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    "origin_answer",
    [
        pytest.param(flood, id="chunks without end"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(MAX_BYTES + 1), id="no size"),
        pytest.param(reply(200, "Content-Encoding: gzip", body=gzip.compress(bytes(50_000_000))), id="gzip bomb"),
    ],
)
async def test_a_fetch_that_does_not_say_its_size_ends_at_the_limit(
    origin_answer: Answer, strict: Services, http: httpx.AsyncClient
) -> None:
    async with running_origin(origin_answer) as origin:
        await assert_fetch_ends(strict, http, strict.ticket(download_url=origin.url), "size_limit")


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(200):
        yield bytes(100_000)


@pytest.mark.parametrize("sent", [lambda: bytes(20_000_000), pieces], ids=["announced", "not announced"])
async def test_a_client_that_still_sends_gets_to_read_the_refusal(
    sent: Callable[[], bytes | AsyncIterator[bytes]], strict: Services, http: httpx.AsyncClient
) -> None:
    await assert_upload_refused(strict, http, strict.ticket(), sent(), 413, "File too large", "size_limit")
    answer = await upload(http, strict.loader, "nonsense", sent())
    assert (answer.status_code, answer.text) == (403, "Access denied")
    answer = await http.put(f"{strict.loader}/transfer/upload", content=sent())
    assert answer.status_code == 405


@pytest.mark.parametrize(
    ("max_bytes", "size", "fits"),
    [
        (MAX_BYTES + 10, MAX_BYTES + 10, True),
        (MAX_BYTES + 10, MAX_BYTES + 11, False),
        (0, 300_000, True),
        (9, 10, False),
    ],
)
async def test_the_limit_of_a_token_replaces_that_of_the_settings_upwards_too(
    max_bytes: int, size: int, fits: bool, strict: Services, http: httpx.AsyncClient
) -> None:
    ticket = strict.ticket(max_bytes=max_bytes)
    answer = await upload(http, strict.loader, ticket.token, bytes(size))
    assert (answer.status_code, fits) in ((200, True), (413, False))
    async with running_origin(reply(200, body=bytes(size))) as origin:
        ticket = strict.ticket(max_bytes=max_bytes, download_url=origin.url)
        await assert_fetch_ends(strict, http, ticket, None if fits else "size_limit")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(zip_of(TOO_BIG_UNPACKED), id="zip"),
        pytest.param(compressed_tar_of(TOO_BIG_UNPACKED, "xz"), id="tar.xz"),
    ],
)
async def test_an_archive_over_the_unpacked_limit_is_refused_reported_and_shown(
    sent: bytes, strict: Services, http: httpx.AsyncClient
) -> None:
    ticket = strict.ticket(max_bytes=0)
    await assert_upload_refused(strict, http, ticket, sent, 413, "Archive too large", "unpacked_size_limit")


async def test_an_upload_refused_as_busy_leaves_no_trace_and_may_come_again(
    strict: Services, http: httpx.AsyncClient
) -> None:
    first, second = strict.ticket(), strict.ticket()
    body = InterruptedBody(b"no archive")
    async with asyncio.TaskGroup() as tasks, watching(strict.loader, first.job_id, first.token) as watcher:
        running = tasks.create_task(upload(http, strict.loader, first.token, aiter(body)))
        await watcher.until(stage="uploading")
        head = f"POST /transfer/upload?token={second.token} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        busy = await raw_request(strict.loader, head.encode())  # not one byte of the body follows
        assert (busy.status, busy.body) == (429, b"Storage busy")
        assert int(busy.headers["retry-after"]) > 0
        async with watching(strict.loader, second.job_id, second.token) as waiting:
            assert (waiting.messages[0]["event"], waiting.messages[0]["stage"]) == ("progress", "pending")
        with pytest.raises(StorageError, match="404 Job not found"):
            await asyncio.to_thread(strict.manager.move, second.job_id, "archive", "mods/1/x.zip")
        body.go_on.set()
    assert running.result().status_code == 200
    assert (await upload(http, strict.loader, second.token, b"no archive")).status_code == 200
    assert [callback.claims["status"] for callback in strict.manager.callbacks(second.job_id)] == ["success"]


async def test_a_slot_is_free_again_after_each_way_an_upload_can_end(strict: Services, http: httpx.AsyncClient) -> None:
    for _ in range(3):
        ticket = strict.ticket()
        async with watching(strict.loader, ticket.job_id, ticket.token) as watcher:
            leaving = asyncio.ensure_future(
                upload(http, strict.loader, ticket.token, aiter(InterruptedBody(bytes(100))))
            )
            await watcher.until(stage="uploading")
            leaving.cancel()
            await watcher.finish()
        assert (await upload(http, strict.loader, strict.ticket().token, bytes(MAX_BYTES + 1))).status_code == 413
        assert (await upload(http, strict.loader, strict.ticket().token, zip_of({})[:-1])).status_code == 400
        assert (await upload(http, strict.loader, strict.ticket().token, zip_of({}))).status_code == 200


async def test_a_disk_down_to_its_reserve_takes_nothing_in(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["loader"], STORAGE_RESERVE_BYTES=2**60)
    await assert_upload_refused(services, http, services.ticket(), b"any", 507, "No space left", "no_space")
    async with running_origin(reply(200, body=b"any")) as origin:
        await assert_fetch_ends(services, http, services.ticket(download_url=origin.url), "no_space")
