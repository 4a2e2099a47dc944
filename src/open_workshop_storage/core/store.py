"""The contract of a job store, fulfilled by `stores.memory` and `stores.redis`.

A store keeps the jobs' records, hands each change to the sockets that watch the job, knows which worker holds a
job and which callbacks wait, and counts the holders of concurrency slots. Every method is one atomic step. Methods
raise `core.errors.ServiceUnavailable` while the store cannot be reached.

A record that a newer version of this program wrote is left alone: `take`, `idle` and `paused` pass over it, and
`get` and `watch` raise `core.errors.NewerRecord`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.events import Event, EventKind
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.overview import Overview, WorkerReport


class StaleJobError(Exception):
    """The record is not the one that the store holds: the job was changed, taken or removed."""


class Slot(StrEnum):
    """What may be done only so many times at once."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    REPACK = "repack"
    IMAGE = "image"


class Hold(NamedTuple):
    """A run's hold on a slot.

    Attributes:
        holder: The run.
        limit: How many slots of the kind there are; 0 for any number.
    """

    slot: Slot
    holder: str
    limit: int


class Interruption(StrEnum):
    """What the worker that works on a job is asked for."""

    LEAVE = "leave"
    """To leave the upload that it receives to another request."""
    CANCEL = "cancel"
    """To end the attempt; any worker does that to a job that waits."""


class JobStore(Protocol):
    """Where jobs live."""

    async def ping(self) -> None:
        """Return if the store can be reached and takes changes."""

    async def get(self, job_id: str) -> Job | None:
        """Return a job's present record."""

    async def save(
        self,
        job: Job,
        event: EventKind | None,
        callback: Callback | None = None,
        *,
        withdrawn: str | None = None,
        takes: Hold | None = None,
        leaves: Hold | None = None,
    ) -> Job:
        """Store a changed record, publish the event and put the callback into the outbox, all in one step.

        Args:
            withdrawn: `jti` of a callback that is taken out of the outbox in the same step.
            takes: A slot that is taken in the same step, if one is free now.
            leaves: A slot that is given back in the same step, also if the record is stale; not with `takes`.

        A job that needs a worker and names an owner gets a lease; one without an owner waits to be taken. A paused
        one has no lease and is not taken. The callback is held by the caller for `LEASE_SECONDS`, for its first
        delivery.

        Returns:
            The record as stored, with its new version.

        Raises:
            StaleJobError: The store holds another version of the job, or none, or has forgotten it.
            StorageBusy: No slot is free; nothing is stored.
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

    async def take(self, owner: str, limit: int, *, home: str | None = None, expired: bool = True) -> list[Job]:
        """Make this run the owner of up to `limit` jobs that need a worker and have none, the oldest first.

        Args:
            home: The host of this worker. Jobs whose files are on another host are left to its own workers for
                `LEASE_SECONDS`.
            expired: Take those too whose owner's lease ran out.
        """

    async def renew(self, jobs: Collection[Job]) -> set[str]:
        """Renew the leases of jobs; return the ids of those that their owner lost."""

    async def idle(self, seconds: float, limit: int) -> Sequence[Job]:
        """Return jobs that have ended and have not changed for so many seconds, the oldest first."""

    async def paused(self, seconds: float, limit: int) -> Sequence[Job]:
        """Return paused uploads that have not changed for so many seconds, the oldest first."""

    async def interrupt(self, job_id: str, interruption: Interruption) -> None:
        """Ask all workers for this."""

    async def interrupted(self) -> tuple[str, Interruption]:
        """Return the id of the next job that workers are asked for, and what they are asked for."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Follow a job: its state at first, then every later event in order.

        A reader that falls behind gets the latest of several progress events that wait for it. A wait for the next
        event may be cancelled, and loses none.
        """

    async def wait_for_work(self, timeout: float) -> None:
        """Return when a job may wait to be taken, at the latest after so many seconds."""

    async def claim_callbacks(self, limit: int) -> list[Callback]:
        """Return due callbacks, each held for `LEASE_SECONDS`, so that no other worker delivers them."""

    async def hold_callback(self, callback: Callback) -> None:
        """Hold a claimed callback for another `LEASE_SECONDS`."""

    async def retry_callback(self, callback: Callback, delay: float) -> None:
        """Store a callback's record and make it due in so many seconds, unless a later attempt at its job began."""

    async def settle_callback(self, callback: Callback) -> None:
        """Take a callback out of the outbox."""

    async def hurry_callback(self, jti: str) -> float | None:
        """Make a callback due now; return the seconds until it is due, `None` if no such callback waits.

        One that is due within `LEASE_SECONDS` stays so, since a worker may be delivering it.
        """

    async def callback_waits(self, jti: str) -> bool:
        """Return whether the outbox holds the report of this name."""

    async def pending_callbacks(self) -> tuple[int, float]:
        """Return how many callbacks are in the outbox, and the age of the oldest in seconds, 0 if there is none."""

    async def enter(self, slot: Slot, holder: str, limit: int, *, wait: bool, since: float | None = None) -> bool:
        """Take one of `limit` slots, 0 for any number; return whether the holder has one.

        With `wait`, a holder that finds none joins the queue, and keeps its place by asking again within
        `LEASE_SECONDS`; the first of the queue gets the next slot that is left.

        Args:
            since: Unix time, in seconds, that decides over the place in the queue; `None` for now.
        """

    async def slot_granted(self, holder: str, timeout: float) -> None:
        """Return when a slot has been given to this waiting holder, at the latest after so many seconds."""

    async def leave(self, slot: Slot, holder: str, limit: int) -> None:
        """Give a slot, or the place in the queue, back."""

    async def renew_slots(self, slot: Slot, holders: Collection[str]) -> None:
        """Keep slots that are in use for another `LEASE_SECONDS`, those that the store has lost too."""

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
