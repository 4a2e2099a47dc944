"""The jobs that this worker holds."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from open_workshop_storage.core import errors
from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.changes import Owned, Packed, Unwanted
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.slots import Slot
from open_workshop_storage.core.store import Interruption, JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.services.intake.upload_parts import cut_off
from open_workshop_storage.services.manager.callback_delivery import Callbacks, Outcome
from open_workshop_storage.services.storage.disk import full_disk_is_no_space
from open_workshop_storage.services.storage.staging import Staging
from open_workshop_storage.services.storage.workspaces import Workspaces, discard_parts, parts_of
from open_workshop_storage.services.transfers.endings import HandOver, Pause, Queued, Unreported, failure_of
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.metrics import TransferMetrics
from open_workshop_storage.services.transfers.tasks import Tasks
from open_workshop_storage.utils.processes.threads import run_to_end

_logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_ENDING_SECONDS = 5.0


HasLeft = Callable[[], Awaitable[bool]]
"""Tells whether a client has left since its whole body came, so that it does not hear what becomes of that."""


async def stays() -> bool:
    """Tell of a client that it has not left."""
    return False


def new_owner() -> str:
    """Return a name for a run that no other run has."""
    return uuid.uuid4().hex


@dataclass(eq=False)
class Runs:
    """Holds jobs for this worker, renews their leases and sees each attempt to its end.

    Attributes:
        metrics: What this worker's transfers add up to.
    """

    _store: JobStore
    _workspaces: Workspaces
    _staging: Staging
    _callbacks: Callbacks
    _tasks: Tasks
    _lifetime: Lifetime
    _runs: dict[str, JobRun] = field(default_factory=dict, init=False)
    metrics: TransferMetrics = field(default_factory=TransferMetrics, init=False)

    @property
    def job_ids(self) -> Sequence[str]:
        """The jobs that this worker holds."""
        return list(self._runs)

    @property
    def slots(self) -> Counter[Slot]:
        """How many slots the runs of this worker hold by their records."""
        return Counter(run.job.slot for run in self._runs.values() if run.job.slot is not None)

    async def take(self, *, expired: bool) -> Job | None:
        """Take a job that waits, first one whose files are on this host; raises as `JobStore.take`."""
        return await self._store.take(new_owner(), home=self._staging.home, expired=expired)

    def begin_run(self, job: Job, *, is_attended: bool = False) -> JobRun:
        """Begin a run at a job that was saved or taken with this run as its owner.

        Args:
            is_attended: Whether a client waits for the answer of this run.
        """
        # This worker may itself have taken a job that it lost while it was asleep.
        if job.job_id in self._runs:
            self._runs[job.job_id].stop(StaleJobError())
        run = JobRun(
            self._store, job, self._workspaces.folder(job.job_id), self.metrics, self._staging.home, is_attended
        )
        self._runs[job.job_id] = run
        if self._lifetime.stopping.is_set() and job.origin == "url":
            run.stop(HandOver())
        return run

    async def follow_interruptions(self) -> None:
        """Leave uploads to other requests, and end transfers, when that is asked for, until cancelled."""
        while True:
            job_id, interruption = await self._store.interrupted()
            run = self._runs.get(job_id)
            if interruption is Interruption.CANCEL:
                self._tasks.start(self._cancel(job_id, run))
            elif run is not None:
                run.interrupted.set()

    async def _cancel(self, job_id: str, run: JobRun | None) -> None:
        if run is not None:
            # What is packed stays so, also while it is packed again or moved.
            if not run.job.ended:
                run.stop(errors.TransferCancelled())
            return
        job = await self._store.get(job_id)
        if job is not None and job.owner is None and not job.ended:
            await self.end_waiting(job, errors.TransferCancelled())

    def release(self, run: JobRun) -> None:
        """End a run: its lease is not renewed any more."""
        if self._runs.get(run.job.job_id) is run:
            del self._runs[run.job.job_id]
        run.spans.end()

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
            except (StaleJobError, errors.NewerRecord):
                runs[job_id].stop(StaleJobError())
            # Without an owner the job has just been ended, by this run perhaps, which is about to hear of it.

    async def attempt(self, run: JobRun, work: Coroutine[Any, Any, Packed]) -> Job:
        """Do an attempt's work, and end the attempt with what comes of it.

        Returns:
            The packed job, once the first delivery of its report has ended, or the paused one.

        Raises:
            StorageError: What went wrong; the Manager is told of it, unless the work raised `Unreported`.
            UploadNotAccepted: The Manager does not want the packed file.
            ServiceUnavailable: The job went to another worker, which goes on with it.
        """
        end: Packed | Exception
        try:
            with full_disk_is_no_space():
                async with run.reporting():
                    end = await work
        except Exception as error:
            end = error
        if isinstance(end, errors.RepackFailed) and self._lifetime.stopping.is_set():
            # systemd ends the child processes together with this worker.
            end = HandOver()
        return await self._end(run, end)

    async def _end(self, run: JobRun, end: Packed | Exception) -> Job:
        """End a run, and report the attempt that ends with it to the Manager, unless another run is to go on."""
        log = job_log(_logger, run.job.job_id)
        callback: Callback | None = None
        answer: errors.StorageError | None = None
        try:
            match end:
                case Packed():
                    callback = await run.end(end)
                case Queued():
                    log.info("waits for a %s slot", run.job.slot)
                    answer = errors.ServiceUnavailable()
                case HandOver():
                    await run.hand_over()
                    log.info("handed over at %s", run.job.stage)
                    answer = errors.ServiceUnavailable()
                case Pause():
                    await run.pause(end.paused)
                    answer = end.answer
                    # Not before: a request that has taken the upload over may count them.
                    if end.cut is not None:
                        await run_to_end(cut_off, *end.cut)
                case StaleJobError():
                    raise end
                case _:
                    answer = failure_of(run.job, end)
                    # The next attempt may begin as soon as this one's end is known.
                    parts = await parts_of(run.workspace)
                    callback = await run.end(answer, is_reported=not isinstance(end, Unreported))
                    await discard_parts(run.workspace, parts)
        except StaleJobError:
            # The run's folder stays until the job's end: the received file in it is its successor's now.
            log.warning("lost to another worker")
            raise errors.ServiceUnavailable from None
        finally:
            self.release(run)
        delivery = None if callback is None else self._tasks.start(self._callbacks.deliver(callback))
        if answer is not None:
            raise answer
        if delivery is not None:
            await self._check_accepted(run.job, await delivery)
        return run.job

    async def _check_accepted(self, job: Job, outcome: Outcome) -> None:
        held: Job | None = job
        if outcome is Outcome.SETTLED:
            # It has been settled before: well, if it had the file moved.
            held = None
            with suppress(errors.ServiceUnavailable):
                held = await self._store.get(job.job_id)
        elif outcome is not Outcome.REFUSED:
            return
        if held is not None and held.moved_bytes is None:
            # A client that lost this answer asks later.
            with suppress(StaleJobError, errors.ServiceUnavailable):
                await self._store.save(held.changed(Unwanted()), None)
            raise errors.UploadNotAccepted

    async def end_waiting(self, job: Job, error: errors.StorageError) -> None:
        """End a job that waits for a request or a worker with an error, unless it has got one since, or its end."""
        try:
            claimed = await self._store.save(job.changed(Owned(new_owner())), None)
        except StaleJobError:
            return
        with suppress(errors.StorageError):
            await self._end(self.begin_run(claimed), error)

    async def stop(self, grace_seconds: float) -> None:
        """End all runs of a worker that is about to go.

        Fetches are handed over to other workers at once, and uploads in several requests are paused. After the grace
        period the runs that have their file are handed over too, and a body that is still coming in ends its attempt.
        Clients have until then to hear their ends.
        """
        self._lifetime.stop()
        for run in self._runs.values():
            run.interrupted.set()
            if run.job.origin == "url":
                run.stop(HandOver())
        await self._wait_for_end(grace_seconds)
        for run in self._runs.values():
            needs_client = run.job.origin == "upload" and not run.is_received
            run.stop(errors.ServiceUnavailable() if needs_client else HandOver())
        await self._wait_for_end(_ENDING_SECONDS)

    async def _wait_for_end(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._runs or self._lifetime.attended:
                    await asyncio.sleep(_POLL_SECONDS)
