"""Reads, now and then, the figures that are not counted as they happen."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.observability import metrics
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.slots import Slots

_PAUSE_SECONDS = 10.0


class Gauges:
    """What a loader's worker knows of itself and of what all share."""

    def __init__(self, workspaces: Workspaces, store: JobStore, lifetime: Lifetime, slots: Slots) -> None:
        self._workspaces = workspaces
        self._store = store
        self._lifetime = lifetime
        self._slots = slots

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._read()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read(self) -> None:
        for slot, (used, waiting) in self._slots.counts().items():
            metrics.SLOTS_USED.set(used, {"slot": slot})
            metrics.JOBS_WAITING.set(waiting, {"slot": slot})
        metrics.OPEN_SOCKETS.set(self._lifetime.open_sockets)
        # A figure that is missing says that it could not be had.
        with suppress(ServiceUnavailable):
            pending, oldest_seconds = await self._store.pending_callbacks()
            metrics.CALLBACKS_PENDING.set(pending)
            metrics.OLDEST_CALLBACK.set(oldest_seconds)
        with suppress(OSError):
            metrics.DISK_FREE.set(await self._workspaces.free_bytes())
