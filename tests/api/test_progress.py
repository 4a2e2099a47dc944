"""What is sent over a progress socket, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message

from open_workshop_storage.api.routes.progress import send_all
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.events import Event, EventKind, event_of
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.stores.fanout import Watcher

pytestmark = pytest.mark.anyio

JOB = Job(job_id="job-7f3a9c21", claims=TransferClaims(job_id="job-7f3a9c21"), origin="upload", file_name="file")


class Client:
    """Takes what is sent over a socket; leaves after so many messages."""

    def __init__(self, most: int = 100) -> None:
        self.messages: list[Any] = []
        self.heard = asyncio.Condition()
        self._most = most

    async def send(self, message: Message) -> None:
        if len(self.messages) == self._most:
            raise RuntimeError("closed")
        async with self.heard:
            self.messages.append(json.loads(message["text"]))
            self.heard.notify_all()

    async def until(self, count: int) -> None:
        async with self.heard:
            await self.heard.wait_for(lambda: len(self.messages) >= count)


async def test_the_present_state_is_sent_again_after_silence_as_progress() -> None:
    events, client = Watcher(), Client()
    state = event_of(JOB.changed(stage=Stage.DOWNLOADING), EventKind.STAGE)
    events.start(state)
    sending = asyncio.create_task(send_all(client.send, events, silence_seconds=0.01))
    await client.until(3)
    said = json.loads(state.text)
    assert client.messages[:3] == [said, said | {"event": "progress"}, said | {"event": "progress"}]
    events.push(Event(version=state.version + 1, kind=EventKind.COMPLETE, text='{"event":"complete"}'))
    assert await sending == 1000
    assert client.messages[-1] == {"event": "complete"}


async def test_nothing_is_repeated_before_the_first_state() -> None:
    events, client = Watcher(), Client()
    sending = asyncio.create_task(send_all(client.send, events, silence_seconds=0.001))
    await asyncio.sleep(0.02)
    assert client.messages == [] and not sending.done()
    events.start(event_of(JOB, EventKind.ERROR))
    assert await sending == 1000


async def test_sending_ends_with_the_client() -> None:
    async def endless() -> AsyncIterator[Event]:
        while True:
            yield event_of(JOB, EventKind.PROGRESS)

    assert await send_all(Client(most=2).send, endless()) is None
