"""The callbacks that wait in the memory store."""

from __future__ import annotations

import time
from collections.abc import Sequence

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.leases import LEASE_SECONDS
from open_workshop_storage.stores.memory_queue import MemoryQueue


class MemoryOutbox:
    """Callbacks by their `jti`; no question takes hardly longer where many wait."""

    def __init__(self) -> None:
        self._callbacks: dict[str, Callback] = {}
        self._due = MemoryQueue()
        self._since = MemoryQueue()

    def __len__(self) -> int:
        return len(self._callbacks)

    def __contains__(self, jti: str) -> bool:
        return jti in self._callbacks

    def keep(self, callback: Callback, delay: float) -> None:
        """Keep a callback, due in so many seconds."""
        self.drop(callback.jti)
        self._callbacks[callback.jti] = callback
        self._due.join(callback.jti, time.monotonic() + delay)
        self._since.join(callback.jti, callback.created_at)

    def drop(self, jti: str) -> None:
        """Keep a callback no more."""
        self._callbacks.pop(jti, None)
        self._due.leave(jti)
        self._since.leave(jti)

    def claim(self, limit: int) -> list[Callback]:
        """Return due callbacks, and make them due again after `LEASE_SECONDS`."""
        now = time.monotonic()
        claimed: list[Callback] = []
        while len(claimed) < limit and (first := self._due.first()) is not None and first[0] <= now:
            self._due.move(first[1], now + LEASE_SECONDS)
            claimed.append(self._callbacks[first[1]])
        return claimed

    def hold(self, jti: str) -> None:
        """Make a callback due after `LEASE_SECONDS`, if it still waits."""
        self._due.move(jti, time.monotonic() + LEASE_SECONDS)

    def hurry(self, jti: str) -> float | None:
        """Make a callback due now, unless it may be under delivery; return the seconds until it is due."""
        due, now = self._due.since(jti), time.monotonic()
        if due is None:
            return None
        if due > now + LEASE_SECONDS:
            self._due.move(jti, now)
            return 0
        return max(due - now, 0)

    def oldest_seconds(self) -> float:
        """Return the age of the oldest callback in seconds, 0 if there is none."""
        oldest = self._since.first()
        return time.time() - oldest[0] if oldest else 0

    def next(self, limit: int) -> Sequence[tuple[Callback, float]]:
        """Return the callbacks that come due first, each with the Unix time, in seconds, when it does."""
        offset = time.time() - time.monotonic()
        return [(self._callbacks[jti], offset + (self._due.since(jti) or 0)) for jti in self._due.names(limit)]
