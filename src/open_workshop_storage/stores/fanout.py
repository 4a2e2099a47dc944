"""Hands the events of a worker's jobs to the sockets that this worker holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from open_workshop_storage.core.events import Event, EventKind


class Watcher(AsyncIterator[Event]):
    """One socket's view of a job: the present state, then the events that it has not read yet, in order, without end.

    Only the latest of several progress events in a row is kept, so a reader that falls behind costs no more than
    one event for each stage.
    """

    __slots__ = ("_waiting", "_reader", "_started", "_latest")

    def __init__(self) -> None:
        self._waiting: list[Event] = []
        self._reader: asyncio.Future[None] | None = None
        self._started = False
        self._latest = -1

    def start(self, snapshot: Event) -> None:
        """Put the present state in front, and drop events that are older."""
        self._waiting = [snapshot, *(event for event in self._waiting if event.version > snapshot.version)]
        self._latest = self._waiting[-1].version
        self._started = True
        self._wake_reader()

    def push(self, event: Event) -> None:
        """Add an event, unless the watcher has heard of it."""
        if event.version <= self._latest:
            return
        self._latest = event.version
        if event.kind is EventKind.PROGRESS and self._waiting and self._waiting[-1].kind is EventKind.PROGRESS:
            self._waiting.pop()
        self._waiting.append(event)
        if self._started:
            self._wake_reader()

    def catch_up(self, snapshot: Event) -> None:
        """Add the present state, and go on from it if it is older than what the watcher has heard of.

        A Redis that takes over from another may lack the last changes; those that follow have their numbers again.
        """
        if snapshot.version < self._latest:
            self._waiting.clear()
            self.start(snapshot)
        else:
            self.push(snapshot)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def __anext__(self) -> Event:
        """Wait for the next event and return it."""
        while not self._started or not self._waiting:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._waiting.pop(0)


class Fanout:
    """The watchers of this process, by job id."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[Watcher]] = {}

    @property
    def job_ids(self) -> list[str]:
        """The jobs that have watchers."""
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
        """Hand an event to all watchers of the job."""
        for watcher in self._watchers.get(job_id, ()):
            watcher.push(event)

    def catch_up(self, job_id: str, snapshot: Event) -> None:
        """Hand the job's present state to all its watchers, after a break in which they heard nothing."""
        for watcher in self._watchers.get(job_id, ()):
            watcher.catch_up(snapshot)
