"""Reports what this worker does: to the job store, for the overview of all workers, and as gauges of the metrics."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from contextlib import suppress

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.store import JobStore, WorkerReport
from open_workshop_storage.observability import metrics
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.runs import Runs

_REPORT_PAUSE_SECONDS = 2.0
_LEVELS_PAUSE_SECONDS = 10.0
_MOST_JOBS = 1000


class Reports:
    """Reports a loader worker's jobs and sockets, its counts since the last report, and levels that workers share."""

    def __init__(self, store: JobStore, workspaces: Workspaces, lifetime: Lifetime, runs: Runs) -> None:
        self._store = store
        self._workspaces = workspaces
        self._lifetime = lifetime
        self._runs = runs
        self._name = uuid.uuid4().hex
        self._started_at = time.time()

    async def run(self) -> None:
        """Report to the store until cancelled."""
        while True:
            await self.report()
            await asyncio.sleep(_REPORT_PAUSE_SECONDS)

    async def run_levels(self) -> None:
        """Record the gauges until cancelled."""
        while True:
            await self._record_levels()
            await asyncio.sleep(_LEVELS_PAUSE_SECONDS)

    async def report(self) -> None:
        """Report once; counts that cannot be stored now go with the next report."""
        report = WorkerReport(
            name=self._name,
            host=socket.gethostname(),
            process=os.getpid(),
            started_at=self._started_at,
            sockets=self._lifetime.open_sockets,
            free_bytes=await self._workspaces.free_bytes(),
            jobs=tuple(self._runs.job_ids[:_MOST_JOBS]),
        )
        counts = self._runs.counts.take()
        try:
            await self._store.report(report, counts)
        except ServiceUnavailable:
            self._runs.counts.give_back(counts)

    async def _record_levels(self) -> None:
        for slot, held in self._runs.slots.items():
            metrics.SLOTS_USED.set(held, {"slot": slot})
        metrics.OPEN_SOCKETS.set(self._lifetime.open_sockets)
        # A metric that cannot be read is left out.
        with suppress(ServiceUnavailable):
            for slot, waiting in (await self._store.waiting()).items():
                metrics.JOBS_WAITING.set(waiting, {"slot": slot})
            pending, oldest_seconds = await self._store.outbox.pending()
            metrics.CALLBACKS_PENDING.set(pending)
            metrics.OLDEST_CALLBACK.set(oldest_seconds)
        if (free_bytes := await self._workspaces.free_bytes()) is not None:
            metrics.DISK_FREE.set(free_bytes)
