"""How attempts at transfers begin and end, by themselves or from outside."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from open_workshop_storage.core import errors
from open_workshop_storage.core.callback import Callback, callback_of
from open_workshop_storage.core.changes import Failed, Owned, Packed, Paused, Unwanted
from open_workshop_storage.core.claims import TransferClaims, TransferKind
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job, Resumable, Slot, Stage, check_step
from open_workshop_storage.core.store import LEASE_SECONDS, Interruption, JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.observability.tracing import traceparent
from open_workshop_storage.services.manager.callback_delivery import Callbacks, Outcome
from open_workshop_storage.services.storage.disk import full_disk_is_no_space
from open_workshop_storage.services.storage.workspaces import discard_parts, parts_of
from open_workshop_storage.services.transfers.job_run import JobRun, Queued
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.runs import HandOver, Runs, new_owner
from open_workshop_storage.utils.files.paths import safe_file_name

_logger = logging.getLogger(__name__)

# A worker that does not answer loses the job when its lease runs out, and the one that takes it is asked then.
_CANCEL_SECONDS = LEASE_SECONDS + 10.0
_CANCEL_PAUSE_SECONDS = 0.5
_POLL_SECONDS = 0.05


@dataclass(eq=False)
class Pause(Exception):
    """The bytes of one request have come; others follow with later requests.

    Attributes:
        paused: What the record then says.
        answer: What the client hears; `None` if all is well.
        cut_off: Removes what the record then does not count.
    """

    paused: Paused
    answer: errors.StorageError | None = None
    cut_off: Callable[[], Awaitable[None]] | None = None


@dataclass(eq=False)
class Unreported(Exception):
    """The attempt has come to nothing for now: its client hears that, and the Manager does not.

    Attributes:
        answer: What the client hears.
    """

    answer: errors.StorageError


@dataclass(eq=False)
class Attempts:
    """Begins attempts, and sees each to its one end."""

    _store: JobStore
    _callbacks: Callbacks
    _runs: Runs
    _lifetime: Lifetime

    async def begin_upload(
        self,
        previous: Job | None,
        claims: TransferClaims,
        file_name: str,
        announced: int | None,
        owner: str | None,
        resumable: Resumable | None = None,
    ) -> Job:
        """Store the record of a new attempt at an upload, and withdraw the report of the one before if it waits.

        Args:
            previous: The job's record, if there is one.
            announced: The file's size in bytes, if the client said it.
            owner: The run that receives it, with a slot; `None` for one that waits for its first request.

        Raises:
            BadRequest: The token is one for a URL transfer.
            UploadInProgress: The attempt before it has not ended, or another request began one at the same time.
            UploadFinished: The job has its file, or had it before it was forgotten.
            StorageBusy: No slot is free.
            ServiceUnavailable: The store is away, or this worker stops.
        """
        if self._lifetime.stopping.is_set():
            raise errors.ServiceUnavailable
        if claims.download_url:
            raise errors.BadRequest("Token is for a URL transfer")
        if previous is not None and previous.stage is not Stage.ERROR:
            raise errors.UploadFinished if previous.ended else errors.UploadInProgress
        job = Job(
            job_id=claims.job_id,
            claims=claims,
            origin="upload",
            file_name=safe_file_name(file_name),
            version=previous.version if previous else 0,
            attempt=previous.attempt + 1 if previous else 1,
            stage=Stage.UPLOADING,
            total=announced,
            waited_seconds=previous.waited_seconds if previous else 0.0,
            sent_bytes=previous.sent_bytes if previous else 0,
            owner=owner,
            slot=None if owner is None else Slot.UPLOAD,
            resumable=resumable,
            traceparent=traceparent(),
        )
        check_step(previous.state if previous else None, job.state)
        withdrawn = None if previous is None else callback_of(previous).jti
        try:
            job = await self._store.save(job, EventKind.STAGE, withdrawn=withdrawn)
        except StaleJobError:
            is_forgotten = await self._store.forgotten(job.job_id) is not None
            raise (errors.UploadFinished if is_forgotten else errors.UploadInProgress) from None
        self._runs.counts.begun()
        kind = "uploading" if resumable is None else "uploading in several requests"
        job_log(_logger, job.job_id).info("%s, attempt %d", kind, job.attempt)
        return job

    async def carry_out(self, run: JobRun, work: Coroutine[Any, Any, Packed]) -> Job:
        """Do an attempt's work, and end the attempt with what comes of it, also if its client waits no more.

        Returns:
            The packed job, once the first delivery of its report has ended, or the paused one.

        Raises:
            StorageError: What went wrong; the Manager is told of it, unless the work raised `Unreported`.
            UploadNotAccepted: The Manager does not want the packed file.
            ServiceUnavailable: The job went to another worker, which goes on with it.
        """
        return await asyncio.shield(self._lifetime.start(self._carry_out(run, work)))

    async def _carry_out(self, run: JobRun, work: Coroutine[Any, Any, Packed]) -> Job:
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

    async def end_waiting(self, job: Job, error: errors.StorageError) -> None:
        """End a job that waits for a request or a worker with an error, unless it has got one since, or its end."""
        try:
            claimed = await self._store.save(job.changed(Owned(new_owner())), None)
        except StaleJobError:
            return
        with suppress(errors.StorageError):
            await self._end(self._runs.begin_run(claimed), error)

    async def _end(self, run: JobRun, end: Packed | Exception) -> Job:
        """End a run, and report the attempt that ends with it to the Manager, unless another run is to go on."""
        log = job_log(_logger, run.job.job_id)
        callback: Callback | None = None
        answer: errors.StorageError | None = None
        try:
            match end:
                case Packed():
                    callback = await run.save(end, event=EventKind.COMPLETE, stage=Stage.PACKED)
                    log.info("packed, %d bytes", end.packed_bytes)
                case Queued():
                    log.info("waits for a %s slot", run.job.slot)
                    answer = errors.ServiceUnavailable()
                case HandOver():
                    await run.hand_over()
                    log.info("handed over at %s", run.job.stage)
                    answer = errors.ServiceUnavailable()
                case Pause():
                    await run.save(end.paused, event=EventKind.PROGRESS, stage=Stage.UPLOADING)
                    log.debug("paused, %d bytes", run.job.bytes)
                    answer = end.answer
                    # Not before: a request that has taken the upload over may count them.
                    if end.cut_off is not None:
                        await end.cut_off()
                case StaleJobError():
                    raise end
                case _:
                    answer = _failure_of(run.job, end)
                    # The next attempt may begin as soon as this one's end is known.
                    parts = await parts_of(run.workspace)
                    malware = answer.name if isinstance(answer, errors.MalwareFound) else None
                    failed = Failed(answer.message, answer.reason, malware)
                    is_reported = not isinstance(end, Unreported)
                    callback = await run.save(failed, event=EventKind.ERROR, stage=Stage.ERROR, is_reported=is_reported)
                    await discard_parts(run.workspace, parts)
            if run.job.ended:
                self._runs.counts.ended(run.job)
        except StaleJobError:
            # The run's folder stays until the job's end: the received file in it is its successor's now.
            log.warning("lost to another worker")
            raise errors.ServiceUnavailable from None
        finally:
            self._runs.release(run)
        delivery = None if callback is None else self._lifetime.start(self._callbacks.deliver(callback))
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


async def cancel_transfer(store: JobStore, job_id: str) -> Job:
    """Have a job's attempt ended by the worker that has it, or by any if it waits; return the record of the end.

    Raises:
        JobMissing: There is none of this name.
        TransferEnded: The attempt has another end.
        ServiceUnavailable: The store is away, or no worker has ended the attempt.
    """
    deadline = time.monotonic() + _CANCEL_SECONDS
    asked_at = 0.0
    while not (job := await _known(store, job_id)).ended:
        now = time.monotonic()
        if now > deadline:
            raise errors.ServiceUnavailable
        if now > asked_at + _CANCEL_PAUSE_SECONDS:
            await store.interrupt(job_id, Interruption.CANCEL)
            asked_at = now
        await asyncio.sleep(_POLL_SECONDS)
    if not asked_at or job.message != errors.TransferCancelled.message:
        raise errors.TransferEnded
    return job


async def _known(store: JobStore, job_id: str) -> Job:
    job = await store.get(job_id)
    if job is None:
        raise errors.JobMissing
    return job


def _failure_of(job: Job, error: Exception) -> errors.StorageError:
    """Return what an attempt fails with, and log it; an unforeseen error becomes that of the stage where the job is."""
    match error:
        case errors.StorageError():
            failure = error
        case Unreported():
            failure = error.answer
        case _:
            failure = _unforeseen_at(job)
            failure.__cause__ = error
    # An error of the log is what this host is at fault for, not a client or an origin.
    is_ours = failure.status in (errors.StorageError.status, errors.NoSpace.status)
    job_log(_logger, job.job_id).log(
        logging.ERROR if is_ours else logging.INFO,
        "failed at %s: %s (%s)",
        job.stage,
        failure.message,
        failure.reason,
        exc_info=failure.__cause__ if is_ours else None,
    )
    return failure


def _unforeseen_at(job: Job) -> errors.StorageError:
    if job.stage is Stage.UPLOADING:
        return errors.UploadFailed()
    if job.stage in (Stage.PENDING, Stage.DOWNLOADING):
        return errors.DownloadFailed()
    return errors.ImagePreparationFailed() if job.claims.transfer_kind is TransferKind.IMAGE else errors.RepackFailed()
