"""Many uploads over tus at once, while connections are cut and workers die or fall asleep."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from open_workshop_storage.client import Moved
from tests.support.archives import zip_of
from tests.support.manager import Callback
from tests.support.processes import age_seconds, children, send_signal
from tests.support.services import Services
from tests.support.tus import TusUpload

# granian gives up when a worker dies that it has just started.
_GROWN_UP_SECONDS = 7
_CHUNK_BYTES = 64 * 1024


@dataclass
class Outcome:
    """What became of the uploads.

    Attributes:
        heads: How long each question for the offset took, in seconds, of those that a live worker answered.
        cuts: How many requests were cut.
        faults: What was done to workers.
    """

    heads: list[float] = field(default_factory=list)
    cuts: int = 0
    faults: list[str] = field(default_factory=list)


async def upload_all(
    services: Services, count: int, size: int, cuts: int, *, at_once: int = 4, seed: int = 1
) -> Outcome:
    """Upload files of random bytes, each with so many cuts, and see that each arrives once and to the bit.

    Raises:
        AssertionError: A file is lost, or other than it was sent, or the Manager heard of it twice or never.
    """
    outcome = Outcome()
    # A worker that is killed answers no move.
    services.manager.repeats_moves = True
    turns = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(timeout=60) as http:

        async def one(number: int) -> None:
            async with turns:
                await _upload(services, http, random.Random(f"{seed}/{number}"), size, cuts, outcome)

        async with asyncio.TaskGroup() as group:
            faults = group.create_task(_faults(services, random.Random(seed), outcome))
            async with asyncio.TaskGroup() as uploads:
                for number in range(count):
                    uploads.create_task(one(number))
            faults.cancel()
    return outcome


async def _faults(services: Services, chance: random.Random, outcome: Outcome) -> None:
    while services.store == "redis":
        await asyncio.sleep(chance.uniform(1, 3))
        grown_up = [
            pid for pid in children(services.servers["loader"].process.pid) if age_seconds(pid) > _GROWN_UP_SECONDS
        ]
        if len(grown_up) < 2:
            continue
        worker = chance.choice(grown_up)
        if chance.random() < 0.6:
            send_signal([worker], signal.SIGKILL)
            outcome.faults.append("killed")
            continue
        send_signal([worker], signal.SIGSTOP)
        outcome.faults.append("asleep")
        try:
            await asyncio.sleep(chance.uniform(2, 20))
        finally:
            send_signal([worker], signal.SIGCONT)


async def _upload(
    services: Services, http: httpx.AsyncClient, chance: random.Random, size: int, cuts: int, outcome: Outcome
) -> None:
    content = await asyncio.to_thread(zip_of, {"noise": chance.randbytes(size), "text": b"text" * 1_000_000})
    ticket = services.ticket()
    tus = TusUpload(http, services.loader, ticket.token, ticket.job_id)
    await _insistently(lambda: tus.create(len(content)))
    offset = 0
    for _ in range(cuts):
        until = offset + chance.randrange(1, max(2, (len(content) - offset) // 2))
        cut = asyncio.create_task(tus.patch(offset, _part(content, offset, until)))
        await asyncio.wait((cut,), timeout=chance.uniform(0.02, 1.0))
        cut.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await cut
        outcome.cuts += 1
        offset = await _offset(tus, outcome, offset)
    while offset < len(content):
        with suppress(httpx.HTTPError):
            answer = await tus.patch(offset, content[offset:])
            assert answer.status_code in (204, 404, 409, 423, 500, 503), answer.text
        offset = await _offset(tus, outcome, offset)
    callbacks: list[Callback] = []
    # A worker may die while the Manager has it move the file; the Manager then hears of the same end again.
    while not any(isinstance(callback.move, Moved) for callback in callbacks):
        callbacks = await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id, len(callbacks) + 1)
    assert {callback.claims["status"] for callback in callbacks} == {"success"}, callbacks[0].claims
    assert len({callback.claims["jti"] for callback in callbacks}) == 1
    assert await asyncio.to_thread((services.main_dir / ticket.path).read_bytes) == content


async def _part(content: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
    for position in range(start, stop, _CHUNK_BYTES):
        yield content[position : min(position + _CHUNK_BYTES, stop)]
    # A silent cut: the client is gone, and the connection does not know.
    await asyncio.Event().wait()


async def _offset(tus: TusUpload, outcome: Outcome, told: int) -> int:
    """Return where to go on: never before the offset that was told last."""
    while True:
        began = time.monotonic()
        # A worker that sleeps answers nothing; the next question may go to another one.
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(5):
                answer = await tus.http.head(tus.url, params={"token": tus.token})
            if answer.status_code == 200:
                outcome.heads.append(time.monotonic() - began)
                offset = int(answer.headers["upload-offset"])
                assert offset >= told, (offset, told)
                return offset
            assert answer.status_code in (500, 503), answer.status_code
        await asyncio.sleep(0.2)


async def _insistently(ask: Callable[[], Awaitable[httpx.Response]]) -> None:
    while True:
        with suppress(httpx.HTTPError):
            answer = await ask()
            if answer.status_code == 201:
                return
            assert answer.status_code == 503, answer.text
        await asyncio.sleep(0.2)
