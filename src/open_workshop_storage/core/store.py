"""The contract of a job store, fulfilled by `stores.memory` and `stores.redis`.

A store keeps the jobs' records, hands each change to the sockets that watch the job, knows which worker holds a
job and which callbacks wait, and counts the holders of concurrency slots. Every method is one atomic step. Methods
raise `core.errors.ServiceUnavailable` while the store cannot be reached.

A record that a newer version of this program wrote is left alone: `take`, `idle` and `paused` pass over it, and
`get` and `watch` raise `core.errors.NewerRecord`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.events import Event, EventKind
from open_workshop_storage.core.job import Job, Slot

LEASE_SECONDS = 15.0
"""How long a worker holds a job, a callback or a slot without renewing it."""
RENEW_SECONDS = 5.0
"""How often a worker renews what it holds, in seconds."""
SLOTS_OF_JOBS = Slot.REPACK, Slot.IMAGE, Slot.DOWNLOAD
"""What jobs without an owner may wait for, in the order in which a free worker looks. Of one kind, the oldest comes
first. Those that have their file are taken before those to be fetched."""
STEP_SECONDS = 10
"""The length of a step: metrics are added up over one."""
STEPS = 60
"""How many steps a store keeps, the present one among them."""
REPORT_SECONDS = 15.0
"""How long a worker counts as there after its last report."""


class WorkerReport(BaseModel):
    """What one worker says of itself, every few seconds.

    Attributes:
        name: One that no other worker has.
        started_at: Unix time, seconds.
        sockets: How many clients watch the progress of transfers over it.
        free_bytes: Free space on its disk; `None` if that cannot be asked.
        jobs: Ids of the jobs that it works on, 1,000 at most.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    host: str
    process: int
    started_at: float
    sockets: int
    free_bytes: int | None
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class SlotQueue:
    """The holders of one kind of slots: how many have one, how many wait, and which wait, the first ones first."""

    held: int
    waiting: int
    first: Sequence[str]


@dataclass(frozen=True)
class Overview:
    """All that waits, runs or ended a short time ago.

    Attributes:
        at: The store's time, Unix time in seconds.
        unfinished: Jobs that need a worker, with or without one, in the order in which their leases end.
        paused: Uploads that wait for their next request, the latest first.
        ended: Jobs that have ended, the latest first.
        callbacks: What waits in the outbox, the next to be delivered first, each with the Unix time, in seconds, when
            it comes due.
        totals: How many there are of these four, listed or not, by their names here.
        oldest_callback_seconds: The age of the callback that has waited longest; 0 if there is none.
        slots: Who has and who wants them, by the name of the kind.
        workers: What workers last said, each with the seconds that have passed since.
        metrics: What all workers counted, by the Unix time, in seconds, at which a step began; the oldest first.
    """

    at: float
    unfinished: Sequence[Job]
    paused: Sequence[Job]
    ended: Sequence[Job]
    callbacks: Sequence[tuple[Callback, float]]
    totals: Mapping[str, int]
    oldest_callback_seconds: float
    slots: Mapping[str, SlotQueue]
    workers: Sequence[tuple[WorkerReport, float]]
    metrics: Mapping[int, Mapping[str, int]]


class StaleJobError(Exception):
    """The record is not the one that the store holds: the job was changed, taken or removed."""


class Interruption(StrEnum):
    """What the worker that works on a job is asked for."""

    LEAVE = "leave"
    """To leave the upload that it receives to another request."""
    CANCEL = "cancel"
    """To end the attempt; any worker does that to a job that waits."""


class Outbox(Protocol):
    """The callbacks that wait for their delivery; saving a job puts them in."""

    async def claim(self, limit: int) -> list[Callback]:
        """Return due callbacks, each held for `LEASE_SECONDS`, so that no other worker delivers them."""

    async def hold(self, callback: Callback) -> None:
        """Hold a claimed callback for another `LEASE_SECONDS`, if it still waits."""

    async def retry(self, callback: Callback, delay: float) -> None:
        """Store a callback's record and make it due in so many seconds, unless a later attempt at its job began."""

    async def settle(self, callback: Callback) -> None:
        """Take a callback out."""

    async def hurry(self, jti: str) -> float | None:
        """Make a callback due now; return the seconds until it is due, `None` if no such callback waits.

        One that is due within `LEASE_SECONDS` stays so, since a worker may be delivering it.
        """

    async def contains(self, jti: str) -> bool:
        """Return whether the report of this name waits."""

    async def pending(self) -> tuple[int, float]:
        """Return how many callbacks wait, and the age of the oldest in seconds, 0 if there is none."""


class JobEvents(Protocol):
    """What a reader has not been told of a job yet.

    Attributes:
        waiting: Its state at first, then later events in order, which the reader takes out; of several progress
            events in a row only the latest waits.
        on_event: Called when there is one: within the call that tells of it, or soon after for a job with many readers.
            It raises nothing.
    """

    waiting: list[Event]
    on_event: Callable[[], object]


