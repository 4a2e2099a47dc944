"""What the process of a job store is told about: work, slots, and its jobs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from open_workshop_storage.core.store import Interruption


class Notices:
    """The part of both job stores that waits for such news."""

    def __init__(self) -> None:
        self._work = asyncio.Event()
        self._granted: dict[str, asyncio.Event] = {}
        self._interrupted: asyncio.Queue[tuple[str, Interruption]] = asyncio.Queue()

    async def wait_for_work(self, timeout: float) -> None:
        """Return when this worker is woken for a job, at the latest after so many seconds."""
        await _wait(self._work, timeout)
        self._work.clear()

    async def slot_granted(self, holder: str, timeout: float) -> None:
        """Return when a slot was given to this waiting holder, at the latest after so many seconds."""
        if holder in self._granted:
            await _wait(self._granted[holder], timeout)

    async def interrupted(self) -> tuple[str, Interruption]:
        """Return what workers are asked for next."""
        return await self._interrupted.get()


async def _wait(event: asyncio.Event, timeout: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await event.wait()
