"""Hands what a job store hears on to those of this process that wait for it: sockets, the worker, holders of slots."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from open_workshop_storage.core.events import Event, EventKind
from open_workshop_storage.core.store import Interruption, JobEvents

# To call a reader takes some 10 microseconds, and the server's threads take as long to send what it is told. A pause,
# of this share of the time that the calls took, lets other requests in before all of that is sent.
_CALLS_AT_ONCE = 250
_PAUSE = 0.7


class Watcher:
    """One client's view of a job: the present state, then the events that it has not taken yet, in order.

    Only the latest of several progress events in a row is kept, so a reader that falls behind costs no more than
    one event for each stage.

    Attributes:
        waiting: The events; the reader takes them out.
        on_event: To be called when there is one.
    """

    __slots__ = ("waiting", "on_event", "_started", "_latest")

    def __init__(self) -> None:
        self.waiting: list[Event] = []
        self.on_event: Callable[[], object] = lambda: None
        self._started = False
        self._latest = -1

    def start(self, snapshot: Event) -> None:
        """Put the present state in front, and drop events that are older."""
        self.waiting = [snapshot, *(event for event in self.waiting if event.version > snapshot.version)]
        self._latest = self.waiting[-1].version
        self._started = True

    def push(self, event: Event) -> bool:
        """Add an event, unless the watcher has heard of it; tell whether its reader is to be called."""
        if event.version <= self._latest:
            return False
        self._latest = event.version
        if event.kind is EventKind.PROGRESS and self.waiting and self.waiting[-1].kind is EventKind.PROGRESS:
            self.waiting.pop()
        self.waiting.append(event)
        return self._started

    def catch_up(self, snapshot: Event) -> bool:
        """Add the present state, and go on from it even if it is older than what the watcher has heard of.

        Tell whether the reader is to be called. A Redis that takes over from another may lack the last changes, whose
        versions it then gives to others.
        """
        if snapshot.version >= self._latest:
            return self.push(snapshot)
        self.waiting.clear()
        self.start(snapshot)
        return True


class Fanout:
    """The watchers of this process, by job id.

    All watchers of a job get an event in one step, so none overtakes another; their readers are called some at a time.
    """

    def __init__(self) -> None:
        self._watchers: dict[str, set[Watcher]] = {}
        self._to_call: deque[Watcher] = deque()

    @property
    def job_ids(self) -> list[str]:
        """The jobs that have watchers."""
        return list(self._watchers)

    def add(self, job_id: str) -> Watcher:
        """Return a new watcher of a job, which hears of events from now on."""
        watcher = Watcher()
        self._watchers.setdefault(job_id, set()).add(watcher)
        return watcher

    def remove(self, job_id: str, watcher: JobEvents) -> None:
        """Forget a watcher."""
        assert isinstance(watcher, Watcher)
        watchers = self._watchers[job_id]
        watchers.discard(watcher)
        if not watchers:
            del self._watchers[job_id]

    def publish(self, job_id: str, event: Event) -> None:
        """Hand an event to all watchers of the job."""
        self._call([watcher for watcher in self._watchers.get(job_id, ()) if watcher.push(event)])

    def catch_up(self, job_id: str, snapshot: Event) -> None:
        """Hand the job's present state to all its watchers, after a break in which they heard nothing."""
        self._call([watcher for watcher in self._watchers.get(job_id, ()) if watcher.catch_up(snapshot)])

    def _call(self, watchers: list[Watcher]) -> None:
        """Call the first readers at once, and the rest later, so that jobs with few readers wait for no others."""
        for watcher in watchers[:_CALLS_AT_ONCE]:
            watcher.on_event()
        is_calling = bool(self._to_call)
        self._to_call.extend(watchers[_CALLS_AT_ONCE:])
        if self._to_call and not is_calling:
            asyncio.get_running_loop().call_soon(self._call_some)

    def _call_some(self) -> None:
        started = time.perf_counter()
        for _ in range(min(len(self._to_call), _CALLS_AT_ONCE)):
            self._to_call.popleft().on_event()
        if self._to_call:
            asyncio.get_running_loop().call_later((time.perf_counter() - started) * _PAUSE, self._call_some)


class Notices:
    """The part of both job stores that waits for news of jobs, work and slots; `core.store.JobStore` documents it."""

    def __init__(self) -> None:
        self._fanout = Fanout()
        self._work = asyncio.Event()
        self._granted: dict[str, asyncio.Event] = {}
        self._interrupted: asyncio.Queue[tuple[str, Interruption]] = asyncio.Queue()

    async def wait_for_work(self, timeout: float) -> None:
        await _wait(self._work, timeout)
        self._work.clear()

    async def slot_granted(self, holder: str, timeout: float) -> None:
        if holder in self._granted:
            await _wait(self._granted[holder], timeout)

    async def interrupted(self) -> tuple[str, Interruption]:
        return await self._interrupted.get()


async def _wait(event: asyncio.Event, timeout: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await event.wait()
