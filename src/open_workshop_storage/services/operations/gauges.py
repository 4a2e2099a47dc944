"""Reads, every few seconds, the metrics that are levels and not counts."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.observability import metrics
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.runs import Runs
from open_workshop_storage.services.transfers.slots import Slots

_PAUSE_SECONDS = 10.0


class Gauges:
    """Records a loader worker's own levels, and those that all workers share."""

    def __init__(self, workspaces: Workspaces, store: JobStore, lifetime: Lifetime, slots: Slots, runs: Runs) -> None:
        self._workspaces = workspaces
        self._store = store
        self._lifetime = lifetime
        self._slots = slots
        self._runs = runs

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._read()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read(self) -> None:
        held = self._runs.slots
        for slot, used in self._slots.used().items():
            metrics.SLOTS_USED.set(used + held[slot], {"slot": slot})
        metrics.OPEN_SOCKETS.set(self._lifetime.open_sockets)
        # A metric that cannot be read is left out.
        with suppress(ServiceUnavailable):
            for slot, waiting in (await self._store.waiting()).items():
                metrics.JOBS_WAITING.set(waiting, {"slot": slot})
            pending, oldest_seconds = await self._store.outbox.pending()
            metrics.CALLBACKS_PENDING.set(pending)
            metrics.OLDEST_CALLBACK.set(oldest_seconds)
        with suppress(OSError):
            metrics.DISK_FREE.set(await self._workspaces.free_bytes())
