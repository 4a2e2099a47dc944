"""Ends transfers from outside, wherever they run or wait."""

from __future__ import annotations

import asyncio
import time

from open_workshop_storage.core.errors import JobMissing, ServiceUnavailable, TransferCancelled, TransferEnded
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.store import LEASE_SECONDS, Interruption, JobStore

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
    job = await _known(store, job_id)
    if job.ended:
        raise TransferEnded
    deadline = time.monotonic() + _PATIENCE_SECONDS
    asked_at = 0.0
    while not job.ended:
        now = time.monotonic()
        if now > deadline:
            raise ServiceUnavailable
        if now > asked_at + _PAUSE_SECONDS:
            await store.interrupt(job_id, Interruption.CANCEL)
            asked_at = now
        await asyncio.sleep(_POLL_SECONDS)
        job = await _known(store, job_id)
    if job.message != TransferCancelled.message:
        raise TransferEnded
    return job


async def _known(store: JobStore, job_id: str) -> Job:
    job = await store.get(job_id)
    if job is None:
        raise JobMissing
    return job
