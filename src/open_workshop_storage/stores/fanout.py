"""Hands the events of a worker's jobs to the sockets that this worker holds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from open_workshop_storage.core.job import Event, EventKind


class Watcher:
    """One socket's view of a job: the present state, then the events that it has not read yet, in order.

    Only the latest of several progress events in a row is kept, so a reader that falls behind costs no more than
    one event for each stage.
    """

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._readable = asyncio.Event()
        self._started = False
        self._latest = -1

    def start(self, snapshot: Event) -> None:
        """Put the present state in front, and drop what came in meanwhile and is older."""
        self._waiting = deque([snapshot, *(event for event in self._waiting if event.version > snapshot.version)])
        self._latest = self._waiting[-1].version
        self._started = True
        self._readable.set()

    def push(self, event: Event) -> None:
        """Add an event, unless the watcher has heard of it."""
        if event.version <= self._latest:
            return
        self._latest = event.version
        if event.kind is EventKind.PROGRESS and self._waiting and self._waiting[-1].kind is EventKind.PROGRESS:
            self._waiting.pop()
        self._waiting.append(event)
        if self._started:
            self._readable.set()

    async def events(self) -> AsyncIterator[Event]:
        """Yield events as they come, without end."""
        while True:
            await self._readable.wait()
            self._readable.clear()
            while self._waiting:
                yield self._waiting.popleft()


class Fanout:
    """The watchers of this process, by job id."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[Watcher]] = {}

    @property
    def job_ids(self) -> list[str]:
        """The jobs that someone watches."""
        return list(self._watchers)

    def add(self, job_id: str) -> Watcher:
        """Return a new watcher of a job, which hears of events from now on."""
        watcher = Watcher()
        self._watchers.setdefault(job_id, set()).add(watcher)
        return watcher

    def remove(self, job_id: str, watcher: Watcher) -> None:
        """Forget a watcher."""
        watchers = self._watchers[job_id]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[job_id]

    def publish(self, job_id: str, event: Event) -> None:
        """Hand an event to everyone who watches the job."""
        for watcher in self._watchers.get(job_id, ()):
            watcher.push(event)
