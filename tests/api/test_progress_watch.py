"""What a client that watches a transfer is told, when, and when it hears no more."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from open_workshop_storage.api.progress_watch import Ending, ProgressWatch, Telling
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.events import Event, EventKind, event_of
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.core.store import JobEvents
from open_workshop_storage.services.runtime import Runtime
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.stores.fanout import Watcher
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


class Events(Watcher):
    """Calls its reader at once, as those of a job with few are."""

    def start(self, snapshot: Event) -> None:
        super().start(snapshot)
        self.on_event()

    def push(self, event: Event) -> bool:
        is_heard = super().push(event)
        if is_heard:
            self.on_event()
        return is_heard


class Reader:
    """Takes what it is told, once it reads; leaves after so many messages."""

    def __init__(self, most: int = 100) -> None:
        self.messages: list[Any] = []
        self.heard = asyncio.Condition()
        self.reads = asyncio.Event()
        self.reads.set()
        self._most = most

    async def tell(self, version: int, text: str) -> None:
        await self.reads.wait()
        if len(self.messages) == self._most:
            raise RuntimeError("closed")
        async with self.heard:
            self.messages.append(json.loads(text))
            self.heard.notify_all()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60), self.heard:
            await self.heard.wait_for(lambda: len(self.messages) >= count)


def at(version: int, kind: EventKind = EventKind.STAGE) -> Event:
    """Return an event that says its version."""
    return Event(version=version, kind=kind, text=json.dumps({"event": kind, "version": version}))


async def end_of(telling: Telling) -> Ending:
    """Return why a client hears no more, once it does not."""
    async with asyncio.timeout(60):
        reason = await telling.ended
    await telling.close()
    return reason


async def repeated(telling: Telling, client: Reader, count: int) -> None:
    """Return once a client has been told so many messages, the last ones after silence."""
    async with asyncio.timeout(60):
        while len(client.messages) < count and not telling.ended.done():
            await asyncio.sleep(telling.repeat_after_silence())


async def test_the_present_state_is_sent_again_after_silence_as_progress() -> None:
    events, client = Events(), Reader()
    telling = Telling(client.tell, silence_seconds=0.01)
    telling.follow(events)
    state = event_of(JOB.changed(stage=Stage.DOWNLOADING), EventKind.STAGE)
    events.start(state)
    await repeated(telling, client, 3)
    said = json.loads(state.text)
    assert client.messages[:3] == [said, said | {"event": "progress"}, said | {"event": "progress"}]
    events.push(at(state.version + 1, EventKind.COMPLETE))
    assert await end_of(telling) is Ending.COMPLETE
    assert client.messages[-1]["event"] == "complete"


async def test_nothing_is_repeated_before_the_first_state() -> None:
    events, client = Events(), Reader()
    telling = Telling(client.tell, silence_seconds=0.001)
    telling.follow(events)
    await asyncio.sleep(0.02)
    telling.repeat_after_silence()
    await asyncio.sleep(0.02)
    assert client.messages == [] and not telling.ended.done()
    events.start(event_of(JOB, EventKind.ERROR))
    assert await end_of(telling) is Ending.COMPLETE


async def test_telling_ends_with_the_client() -> None:
    events, client = Events(), Reader(most=1)
    telling = Telling(client.tell)
    telling.follow(events)
    events.start(at(1))
    events.push(at(2))
    events.push(at(3))
    assert await end_of(telling) is Ending.LEFT
    assert [message["version"] for message in client.messages] == [1]


async def test_a_client_that_does_not_read_is_told_of_the_latest_progress_and_of_each_stage_in_order() -> None:
    events, client = Events(), Reader()
    client.reads.clear()
    telling = Telling(client.tell, silence_seconds=0.001)
    telling.follow(events)
    events.start(at(1))
    for version in (2, 3, 4):
        events.push(at(version, EventKind.PROGRESS))
    events.push(at(5))
    await asyncio.sleep(0.02)
    telling.repeat_after_silence()
    events.push(at(6, EventKind.COMPLETE))
    client.reads.set()
    assert await end_of(telling) is Ending.COMPLETE
    assert [message["version"] for message in client.messages] == [1, 4, 5, 6]


async def test_a_message_on_its_way_is_given_up_with_its_client() -> None:
    events, client = Events(), Reader()
    client.reads.clear()
    telling = Telling(client.tell)
    telling.follow(events)
    events.start(at(1))
    events.push(at(2))
    await telling.close()
    client.reads.set()
    await asyncio.sleep(0)
    assert client.messages == [] and telling.ended.cancelled()


async def test_an_error_of_our_own_ends_the_telling_with_it() -> None:
    async def tell(version: int, text: str) -> None:
        raise KeyError(text)

    events = Events()
    telling = Telling(tell)
    telling.follow(events)
    events.start(at(1, EventKind.COMPLETE))
    with pytest.raises(KeyError):
        await end_of(telling)
    await telling.close()


async def test_what_a_client_has_heard_is_not_told_again_but_repeated_after_silence() -> None:
    state = event_of(JOB.model_copy(update={"version": 7}), EventKind.PROGRESS)
    events, client = Events(), Reader()
    telling = Telling(client.tell, heard=7)
    telling.follow(events)
    events.start(state)
    await asyncio.sleep(0.02)
    assert client.messages == []
    events.push(at(8, EventKind.COMPLETE))
    assert await end_of(telling) is Ending.COMPLETE
    assert [message["event"] for message in client.messages] == ["complete"]

    events, client = Events(), Reader()
    telling = Telling(client.tell, heard=7, silence_seconds=0.01)
    telling.follow(events)
    events.start(state)
    await repeated(telling, client, 1)
    await telling.close()
    assert client.messages[:1] == [json.loads(state.text)]


async def test_a_client_that_has_heard_more_than_the_store_still_has_goes_on_from_the_present_state() -> None:
    events, client = Events(), Reader()
    telling = Telling(client.tell, heard=7)
    telling.follow(events)
    events.start(event_of(JOB.model_copy(update={"version": 5}), EventKind.PROGRESS))
    # The number comes again, with something else.
    events.push(at(7, EventKind.COMPLETE))
    assert await end_of(telling) is Ending.COMPLETE
    assert [message["event"] for message in client.messages] == ["progress", "complete"]
