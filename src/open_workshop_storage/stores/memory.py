"""The job store of a loader that runs as one process: everything in memory, gone with the process."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice, takewhile

from cachetools import TLRUCache

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.errors import StorageBusy
from open_workshop_storage.core.events import EventKind, event_of, first_event
from open_workshop_storage.core.job import Job, Slot
from open_workshop_storage.core.store import (
    LEASE_SECONDS,
    SLOTS_OF_JOBS,
    STEP_SECONDS,
    STEPS,
    Interruption,
    JobEvents,
    Overview,
    SlotQueue,
    StaleJobError,
    WorkerReport,
)
from open_workshop_storage.stores.fanout import Notices
from open_workshop_storage.stores.memory_queues import MemoryOutbox, MemoryQueue


class MemoryJobStore(Notices):
    """Fulfils `core.store.JobStore`, which documents the methods; none awaits between reading and writing.

    Args:
        limits: How many slots of each kind there are; 0, or no entry, for any number.
    """

    def __init__(self, limits: Mapping[Slot, int] | None = None) -> None:
        super().__init__()
        self._limits = limits or {}
        self._jobs: dict[str, Job] = {}
        # So that no question looks through all jobs; those with an owner, paused and ended ones in the order of their
        # last change.
        self._waiting: dict[Slot | None, MemoryQueue] = {slot: MemoryQueue() for slot in (*Slot, None)}
        self._owned: dict[str, None] = {}
        self._paused: dict[str, None] = {}
        self._ended: dict[str, None] = {}
        self._forgotten: TLRUCache[str, tuple[float, str]] = TLRUCache(
            math.inf, lambda job_id, forgotten, now: forgotten[0], timer=time.time
        )
        self.outbox = MemoryOutbox(self._jobs)
        self._held: dict[Slot, set[str]] = {slot: set() for slot in Slot}
        self._queues: dict[Slot, MemoryQueue] = {slot: MemoryQueue() for slot in Slot}
        self._reports: dict[str, tuple[WorkerReport, float]] = {}
        self._metrics: dict[int, Counter[str]] = {}

    async def ping(self) -> None:
        """Return: memory is always there."""

    async def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    async def save(
        self, job: Job, event: EventKind | None, callback: Callback | None = None, *, withdrawn: str | None = None
    ) -> Job:
        self._check(job)
        if job.version == 0 and await self.forgotten(job.job_id):
            raise StaleJobError
        job = self._with_slot(job.as_saved(ends=event is not None and event.final))
        before = self._jobs.get(job.job_id)
        self._jobs[job.job_id] = job
        self._sort_in(job)
        self.outbox.drop(withdrawn or "")
        if callback is not None:
            self.outbox.keep(callback, LEASE_SECONDS)
        if event is not None:
            self._fanout.publish(job.job_id, event_of(job, event))
        if before is not None and (before.owner, before.slot) != (job.owner, job.slot):
            self._give_back(before)
        return job

    def _give_back(self, job: Job) -> None:
        if job.slot is not None and job.owner is not None:
            self._held[job.slot].discard(job.owner)
            self._serve(job.slot)

    def _with_slot(self, job: Job) -> Job:
        """Return the record with its slot, or, where that is not free, without an owner; StorageBusy without either."""
        if job.owner is None or job.slot is None or job.owner in self._held[job.slot]:
            return job
        others_wait = self._queues[job.slot] or self._waiting[job.slot]
        if self._limits.get(job.slot, 0) and (others_wait or not self._has_room(job.slot)):
            if job.slot not in SLOTS_OF_JOBS:
                raise StorageBusy
            return job.model_copy(update={"owner": None})
        self._held[job.slot].add(job.owner)
        return job

    def _sort_in(self, job: Job) -> None:
        self._sort_out(job.job_id)
        if not job.needs_worker:
            (self._paused if job.paused else self._ended)[job.job_id] = None
        elif job.owner is not None:
            self._owned[job.job_id] = None
        else:
            self._waiting[job.slot].join(job.job_id, job.created_at)
            self._serve(job.slot)

    def _sort_out(self, job_id: str) -> None:
        for names in (self._owned, self._paused, self._ended):
            names.pop(job_id, None)
        for queue in self._waiting.values():
            queue.leave(job_id)

    async def remove(self, job: Job) -> None:
        self._check(job)
        self._jobs.pop(job.job_id, None)
        self._sort_out(job.job_id)
        self._give_back(job)
        if not job.may_begin_again:
            self._forgotten[job.job_id] = job.claims.expires_at, job.status

    async def forgotten(self, job_id: str) -> str | None:
        return self._forgotten.get(job_id, (0.0, None))[1]

    def _check(self, job: Job) -> None:
        held = self._jobs.get(job.job_id)
        if job.version != (held.version if held else 0):
            raise StaleJobError

    async def restore(self, job: Job) -> None:
        """Return if the job is there, StaleJobError if not: memory loses nothing."""
        if job.job_id not in self._jobs:
            raise StaleJobError

    async def take(self, owner: str, *, home: str | None = None, expired: bool = True) -> Job | None:
        """Take a job that has no owner. One in this process never dies alone, so only waiting jobs are taken."""
        for slot in (None, *SLOTS_OF_JOBS):
            self._serve(slot)
            first = self._waiting[slot].first()
            if first is None or (slot is not None and not self._has_room(slot)):
                continue
            if slot is not None:
                self._held[slot].add(owner)
            taken = await self.save(self._jobs[first[1]].model_copy(update={"owner": owner}), None)
            for other in (None, *SLOTS_OF_JOBS):
                # There may be more.
                self._serve(other)
            return taken
        return None

    async def renew(self, jobs: Collection[Job]) -> set[str]:
        return {job.job_id for job in jobs if (held := self._jobs.get(job.job_id)) is None or held.owner != job.owner}

    async def idle(self, seconds: float, limit: int) -> Sequence[Job]:
        return self._unchanged(self._ended, seconds, limit)

    async def paused(self, seconds: float, limit: int) -> Sequence[Job]:
        return self._unchanged(self._paused, seconds, limit)

    def _unchanged(self, names: Iterable[str], seconds: float, limit: int) -> Sequence[Job]:
        before = time.time() - seconds
        unchanged = takewhile(lambda job: job.updated_at < before, map(self._jobs.__getitem__, names))
        return list(islice(unchanged, limit))

    async def interrupt(self, job_id: str, interruption: Interruption) -> None:
        self._interrupted.put_nowait((job_id, interruption))

    async def watch(self, job_id: str) -> JobEvents:
        watcher = self._fanout.add(job_id)
        watcher.start(first_event(self._jobs.get(job_id)))
        return watcher

    async def unwatch(self, job_id: str, events: JobEvents) -> None:
        self._fanout.remove(job_id, events)

    def _has_room(self, slot: Slot) -> bool:
        limit = self._limits.get(slot, 0)
        return limit == 0 or len(self._held[slot]) < limit

    def _serve(self, slot: Slot | None) -> None:
        """Give free slots to the first holders that wait, or wake the worker where a job is the first."""
        while slot is None or self._has_room(slot):
            job = self._waiting[slot].first()
            holder = self._queues[slot].first() if slot is not None else None
            if slot is None or holder is None or (job is not None and job < holder):
                if job is not None:
                    self._work.set()
                return
            self._queues[slot].leave(holder[1])
            self._held[slot].add(holder[1])
            if holder[1] in self._granted:
                self._granted[holder[1]].set()

    async def enter(self, slot: Slot, holder: str, since: float | None = None) -> bool:
        if holder not in self._held[slot]:
            self._queues[slot].join(holder, time.time() if since is None else since)
            self._serve(slot)
        if holder in self._held[slot]:
            self._granted.pop(holder, None)
            return True
        self._granted.setdefault(holder, asyncio.Event())
        return False

    async def leave(self, slot: Slot, holder: str) -> None:
        self._granted.pop(holder, None)
        self._queues[slot].leave(holder)
        self._held[slot].discard(holder)
        self._serve(slot)

    async def renew_slots(self, slot: Slot, holders: Collection[str]) -> None:
        """Do nothing: a holder in this process never dies alone."""

    async def waiting(self) -> Mapping[Slot, int]:
        return {slot: len(queue) + len(self._waiting[slot]) for slot, queue in self._queues.items()}

    async def report(self, worker: WorkerReport, metrics: Mapping[str, int]) -> None:
        self._reports[worker.name] = worker, time.time()
        step = _present_step()
        self._metrics = {at: counts for at, counts in self._metrics.items() if at > step - STEPS * STEP_SECONDS}
        self._metrics.setdefault(step, Counter()).update(metrics)

    async def overview(self, limit: int) -> Overview:
        now, step = time.time(), _present_step()
        waiting = [name for queue in self._waiting.values() for name in queue.names(limit // 2)]
        unfinished = [self._jobs[name] for name in islice([*self._owned, *waiting], limit // 2)]
        queued = await self.waiting()
        callbacks, oldest_callback_seconds = await self.outbox.pending()
        return Overview(
            at=now,
            unfinished=unfinished,
            paused=self._latest(self._paused, limit // 4),
            ended=self._latest(self._ended, limit // 4),
            callbacks=self.outbox.next(limit),
            totals={
                "unfinished": len(self._owned) + sum(map(len, self._waiting.values())),
                "paused": len(self._paused),
                "ended": len(self._ended),
                "callbacks": callbacks,
            },
            oldest_callback_seconds=oldest_callback_seconds,
            slots={
                slot: SlotQueue(len(self._held[slot]), queued[slot], queue.names(limit))
                for slot, queue in self._queues.items()
            },
            workers=[(report, now - at) for report, at in self._reports.values()],
            metrics={
                at: self._metrics.get(at, Counter())
                for at in range(step - (STEPS - 1) * STEP_SECONDS, step + 1, STEP_SECONDS)
            },
        )

    def _latest(self, names: dict[str, None], limit: int) -> Sequence[Job]:
        return [self._jobs[name] for name in islice(reversed(names), limit)]

    async def run(self) -> None:
        """Return: there is nothing to do."""


def _present_step() -> int:
    return int(time.time()) // STEP_SECONDS * STEP_SECONDS
