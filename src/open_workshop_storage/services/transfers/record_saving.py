"""Saves the record of a job that is being worked on, also if Redis goes away or an answer is lost."""

from __future__ import annotations

import asyncio

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.errors import NewerRecord, ServiceUnavailable
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.store import JobStore, StaleJobError

_RETRY_SECONDS = 1.0


async def save_for_sure(
    store: JobStore, known: Job, wanted: Job, event: EventKind | None, callback: Callback | None
) -> Job:
    """Save as `JobStore.save` does, as often as it takes: work that is under way outlives an absence of Redis.

    Args:
        known: The record as this run last knew it stored.
        wanted: What is to be stored in its place.

    Raises:
        StaleJobError: Another run has the job, or the record is of a newer version.
    """
    while True:
        try:
            return await _save_once(store, known, wanted, event, callback)
        except ServiceUnavailable:
            await asyncio.sleep(_RETRY_SECONDS)


async def _save_once(
    store: JobStore, known: Job, wanted: Job, event: EventKind | None, callback: Callback | None
) -> Job:
    try:
        return await store.save(wanted, event, callback)
    except StaleJobError:
        try:
            held = await store.get(wanted.job_id)
        except NewerRecord:
            raise StaleJobError from None
        if held is None:
            # Redis has lost its data; this worker still knows the job.
            await store.restore(known)
            return await store.save(wanted, event, callback)
        # Only the answer to an earlier try may have been lost.
        if held == wanted.as_saved(ends=event is not None and event.final):
            return held
        # So may the answer to an earlier save that was given up; no other run has this one's name.
        if held.owner == known.owner:
            return await store.save(wanted.model_copy(update={"version": held.version}), event, callback)
        raise
