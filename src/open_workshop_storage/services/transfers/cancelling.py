"""Ends transfers from outside, wherever they run or wait, and has uploads left to other requests."""

from __future__ import annotations

import asyncio
import time

from open_workshop_storage.core.errors import JobMissing, ServiceUnavailable, TransferCancelled, TransferEnded
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.store import LEASE_SECONDS, Interruption, JobStore
from open_workshop_storage.services.transfers.attempts import Attempts
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.runs import Runs

# A worker that does not answer loses the job when its lease runs out, and the one that takes it is asked then.
_PATIENCE_SECONDS = LEASE_SECONDS + 10.0
_PAUSE_SECONDS = 0.5
_POLL_SECONDS = 0.05


async def cancel_transfer(store: JobStore, job_id: str) -> Job:
    """Have a job's attempt ended by the worker that has it, or by any if it waits; return the record of the end.

    Raises:
        JobMissing: There is none of this name.
        TransferEnded: The attempt has another end.
        ServiceUnavailable: The store is away, or no worker has ended the attempt.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    asked_at = 0.0
    while not (job := await _known(store, job_id)).ended:
        now = time.monotonic()
        if now > deadline:
            raise ServiceUnavailable
        if now > asked_at + _PAUSE_SECONDS:
            await store.interrupt(job_id, Interruption.CANCEL)
            asked_at = now
        await asyncio.sleep(_POLL_SECONDS)
    if not asked_at or job.message != TransferCancelled.message:
        raise TransferEnded
    return job


async def _known(store: JobStore, job_id: str) -> Job:
    job = await store.get(job_id)
    if job is None:
        raise JobMissing
    return job


async def follow_interruptions(store: JobStore, runs: Runs, attempts: Attempts, lifetime: Lifetime) -> None:
    """Leave this worker's uploads to other requests, and end transfers, when that is asked for, until cancelled."""
    while True:
        job_id, interruption = await store.interrupted()
        run = runs.at(job_id)
        if interruption is Interruption.LEAVE:
            if run is not None:
                run.interrupted.set()
        elif run is None:
            lifetime.start(_end_waiting(store, attempts, job_id))
        elif not run.job.ended:
            # What is packed stays so, also while it is packed again or moved.
            run.stop(TransferCancelled())


async def _end_waiting(store: JobStore, attempts: Attempts, job_id: str) -> None:
    job = await store.get(job_id)
    if job is not None and job.owner is None and not job.ended:
        await attempts.end_waiting(job, TransferCancelled())
