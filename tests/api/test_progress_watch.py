"""When a client that watches a transfer hears no more."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from open_workshop_storage.api.progress_watch import ProgressWatch
from open_workshop_storage.api.telling import Ending
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.store import JobEvents
from open_workshop_storage.services.runtime import Runtime
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.stores.memory import MemoryJobStore
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

pytestmark = pytest.mark.anyio

RESUME_SECONDS = 1000
JOB_ID = "job-7f3a9c21"
JOB = Job(job_id=JOB_ID, claims=TransferClaims(job_id=JOB_ID), origin="upload", file_name="file", owner="me")


class CountingStore(MemoryJobStore):
    """Counts what watches it; may be away, or refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = 0
        self.is_back = asyncio.Event()
        self.is_back.set()
        self.refusal: Exception | None = None

    async def watch(self, job_id: str) -> JobEvents:
        await self.is_back.wait()
        if self.refusal is not None:
            raise self.refusal
        self.watched += 1
        return await super().watch(job_id)

    async def unwatch(self, job_id: str, events: JobEvents) -> None:
        self.watched -= 1
        await super().unwatch(job_id, events)


class Client:
    """One that hears messages, and may say something, leave, or break."""

    def __init__(self, folder: Path, seconds_left: float = 3600) -> None:
        self.store = CountingStore()
        settings = make_settings(folder, Secrets(), transfer_resume_seconds=RESUME_SECONDS)
        self.lifetime = Lifetime(settings)
        self.told: list[int] = []
        self.heard = asyncio.Event()
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        runtime = cast(Runtime, SimpleNamespace(store=self.store, settings=settings, lifetime=self.lifetime))
        self.watch = ProgressWatch(runtime, JOB_ID, time.time() + seconds_left)

    async def ending(self) -> Ending:
        async with asyncio.timeout(60):
            ending = await self.watch.tell_until_end(self._tell, self._receive)
        assert self.store.watched == 0 and not self.lifetime.when_stopping
        return ending

    async def _tell(self, version: int, text: str) -> None:
        self.told.append(version)
        self.heard.set()

    async def _receive(self) -> Any:
        said = await self.said.get()
        if isinstance(said, Exception):
            raise said
        return {"type": f"websocket.{said}"}


async def test_a_client_hears_the_state_and_later_events_until_the_end(tmp_path: Path) -> None:
    client = Client(tmp_path)
    ending = asyncio.create_task(client.ending())
    await client.heard.wait()
    assert client.store.watched == 1
    job = await client.store.save(JOB, EventKind.STAGE)
    await client.store.save(job, EventKind.COMPLETE)
    assert await ending is Ending.COMPLETE
    assert client.told == [0, 1, 2]


@pytest.mark.parametrize("away", [False, True], ids=["a store", "a store that is away"])
@pytest.mark.parametrize("reason", [Ending.LEFT, Ending.STOPPING], ids=lambda reason: reason.name)
async def test_a_client_that_leaves_or_has_to_leaves_nothing_behind(reason: Ending, away: bool, tmp_path: Path) -> None:
    client = Client(tmp_path)
    if away:
        client.store.is_back.clear()
    ending = asyncio.create_task(client.ending())
    # What clients say is of no matter.
    client.said.put_nowait("receive")
    if not away:
        await client.heard.wait()
    client.said.put_nowait("disconnect") if reason is Ending.LEFT else client.lifetime.stop()
    assert await ending is reason


async def test_a_client_that_comes_to_a_worker_about_to_go_is_sent_away(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.lifetime.stop()
    assert await client.ending() is Ending.STOPPING


async def test_a_client_is_sent_away_if_the_store_goes_away_as_its_watch_begins(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.store.refusal = ServiceUnavailable()
    assert await client.ending() is Ending.AWAY


async def test_an_error_of_the_server_or_the_store_ends_the_watch_with_it(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.said.put_nowait(KeyError("server"))
    with pytest.raises(KeyError, match="server"):
        await client.ending()
    client.store.refusal = KeyError("store")
    with pytest.raises(KeyError, match="store"):
        await client.ending()


@pytest.mark.parametrize("away", [False, True], ids=["a store", "a store that is away"])
async def test_a_token_without_a_job_is_asked_about_when_it_expires_and_worth_nothing_in_the_end(
    away: bool, tmp_path: Path
) -> None:
    client = Client(tmp_path, seconds_left=0.05 - RESUME_SECONDS if away else 0.05)
    if away:
        client.store.is_back.clear()
    assert await client.ending() is Ending.NOT_ALLOWED


async def test_a_token_that_expires_is_good_for_a_job_until_its_end(tmp_path: Path) -> None:
    client = Client(tmp_path, seconds_left=0.05)
    job = await client.store.save(JOB, EventKind.STAGE)
    ending = asyncio.create_task(client.ending())
    await asyncio.sleep(0.2)
    await client.store.save(job, EventKind.COMPLETE)
    assert await ending is Ending.COMPLETE
