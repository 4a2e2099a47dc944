"""What clients that watch a transfer are told, and when."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from open_workshop_storage.api.telling import Ending, Telling
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.events import Event, EventKind, event_of
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.stores.fanout import Watcher

pytestmark = pytest.mark.anyio

JOB = Job(job_id="job-7f3a9c21", claims=TransferClaims(job_id="job-7f3a9c21"), origin="upload", file_name="file")


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


class Client:
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


async def ending(telling: Telling) -> Ending:
    """Return why a client hears no more, once it does not."""
    async with asyncio.timeout(60):
        reason = await telling.ended
    await telling.close()
    return reason


async def repeated(telling: Telling, client: Client, count: int) -> None:
    """Return once a client has been told so many messages, the last ones after silence."""
    async with asyncio.timeout(60):
        while len(client.messages) < count and not telling.ended.done():
            await asyncio.sleep(telling.repeat_after_silence())


async def test_the_present_state_is_sent_again_after_silence_as_progress() -> None:
    events, client = Events(), Client()
    telling = Telling(client.tell, silence_seconds=0.01)
    telling.follow(events)
    state = event_of(JOB.changed(stage=Stage.DOWNLOADING), EventKind.STAGE)
    events.start(state)
    await repeated(telling, client, 3)
    said = json.loads(state.text)
    assert client.messages[:3] == [said, said | {"event": "progress"}, said | {"event": "progress"}]
    events.push(at(state.version + 1, EventKind.COMPLETE))
    assert await ending(telling) is Ending.COMPLETE
    assert client.messages[-1]["event"] == "complete"


async def test_nothing_is_repeated_before_the_first_state() -> None:
    events, client = Events(), Client()
    telling = Telling(client.tell, silence_seconds=0.001)
    telling.follow(events)
    await asyncio.sleep(0.02)
    telling.repeat_after_silence()
    await asyncio.sleep(0.02)
    assert client.messages == [] and not telling.ended.done()
    events.start(event_of(JOB, EventKind.ERROR))
    assert await ending(telling) is Ending.COMPLETE


async def test_telling_ends_with_the_client() -> None:
    events, client = Events(), Client(most=1)
    telling = Telling(client.tell)
    telling.follow(events)
    events.start(at(1))
    events.push(at(2))
    events.push(at(3))
    assert await ending(telling) is Ending.LEFT
    assert [message["version"] for message in client.messages] == [1]


async def test_a_client_that_does_not_read_is_told_of_the_latest_progress_and_of_each_stage_in_order() -> None:
    events, client = Events(), Client()
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
    assert await ending(telling) is Ending.COMPLETE
    assert [message["version"] for message in client.messages] == [1, 4, 5, 6]


async def test_a_message_on_its_way_is_given_up_with_its_client() -> None:
    events, client = Events(), Client()
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
        await ending(telling)
    await telling.close()


async def test_what_a_client_has_heard_is_not_told_again_but_repeated_after_silence() -> None:
    state = event_of(JOB.model_copy(update={"version": 7}), EventKind.PROGRESS)
    events, client = Events(), Client()
    telling = Telling(client.tell, heard=7)
    telling.follow(events)
    events.start(state)
    await asyncio.sleep(0.02)
    assert client.messages == []
    events.push(at(8, EventKind.COMPLETE))
    assert await ending(telling) is Ending.COMPLETE
    assert [message["event"] for message in client.messages] == ["complete"]

    events, client = Events(), Client()
    telling = Telling(client.tell, heard=7, silence_seconds=0.01)
    telling.follow(events)
    events.start(state)
    await repeated(telling, client, 1)
    await telling.close()
    assert client.messages[:1] == [json.loads(state.text)]


async def test_a_client_that_has_heard_more_than_the_store_still_has_goes_on_from_the_present_state() -> None:
    events, client = Events(), Client()
    telling = Telling(client.tell, heard=7)
    telling.follow(events)
    events.start(event_of(JOB.model_copy(update={"version": 5}), EventKind.PROGRESS))
    # The number comes again, with something else.
    events.push(at(7, EventKind.COMPLETE))
    assert await ending(telling) is Ending.COMPLETE
    assert [message["event"] for message in client.messages] == ["progress", "complete"]
