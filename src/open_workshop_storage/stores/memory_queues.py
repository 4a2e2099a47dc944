"""What waits in the memory store: names in an order, and callbacks."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from itertools import count

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.store import LEASE_SECONDS


class MemoryQueue:
    """A queue that any may leave; to join, to leave and to find the first take hardly longer in a long one."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[float, int]] = {}
        # With places that were left, which go once they are the first.
        self._heap: list[tuple[tuple[float, int], str]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._places)

    def join(self, name: str, since: float) -> None:
        """Wait, unless the name waits already.

        Args:
            since: Decides over the place; of equal ones the first that joined is first.
        """
        if name not in self._places:
            self._places[name] = since, next(self._numbers)
            heapq.heappush(self._heap, (self._places[name], name))

    def leave(self, name: str) -> None:
        """Wait no more."""
        self._places.pop(name, None)

    def move(self, name: str, since: float) -> None:
        """Wait at another place, if the name waits."""
        if name in self._places:
            self.leave(name)
            self.join(name, since)

    def since(self, name: str) -> float | None:
        """Return what decides over a name's place; `None` if it does not wait."""
        return self._places[name][0] if name in self._places else None

    def first(self) -> tuple[float, str] | None:
        """Return the first name, after its `since`; `None` if none waits."""
        while self._heap:
            place, name = self._heap[0]
            if self._places.get(name) == place:
                return place[0], name
            heapq.heappop(self._heap)
        return None

    def names(self, limit: int) -> Sequence[str]:
        """Return the first names, in their order."""
        return heapq.nsmallest(limit, self._places, key=self._places.__getitem__)


class MemoryOutbox:
    """Fulfils `core.store.Outbox`, which documents the methods; no question takes hardly longer where many wait.

    Args:
        jobs: The store's records, by the jobs' ids.
    """

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        # The one that has waited longest comes first.
        self._callbacks: dict[str, Callback] = {}
        self._due = MemoryQueue()

    def keep(self, callback: Callback, delay: float) -> None:
        """Keep a callback, due in so many seconds."""
        self._callbacks[callback.jti] = callback
        self._due.leave(callback.jti)
        self._due.join(callback.jti, time.monotonic() + delay)

    def drop(self, jti: str) -> None:
        """Keep a callback no more."""
        self._callbacks.pop(jti, None)
        self._due.leave(jti)

    async def claim(self, limit: int) -> list[Callback]:
        now = time.monotonic()
        claimed: list[Callback] = []
        while len(claimed) < limit and (first := self._due.first()) is not None and first[0] <= now:
            self._due.move(first[1], now + LEASE_SECONDS)
            claimed.append(self._callbacks[first[1]])
        return claimed

    async def hold(self, callback: Callback) -> None:
        self._due.move(callback.jti, time.monotonic() + LEASE_SECONDS)

    async def retry(self, callback: Callback, delay: float) -> None:
        job = self._jobs.get(callback.job_id)
        if job is None or job.attempt <= callback.attempt:
            self.keep(callback, delay)

    async def settle(self, callback: Callback) -> None:
        self.drop(callback.jti)

    async def hurry(self, jti: str) -> float | None:
        due, now = self._due.since(jti), time.monotonic()
        if due is None:
            return None
        if due > now + LEASE_SECONDS:
            self._due.move(jti, now)
            return 0
        return max(due - now, 0)

    async def contains(self, jti: str) -> bool:
        return jti in self._callbacks

    async def pending(self) -> tuple[int, float]:
        oldest = next(iter(self._callbacks.values()), None)
        return len(self._callbacks), time.time() - oldest.created_at if oldest else 0

    def next(self, limit: int) -> Sequence[tuple[Callback, float]]:
        """Return the callbacks that come due first, each with the Unix time, in seconds, when it does."""
        offset = time.time() - time.monotonic()
        return [(self._callbacks[jti], offset + (self._due.since(jti) or 0)) for jti in self._due.names(limit)]
