"""Tells the job store what this worker does, for the operators' overview of all workers."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.store import JobStore, WorkerReport
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.runs import Runs

_PAUSE_SECONDS = 2.0
_MOST_JOBS = 1000


class Reports:
    """Reports what this worker holds, and what it has counted since its last report."""

    def __init__(self, store: JobStore, workspaces: Workspaces, lifetime: Lifetime, runs: Runs) -> None:
        self._store = store
        self._workspaces = workspaces
        self._lifetime = lifetime
        self._runs = runs
        self._name = uuid.uuid4().hex
        self._started_at = time.time()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self.report()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def report(self) -> None:
        """Report once; what cannot be told now is told with the next report."""
        report = WorkerReport(
            name=self._name,
            host=socket.gethostname(),
            process=os.getpid(),
            started_at=self._started_at,
            sockets=self._lifetime.open_sockets,
            free_bytes=await self._free_bytes(),
            jobs=tuple(self._runs.job_ids[:_MOST_JOBS]),
        )
        counts = self._runs.metrics.take()
        try:
            await self._store.report(report, counts)
        except ServiceUnavailable:
            self._runs.metrics.give_back(counts)

    async def _free_bytes(self) -> int | None:
        try:
            return await self._workspaces.free_bytes()
        except OSError:
            return None
