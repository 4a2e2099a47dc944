"""What tests of job stores put in and take out."""

from __future__ import annotations

from typing import Any

from open_workshop_storage.core.job import Job, Slot
from open_workshop_storage.core.store import JobStore, WorkerReport
from tests.support.jobs import new_job

LIMITS = {Slot.UPLOAD: 1, Slot.DOWNLOAD: 1, Slot.REPACK: 1, Slot.IMAGE: 0}


async def take_up_to(store: JobStore, owner: str, limit: int, **options: Any) -> list[Job]:
    """Take up to so many jobs."""
    jobs: list[Job] = []
    while len(jobs) < limit and (job := await store.take(owner, **options)):
        jobs.append(job)
    return jobs


def waiting_for(slot: Slot, **values: object) -> Job:
    """Return a job that waits for a slot."""
    return new_job(origin="url", slot=slot, **values)


def new_report(name: str, sockets: int = 0) -> WorkerReport:
    """Return what a worker says."""
    return WorkerReport(
        name=name, host="host", process=1, started_at=1.0, sockets=sockets, free_bytes=None, jobs=("job-12345678",)
    )


def altered(job: Job, **values: object) -> Job:
    return job.model_copy(update=values)


async def held_and_waiting(store: JobStore, slot: Slot) -> tuple[int, int]:
    queue = (await store.overview(40)).slots[slot]
    assert (await store.waiting())[slot] == queue.waiting
    return queue.held, queue.waiting
