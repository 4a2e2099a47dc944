"""The jobs and slots that this worker holds."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from open_workshop_storage.core.errors import NewerRecord, ServiceUnavailable
from open_workshop_storage.core.job import Job, Slot
from open_workshop_storage.core.store import RENEW_SECONDS, JobStore, StaleJobError
from open_workshop_storage.services.storage.staging import Staging
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.counts import TransferCounts
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.lifetime import HasLeft, Lifetime

_POLL_SECONDS = 0.1
_ENDING_SECONDS = 5.0


class HandOver(Exception):
    """This worker is about to go; another one is to take the job on."""


def new_owner() -> str:
    """Return a name for a run that no other run has."""
    return uuid.uuid4().hex


@dataclass(eq=False)
class Runs:
    """Holds jobs for this worker, and slots in the name of the runs that use them, and renews both.

    A client's run holds its slot here (docs/ARCHITECTURE.md, "Waiting"), others by their job's record.

    Attributes:
        counts: What this worker's transfers add up to.
    """

    _store: JobStore
    _workspaces: Workspaces
    _staging: Staging
    _lifetime: Lifetime
    _runs: dict[str, JobRun] = field(default_factory=dict, init=False)
    _users: dict[Slot, set[str]] = field(default_factory=lambda: {slot: set() for slot in Slot}, init=False)
    counts: TransferCounts = field(default_factory=TransferCounts, init=False)

    @property
    def job_ids(self) -> Sequence[str]:
        """The jobs that this worker holds."""
        return list(self._runs)

    @property
    def slots(self) -> Mapping[Slot, int]:
        """How many slots of each kind this worker holds."""
        held = Counter(run.job.slot for run in self._runs.values())
        return {slot: len(users) + held[slot] for slot, users in self._users.items()}

    def at(self, job_id: str) -> JobRun | None:
        """Return this worker's run at a job, if there is one."""
        return self._runs.get(job_id)

    async def take(self, *, expired: bool) -> Job | None:
        """Take a job that waits, first one whose files are on this host; raises as `JobStore.take`."""
        return await self._store.take(new_owner(), home=self._staging.home, expired=expired)

    def begin_run(self, job: Job, has_left: HasLeft | None = None) -> JobRun:
        """Begin a run at a job that was saved or taken with this run as its owner.

        Args:
            has_left: Of the client that waits for the answer of this run.
        """
        # This worker may itself have taken a job that it lost while it was asleep.
        if job.job_id in self._runs:
            self._runs[job.job_id].stop(StaleJobError())
        run = JobRun(self._store, job, self._workspaces.folder(job.job_id), self.counts, self._staging.home, has_left)
        self._runs[job.job_id] = run
        if self._lifetime.stopping.is_set() and job.origin == "url":
            run.stop(HandOver())
        return run

    def release(self, run: JobRun) -> None:
        """End a run: its lease is not renewed any more."""
        if self._runs.get(run.job.job_id) is run:
            del self._runs[run.job.job_id]
        run.spans.end(run.job.reason)

    async def renew(self) -> None:
        """Renew the leases of all runs, and stop those that lost theirs."""
        if not self._runs:
            return
        runs = dict(self._runs)
        for job_id in await self._store.renew([run.job for run in runs.values()]):
            try:
                held = await self._store.get(job_id)
                if held is None:
                    await self._store.restore(runs[job_id].job)
                elif held.owner is not None:
                    raise StaleJobError
            except (StaleJobError, NewerRecord):
                runs[job_id].stop(StaleJobError())
            # Without an owner the job has just been ended, by this run perhaps, which is about to hear of it.

    @asynccontextmanager
    async def in_turn(self, slot: Slot, holder: str, since: float | None = None) -> AsyncIterator[None]:
        """Hold a slot, after a wait in the queue if all are taken, or for the store to come back.

        Args:
            since: Unix time, in seconds, that decides over the place in the queue; `None` for now.
        """
        try:
            while not await self._entered(slot, holder, since):
                await self._store.slot_granted(holder, RENEW_SECONDS)
            self._users[slot].add(holder)
            yield
        finally:
            self._users[slot].discard(holder)
            # Where the store is away it runs out by itself, since it is not renewed any more.
            with suppress(ServiceUnavailable):
                await self._store.leave(slot, holder)

    async def _entered(self, slot: Slot, holder: str, since: float | None) -> bool:
        try:
            return await self._store.enter(slot, holder, since)
        except ServiceUnavailable:
            return False

    async def renew_slots(self) -> None:
        """Keep the slots that runs use for another lease; those that wait for one ask again by themselves."""
        for slot, users in self._users.items():
            renewed = set(users)
            if renewed:
                await self._store.renew_slots(slot, renewed)
            # One that was given back during the call may have been counted again.
            for holder in renewed - users:
                await self._store.leave(slot, holder)

    async def stop(self, grace_seconds: float) -> None:
        """End all runs of a worker that is about to go.

        Fetches are handed over to other workers at once, and uploads in several requests are paused. After the grace
        period the runs that have their file are handed over too, and a body that is still coming in ends its attempt.
        Clients have until then to hear their ends.
        """
        self._lifetime.stop()
        for run in self._runs.values():
            run.interrupt()
            if run.job.origin == "url":
                run.stop(HandOver())
        await self._wait_for_end(grace_seconds)
        for run in self._runs.values():
            needs_client = run.job.origin == "upload" and not run.is_received
            run.stop(ServiceUnavailable() if needs_client else HandOver())
        await self._wait_for_end(_ENDING_SECONDS)

    async def _wait_for_end(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._runs or self._lifetime.attended:
                    await asyncio.sleep(_POLL_SECONDS)
