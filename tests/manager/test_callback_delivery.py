"""Delivering callbacks from the memory store to a Manager that answers as each test wants."""

from __future__ import annotations

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing, suppress
from email.utils import formatdate
from pathlib import Path

import jwt
import pytest

from open_workshop_storage.core.callback import Callback, callback_of
from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job
from open_workshop_storage.services.manager import callback_delivery
from open_workshop_storage.services.manager.callback_delivery import Callbacks, Outcome
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.utils.net.http_connections import Connections
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.origins import Answer, Origin, Request, reply, running_origin
from tests.support.servers import HOST

pytestmark = pytest.mark.anyio

SECRETS = Secrets()
CLAIMS = parse_claims({"job_id": "job-12345678"})


class Outbox:
    """Callbacks of one worker, with the store that they come from and the Manager that they go to."""

    def __init__(self, manager: Origin, store: MemoryJobStore, callbacks: Callbacks) -> None:
        self.manager = manager
        self.store = store
        self.callbacks = callbacks

    async def ended_job(self, job_id: str = "job-12345678") -> Callback:
        """Store the end of a job, and return its callback, which this worker holds."""
        job = Job(job_id=job_id, claims=parse_claims({"job_id": job_id}), origin="upload", file_name="mod.zip")
        callback = callback_of(job)
        await self.store.save(job, EventKind.COMPLETE, callback)
        return callback

    async def due(self, seconds: float) -> list[Callback]:
        """Wait until callbacks are due, at most so many seconds, and claim them."""
        deadline = time.monotonic() + seconds
        while not (claimed := await self.store.outbox.claim(10)) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return claimed


@asynccontextmanager
async def outbox(folder: Path, answer: Answer, connections: int = 1, **settings: object) -> AsyncIterator[Outbox]:
    async with running_origin(answer) as manager, aclosing(Connections(connections, 7)) as manager_connections:
        store = MemoryJobStore()
        configured = make_settings(folder, SECRETS, manager_url=manager.url, **settings)
        yield Outbox(manager, store, Callbacks(configured, store.outbox, manager_connections))


async def test_an_attempt_that_is_cut_off_at_any_moment_does_not_stop_the_next(tmp_path: Path) -> None:
    async with outbox(tmp_path, reply(200)) as box:
        for moments in range(40):
            attempt = asyncio.create_task(box.callbacks.deliver(await box.ended_job(f"job-cut-off-{moments}")))
            for _ in range(moments):
                await asyncio.sleep(0)
            attempt.cancel()
            await asyncio.wait([attempt])
            async with asyncio.timeout(60):
                assert await box.callbacks.deliver(await box.ended_job(f"job-after-{moments}")) is Outcome.DELIVERED


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 307, 308, 400, 401, 403, 404, 405, 409, 410, 422, 451])
async def test_a_delivered_settled_or_refused_callback_leaves_the_outbox(status: int, tmp_path: Path) -> None:
    async with outbox(tmp_path, reply(status, "Location: /elsewhere")) as box:
        await box.callbacks.deliver(await box.ended_job())
        assert await box.store.outbox.pending() == (0, 0)
        assert len(box.manager.requests) == 1


async def test_a_failed_callback_is_due_again_within_2_seconds(tmp_path: Path) -> None:
    failures = [408, 425, 429, 500, 502, 503, 504, 599]

    async def failing(request: Request, writer: StreamWriter) -> bytes:
        return reply(failures.pop())

    async with outbox(tmp_path, failing) as box:
        callbacks = [await box.ended_job(f"job-{number:08}") for number in range(len(failures))]
        for callback in callbacks:
            await box.callbacks.deliver(callback)
        assert (await box.store.outbox.pending())[0] == len(callbacks)
        again, *_ = await box.due(2)
        assert again.attempts == 1 and again.jti in {callback.jti for callback in callbacks}


async def test_no_connection_and_no_answer_in_time_are_failures(tmp_path: Path) -> None:
    async def silent(request: Request, writer: StreamWriter) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with outbox(tmp_path, silent, transfer_callback_timeout_seconds=0.1) as box:
        await box.callbacks.deliver(await box.ended_job())
        assert (await box.due(2))[0].attempts == 1
    async with outbox(tmp_path, b"") as box:
        await box.callbacks.deliver(await box.ended_job())
        assert (await box.due(2))[0].attempts == 1


@pytest.mark.parametrize("date", [False, True])
async def test_retry_after_is_obeyed_in_seconds_and_as_a_date(date: bool, tmp_path: Path) -> None:
    value = formatdate(time.time() + 60, usegmt=True) if date else "60"
    async with outbox(tmp_path, reply(429, f"Retry-After: {value}")) as box:
        await box.callbacks.deliver(await box.ended_job())
        assert not await box.due(1.5)
        assert (await box.store.outbox.pending())[0] == 1


