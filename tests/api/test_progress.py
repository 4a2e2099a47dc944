"""What clients that watch a transfer are told, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from open_workshop_storage.api.progress_watch import Ending, tell_all
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.events import Event, EventKind, event_of
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.stores.fanout import Watcher

pytestmark = pytest.mark.anyio

JOB = Job(job_id="job-7f3a9c21", claims=TransferClaims(job_id="job-7f3a9c21"), origin="upload", file_name="file")


class Client:
    """Takes what it is told; leaves after so many messages."""

    def __init__(self, most: int = 100) -> None:
        self.messages: list[Any] = []
        self.heard = asyncio.Condition()
        self._most = most

    async def tell(self, version: int, text: str) -> None:
        if len(self.messages) == self._most:
            raise RuntimeError("closed")
        async with self.heard:
            self.messages.append(json.loads(text))
            self.heard.notify_all()

    async def until(self, count: int) -> None:
        async with self.heard:
            await self.heard.wait_for(lambda: len(self.messages) >= count)


async def test_the_present_state_is_sent_again_after_silence_as_progress() -> None:
    events, client = Watcher(), Client()
    state = event_of(JOB.changed(stage=Stage.DOWNLOADING), EventKind.STAGE)
    events.start(state)
    sending = asyncio.create_task(tell_all(client.tell, events, silence_seconds=0.01))
    await client.until(3)
    said = json.loads(state.text)
    assert client.messages[:3] == [said, said | {"event": "progress"}, said | {"event": "progress"}]
    events.push(Event(version=state.version + 1, kind=EventKind.COMPLETE, text='{"event":"complete"}'))
    assert await sending is Ending.COMPLETE
    assert client.messages[-1] == {"event": "complete"}


async def test_nothing_is_repeated_before_the_first_state() -> None:
    events, client = Watcher(), Client()
    sending = asyncio.create_task(tell_all(client.tell, events, silence_seconds=0.001))
    await asyncio.sleep(0.02)
    assert client.messages == [] and not sending.done()
    events.start(event_of(JOB, EventKind.ERROR))
    assert await sending is Ending.COMPLETE


async def test_sending_ends_with_the_client() -> None:
    async def endless() -> AsyncIterator[Event]:
        while True:
            yield event_of(JOB, EventKind.PROGRESS)

    assert await tell_all(Client(most=2).tell, endless()) is Ending.LEFT


async def test_what_a_client_has_heard_is_not_told_again_but_repeated_after_silence() -> None:
    events, client = Watcher(), Client()
    state = event_of(JOB.model_copy(update={"version": 7}), EventKind.PROGRESS)
    events.start(state)
    telling = asyncio.create_task(tell_all(client.tell, events, heard=7))
    await asyncio.sleep(0.02)
    assert client.messages == []
    events.push(Event(version=8, kind=EventKind.COMPLETE, text='{"event":"complete"}'))
    assert await telling is Ending.COMPLETE
    assert client.messages == [{"event": "complete"}]

    events, client = Watcher(), Client(most=1)
    events.start(state)
    assert await tell_all(client.tell, events, heard=7, silence_seconds=0.01) is Ending.LEFT
    assert client.messages == [json.loads(state.text)]


async def test_a_client_that_has_heard_more_than_the_store_still_has_goes_on_from_the_present_state() -> None:
    events, client = Watcher(), Client()
    events.start(event_of(JOB.model_copy(update={"version": 5}), EventKind.PROGRESS))
    # The number comes again, with something else.
    events.push(Event(version=7, kind=EventKind.COMPLETE, text='{"event":"complete"}'))
    assert await tell_all(client.tell, events, heard=7) is Ending.COMPLETE
    assert [message["event"] for message in client.messages] == ["progress", "complete"]