class JobStore(Protocol):
    """Where jobs live."""

    @property
    def outbox(self) -> Outbox:
        """The callbacks of the jobs."""

    async def ping(self) -> None:
        """Return if the store can be reached and takes changes."""

    async def get(self, job_id: str) -> Job | None:
        """Return a job's present record."""

    async def save(
        self, job: Job, event: EventKind | None, callback: Callback | None = None, *, withdrawn: str | None = None
    ) -> Job:
        """Store a changed record, publish the event and put the callback into the outbox, all in one step.

        Args:
            withdrawn: `jti` of a callback that is taken out of the outbox in the same step.

        A job that needs a worker and names an owner gets a lease; one without an owner waits to be taken. A paused
        one has no lease and is not taken. The callback is held by the caller for `LEASE_SECONDS`, for its first
        delivery.

        An owner gets the slot that the record names, if it does not hold it yet. Where none is free, or others wait for
        one, the record is stored without the owner, and the job waits for the slot, if it is one of `SLOTS_OF_JOBS`. A
        slot that an owner had, and that the record names no more or for another owner, is given back.

        Returns:
            The record as stored, with its new version, and without an owner if it waits for a slot.

        Raises:
            StaleJobError: The store holds another version of the job, or none, or has forgotten it.
            StorageBusy: The slot is not free, and jobs do not wait for it; nothing is stored.
        """

    async def remove(self, job: Job) -> None:
        """Forget a job; its token cannot begin it again, unless it is an upload that failed.

        Raises:
            StaleJobError: The store holds another version of it.
        """

    async def forgotten(self, job_id: str) -> str | None:
        """Return the last status of a job that was removed and whose token is still valid."""

    async def restore(self, job: Job) -> None:
        """Store the record of a running job again if the store has lost it with all else that it held.

        Raises:
            StaleJobError: The job was removed, after another run had brought it to its end.
        """

    async def take(self, owner: str, *, home: str | None = None, expired: bool = True) -> Job | None:
        """Make this run the owner of a job that needs a worker and has none, and of the slot that the job waits for.

        One that waits for no slot comes first, then the oldest that waits for the first kind of `SLOTS_OF_JOBS` that
        is free.

        Args:
            home: The host of this worker. Jobs whose files are on another host are left to its own workers for
                `LEASE_SECONDS`.
            expired: Take one too whose owner's lease ran out; it loses its slot, and waits for one again.
        """

    async def renew(self, jobs: Collection[Job]) -> set[str]:
        """Renew the leases of jobs and their owners' hold on slots; return the ids of those that their owner lost."""

    async def idle(self, seconds: float, limit: int) -> Sequence[Job]:
        """Return jobs that have ended and have not changed for so many seconds, the oldest first."""

    async def paused(self, seconds: float, limit: int) -> Sequence[Job]:
        """Return paused uploads that have not changed for so many seconds, the oldest first."""

    async def interrupt(self, job_id: str, interruption: Interruption) -> None:
        """Ask all workers for this."""

    async def interrupted(self) -> tuple[str, Interruption]:
        """Return the id of the next job that workers are asked for, and what they are asked for."""

    async def watch(self, job_id: str) -> JobEvents:
        """Follow a job until `unwatch`: its state at first, then every later event in order."""

    async def unwatch(self, job_id: str, events: JobEvents) -> None:
        """End what `watch` began."""

    async def wait_for_work(self, timeout: float) -> None:
        """Return when this worker may find a job to take, at the latest after so many seconds.

        Of several workers that wait, one is woken for each job. One that has taken a job and may take another is not
        kept waiting.
        """

    async def enter(self, slot: Slot, holder: str, since: float | None = None) -> bool:
        """Take a slot for a holder that is no job's owner, or takes its turn by itself; return whether it has one.

        A holder that finds none joins the queue, and keeps its place by asking again within `LEASE_SECONDS`; the first
        of the queue gets the next slot that is left. Jobs wait in the same order.

        Args:
            since: Unix time, in seconds, that decides over the place in the queue; `None` for now. A job's is that of
                its creation.
        """

    async def slot_granted(self, holder: str, timeout: float) -> None:
        """Return when a slot has been given to this waiting holder, at the latest after so many seconds."""

    async def leave(self, slot: Slot, holder: str) -> None:
        """Give a slot, or the place in the queue, back."""

    async def renew_slots(self, slot: Slot, holders: Collection[str]) -> None:
        """Keep slots that are in use for another `LEASE_SECONDS`, those that the store has lost too."""

    async def waiting(self) -> Mapping[Slot, int]:
        """Return how many jobs and holders wait for each slot."""

    async def report(self, worker: WorkerReport, metrics: Mapping[str, int]) -> None:
        """Keep what a worker says of itself for `REPORT_SECONDS`, and add what it counted to the present step."""

    async def overview(self, limit: int) -> Overview:
        """Return what the store holds now.

        Args:
            limit: How many jobs, and how many callbacks, are listed at most. Half of the jobs are unfinished ones, a
                quarter each paused and ended ones.
        """

    async def run(self) -> None:
        """Do what the store has to do in the background, until cancelled."""