async def test_a_callback_is_given_up_after_its_retry_window(tmp_path: Path) -> None:
    async with outbox(tmp_path, reply(503), callback_retry_window_seconds=10) as box:
        callback = await box.ended_job()
        await box.callbacks.deliver(callback.model_copy(update={"created_at": time.time() - 11}))
        assert await box.store.outbox.pending() == (0, 0)


async def test_each_attempt_is_signed_afresh_and_names_the_same_end(tmp_path: Path) -> None:
    async with outbox(tmp_path, reply(503), transfer_callback_ttl_seconds=77) as box:
        callback = await box.ended_job()
        for _ in range(2):
            await box.callbacks.deliver(callback)
        tokens = [request.headers["authorization"].removeprefix("Bearer ") for request in box.manager.requests]
        decoded = [
            jwt.decode(token, SECRETS.jwt_secret, algorithms=["HS256"], audience="manager", issuer="storage")
            for token in tokens
        ]
    assert {claims["jti"] for claims in decoded} == {callback.jti}
    # It is signed a minute back.
    assert [claims["exp"] - claims["iat"] for claims in decoded] == [137, 137]
    assert {request.target for request in box.manager.requests} == {"/internal/storage/transfer-completions"}
    assert all(claims["job_id"] == "job-12345678" and claims["status"] == "success" for claims in decoded)


async def test_callbacks_wait_for_connections_and_one_too_many_is_sent_later(tmp_path: Path) -> None:
    arrived = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def slow(request: Request, writer: StreamWriter) -> bytes:
        arrived.release()
        await go_on.wait()
        return reply(200)

    async with outbox(tmp_path, slow, connections=5) as box, asyncio.TaskGroup() as tasks:
        for number in range(12):
            tasks.create_task(box.callbacks.deliver(await box.ended_job(f"job-{number:08}")))
        for _ in range(5):
            await arrived.acquire()
        await asyncio.sleep(0.05)
        assert len(box.manager.requests) == 5
        async with asyncio.timeout(60):
            assert await box.callbacks.deliver(await box.ended_job("job-too-many")) is Outcome.FAILED
        assert [callback.job_id for callback in await box.due(60)] == ["job-too-many"]
        go_on.set()
    assert len(box.manager.requests) == 12


async def test_due_callbacks_are_delivered_in_the_background_without_a_pause_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_delivery, "_POLL_SECONDS", 3600)
    async with outbox(tmp_path, reply(200)) as box:
        for number in range(40):
            await box.store.outbox.retry(await box.ended_job(f"job-{number:08}"), 0)
        claim = box.store.outbox.claim

        async def claim_slowly(limit: int) -> list[Callback]:
            # Some deliveries end meanwhile.
            await asyncio.sleep(0.05)
            return await claim(limit)

        monkeypatch.setattr(box.store.outbox, "claim", claim_slowly)
        running = asyncio.create_task(box.callbacks.run())
        async with asyncio.timeout(60):
            while (await box.store.outbox.pending())[0]:
                await asyncio.sleep(0.02)
        running.cancel()
        assert len(box.manager.requests) == 40


async def test_due_callbacks_are_not_begun_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_delivery, "_PAUSE_SECONDS", 3600)
    begun: asyncio.Queue[Callback] = asyncio.Queue()
    async with outbox(tmp_path, reply(200)) as box:
        for number in range(4):
            await box.store.outbox.retry(await box.ended_job(f"job-{number:08}"), 0)
        monkeypatch.setattr(box.callbacks, "deliver", begun.put)
        running = asyncio.create_task(box.callbacks.run())
        await begun.get()
        assert begun.empty()
        running.cancel()


async def test_callbacks_share_a_connection(tmp_path: Path) -> None:
    connections = 0

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError), closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"ok": true}')

    async with await asyncio.start_server(serve, HOST, 0) as server, aclosing(Connections(1, 0)) as manager_connections:
        manager_url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        store = MemoryJobStore()
        callbacks = Callbacks(
            make_settings(tmp_path, SECRETS, manager_url=manager_url), store.outbox, manager_connections
        )
        for number in range(20):
            callback = callback_of(Job(job_id=f"job-{number:08}", claims=CLAIMS, origin="upload", file_name="mod.zip"))
            assert await callbacks.deliver(callback) is Outcome.DELIVERED
    # A busy machine may leave it idle for too long.
    assert connections < 20


@pytest.mark.parametrize("announced", [10, 10**9], ids=["short", "long"])
async def test_the_status_counts_whatever_becomes_of_the_body(announced: int, tmp_path: Path) -> None:
    async def beginning_only(request: Request, writer: StreamWriter) -> bytes:
        writer.write(reply(200, length=announced))
        await asyncio.Event().wait()
        return b""

    async with outbox(tmp_path, beginning_only, transfer_callback_timeout_seconds=3) as box:
        assert await box.callbacks.deliver(await box.ended_job()) is Outcome.DELIVERED
