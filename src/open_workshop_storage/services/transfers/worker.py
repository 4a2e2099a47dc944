"""What a loader's process does besides answering requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from open_workshop_storage.core.errors import ServiceUnavailable, TransferCancelled
from open_workshop_storage.core.store import LEASE_SECONDS, RENEW_SECONDS, Interruption, JobStore
from open_workshop_storage.services.manager.callback_delivery import Callbacks
from open_workshop_storage.services.transfers.attempts import Attempts
from open_workshop_storage.services.transfers.cleanup import Cleanup
from open_workshop_storage.services.transfers.lifetime import Lifetime, keep_doing
from open_workshop_storage.services.transfers.runs import Runs
from open_workshop_storage.services.transfers.transfers import Transfers

_logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
# How long living workers have, once Redis is back, to renew leases that ran out. A renewal that Redis left without an
# answer just before its return fails first.
_RENEWALS_SECONDS = 2 * RENEW_SECONDS


@dataclass(eq=False)
class Worker:
    """Takes jobs that wait, renews what this process holds, delivers callbacks and cleans up."""

    _store: JobStore
    _transfers: Transfers
    _runs: Runs
    _attempts: Attempts
    _callbacks: Callbacks
    _cleanup: Cleanup
    _lifetime: Lifetime

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_doing(self._store.run))
            group.create_task(keep_doing(self._take_jobs))
            group.create_task(keep_doing(lambda: self._renew(self._runs.renew)))
            group.create_task(keep_doing(lambda: self._renew(self._runs.renew_slots)))
            group.create_task(keep_doing(self.follow_interruptions))
            group.create_task(keep_doing(self._callbacks.run))
            group.create_task(keep_doing(self._cleanup.run))

    async def follow_interruptions(self) -> None:
        """Leave uploads to other requests, and end transfers, when that is asked for, until cancelled."""
        while True:
            job_id, interruption = await self._store.interrupted()
            run = self._runs.at(job_id)
            if interruption is Interruption.LEAVE:
                if run is not None:
                    run.interrupt()
            elif run is None:
                self._lifetime.start(self._cancel_waiting(job_id))
            elif not run.job.ended:
                # What is packed stays so, also while it is packed again or moved.
                run.stop(TransferCancelled())

    async def _cancel_waiting(self, job_id: str) -> None:
        job = await self._store.get(job_id)
        if job is not None and job.owner is None and not job.ended:
            await self._attempts.end_waiting(job, TransferCancelled())

    async def _take_jobs(self) -> None:
        looked = all_renewed = time.monotonic()
        away = False
        while not self._lifetime.stopping.is_set():
            now = time.monotonic()
            # If this worker was asleep, the whole host may have been, and others have not lost their jobs either.
            if away or now > looked + LEASE_SECONDS:
                all_renewed = now + _RENEWALS_SECONDS
            try:
                job = await self._runs.take(expired=now >= all_renewed)
                away = False
            except ServiceUnavailable:
                job, away = None, True
            looked = time.monotonic()
            if job is not None:
                self._lifetime.start(self._transfers.resume(job))
            await self._store.wait_for_work(_POLL_SECONDS)

    async def _renew(self, renew: Callable[[], Awaitable[None]]) -> None:
        pause = RENEW_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                await renew()
                pause = RENEW_SECONDS
            except ServiceUnavailable:
                if pause == RENEW_SECONDS:
                    _logger.warning("leases not renewed: Redis is away")
                pause = _POLL_SECONDS
