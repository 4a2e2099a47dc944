"""Time limits for many waits of one task."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self


class LimitedWaits:
    """Limits waits that one task does one after the other, with one timer for all of them.

    `asyncio.timeout` around each sets a timer and takes it back, which for the chunks of a fast body is much of all
    that is done. This timer is set again only when it rings, if the wait that is then going on has time left.

    All waits lie in one `async with` block, which raises `TimeoutError` when it has cut one off.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._until: float | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def begin(self, seconds: float) -> None:
        """Begin a wait that may take so many seconds; `math.inf` for any time."""
        self._until = self._loop.time() + seconds
        if seconds <= 0:
            # Waits that are each over at once are cut off too.
            self._timeout.reschedule(self._until)
        elif seconds < math.inf and (self._timer is None or self._until < self._timer.when()):
            self._ring_at(self._until)

    def hurry(self, seconds: float) -> None:
        """Let the wait that is going on, if there is one, take only so many seconds from now on."""
        if self._until is not None and not self._timeout.expired():
            self.begin(seconds)

    def end(self) -> None:
        """End a wait."""
        self._until = None
        if self._timeout.when() is not None and not self._timeout.expired():
            # Its time was over, and the task is not cancelled yet.
            self._timeout.reschedule(None)

    def _ring_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._until is None or self._until == math.inf:
            return
        if self._loop.time() < self._until:
            self._ring_at(self._until)
        else:
            self._timeout.reschedule(self._until)
