"""Uploads in several requests (docs/API.md, "Resumable uploads").

Between two requests the job is paused: no run owns it, and it costs its record and its bytes on the disk. Each request
is a run of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn

from open_workshop_storage.core import errors
from open_workshop_storage.core.changes import Continued, Counted, Packed, Paused
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job, Resumable, Slot, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import Interruption, JobStore, StaleJobError
from open_workshop_storage.services.intake import upload_parts
from open_workshop_storage.services.intake.receive import receive, transfer_limits
from open_workshop_storage.services.intake.upload_bodies import Ending, UploadBody, UploadRequest, reading_ahead
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.attempts import Attempts, Pause
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.lifetime import HasLeft, Lifetime, never_leaves
from open_workshop_storage.services.transfers.runs import Runs, new_owner
from open_workshop_storage.services.transfers.stages import Stages
from open_workshop_storage.utils.processes.threads import run_to_end

_PATIENCE_SECONDS = 0.6
_POLL_SECONDS = 0.02
_REMEMBER_SECONDS = 1.0


@dataclass(eq=False)
class ResumableUploads:
    """Receives files in several requests, and packs them as other uploads when they are whole."""

    _settings: Settings
    _store: JobStore
    _workspaces: Workspaces
    _runs: Runs
    _attempts: Attempts
    _stages: Stages
    _lifetime: Lifetime
    # The next request mostly comes at once, and then reads no record.
    _just_paused: dict[str, Job] = field(default_factory=dict, init=False)

    async def create(
        self, claims: TransferClaims, file_name: str, length: int | None, described: Resumable, *, is_expired: bool
    ) -> Job:
        """Begin an upload, or return the one that this job has begun and not finished.

        Args:
            length: The file's size in bytes; `None` if a later request tells it.
            described: What the client says of the file besides.
            is_expired: Whether the token's time is over, so that it goes on with an upload but begins none.

        Raises:
            AccessDenied: The token is expired, and the job has no unfinished upload.
            BadRequest: The token is one for a URL transfer.
            FileTooLarge: The file is larger than its limit; the attempt has ended, and the Manager is told.
            UploadInProgress: The job's unfinished upload is another one.
            UploadFinished: The job has its file.
            ServiceUnavailable: The store is away, or this worker stops.
        """
        is_too_large = transfer_limits(self._settings, claims).exceeded_by(length)
        previous = await self._store.get(claims.job_id)
        if previous is not None and previous.resumable is not None and previous.stage is Stage.UPLOADING:
            if length not in (None, previous.total):
                raise errors.UploadInProgress
            if is_too_large:
                # Another request has begun the attempt, and is about to end it.
                raise errors.FileTooLarge
            return await self._wait_until_left(previous)
        if is_expired:
            raise errors.AccessDenied
        try:
            job = await self._attempts.begin_upload(previous, claims, file_name, length, None, described)
        except errors.UploadInProgress:
            if is_too_large and (previous is None or previous.ended):
                # Another request has begun the attempt, and is about to end it.
                raise errors.FileTooLarge from None
            raise
        if is_too_large:
            await self._refuse_too_large(job)
        return job

    async def find(self, job_id: str) -> Job:
        """Return an upload, once no request of it holds on; its bytes are then all on the disk.

        Raises:
            JobMissing: The job has none.
            UploadGone: It ended with an error.
        """
        return await self._wait_until_left(await self._load(job_id))

    async def append(
        self, job_id: str, request: UploadRequest, chunks: AsyncIterator[bytes], has_left: HasLeft = never_leaves
    ) -> Job:
        """Take a request's bytes in; those of the last one are packed, and reported to the Manager.

        Raises:
            JobMissing: The job has no upload in several requests.
            UploadGone: It ended with an error.
            OffsetDiffers: The bytes are not those that come next.
            BadRequest: The length is not the one that was told before, or is passed.
            FileTooLarge: The file is larger than its limit; the attempt has ended, and the Manager is told.
            UploadTaken: Another request goes on with the upload.
            StorageBusy: Too many uploads run.
            ChecksumDiffers: The bytes are others than their checksum says, and none of them counts.
            UploadStalled: No byte came for too long; what came counts.
            UploadTimedOut: The upload's requests were too slow in all; the attempt has ended, and the Manager is told.
            ClientGone: The client left; what came counts.
            ScannerUnavailable: The file has to be scanned, and cannot be now; its last byte is to come again. If the
                client has left, the attempt has ended, and the Manager is told.
            ServiceUnavailable: The store is away, or this worker stops.
            StorageError: The attempt ended with this error, and the Manager is told.
        """
        if self._lifetime.stopping.is_set():
            raise errors.ServiceUnavailable
        recalled = self._pop_just_paused(job_id, request.offset)
        job = recalled or await self._wait_until_left(await self._load(job_id))
        total = request.total_after(job.bytes, job.total)
        if job.stage is not Stage.UPLOADING or job.owner is not None:
            return job
        if transfer_limits(self._settings, job.claims).exceeded_by(request.length):
            await self._refuse_too_large(job)
        assert job.resumable is not None
        owner = new_owner()
        resumable = upload_parts.with_open_part(job.resumable, owner)
        if request.sha256 is not None:
            resumable = resumable.model_copy(update={"sha256": request.sha256})
        with reading_ahead(chunks) as body:
            try:
                job = await self._store.save(job.changed(Continued(owner, resumable, total, Slot.UPLOAD)), None)
            except StaleJobError:
                if recalled is not None:
                    # It has changed since: this time the store is asked.
                    return await self.append(job_id, request, body, has_left)
                raise errors.UploadTaken from None
        run = self._runs.begin_run(job, has_left)
        job = await self._attempts.carry_out(run, self._receive(run, resumable, request, body))
        if job.paused:
            self._just_paused[job_id] = job
            asyncio.get_running_loop().call_later(_REMEMBER_SECONDS, self._pop_just_paused, job_id, job.bytes)
        return job

    def _pop_just_paused(self, job_id: str, offset: int) -> Job | None:
        """Forget an upload that was just paused at an offset; return its record, which the next save may find stale."""
        job = self._just_paused.get(job_id)
        return self._just_paused.pop(job_id) if job is not None and job.bytes == offset else None

    async def cancel(self, job_id: str) -> None:
        """End an unfinished upload, as its client wishes.

        Raises:
            JobMissing: The job has no upload in several requests.
            UploadGone: It ended with an error.
            UploadFinished: It is whole.
        """
        job = await self.find(job_id)
        if job.stage is not Stage.UPLOADING or job.owner is not None:
            raise errors.UploadFinished
        await self._attempts.end_waiting(job, errors.UploadCancelled())

    async def go_on(self, run: JobRun) -> Packed:
        """Go on with an upload whose worker is gone: pack it if all of it is here, else leave it to its next request.

        Raises:
            Pause: Bytes are missing.
            StorageError: The file is refused, or could not be packed.
        """
        assert run.job.resumable is not None
        paused = await upload_parts.sealed(run.job.resumable, run.workspace)
        if paused.bytes != run.job.total:
            raise Pause(paused)
        return await self._pack(run, paused.resumable)

    async def _refuse_too_large(self, job: Job) -> NoReturn:
        await self._attempts.end_waiting(job, errors.FileTooLarge())
        raise errors.FileTooLarge

    async def _load(self, job_id: str) -> Job:
        job = await self._store.get(job_id)
        if job is None or job.resumable is None:
            raise errors.JobMissing
        if job.stage is Stage.ERROR or job.unwanted:
            raise errors.UploadGone
        return job

    async def _wait_until_left(self, job: Job) -> Job:
        """Return the upload once no request holds on: a worker that answers leaves it, from others it is taken.

        A whole upload that was taken so has an owner, which packs it.
        """
        asked_at: float | None = None
        while job.stage is Stage.UPLOADING and job.owner is not None and not (job.resumable and job.resumable.sealed):
            if asked_at is None:
                asked_at = time.monotonic()
                await self._store.interrupt(job.job_id, Interruption.LEAVE)
            elif time.monotonic() > asked_at + _PATIENCE_SECONDS:
                with suppress(StaleJobError):
                    return await self._take_over(job)
            await asyncio.sleep(_POLL_SECONDS)
            job = await self._load(job.job_id)
        if job.resumable is not None and job.paused:
            resumable = await upload_parts.at_hand(job.resumable, self._workspaces.folder(job.job_id))
            if resumable is not job.resumable:
                # Another host has its bytes, and this one goes on from its beginning.
                return job.model_copy(update={"resumable": resumable, "bytes": 0})
        return job

    async def _take_over(self, job: Job) -> Job:
        """Take an upload from a worker that does not answer, if it has not left it since; pack it if it is whole."""
        assert job.resumable is not None
        paused = await upload_parts.sealed(job.resumable, self._workspaces.folder(job.job_id))
        if paused.bytes != job.total:
            return await self._store.save(job.changed(paused), EventKind.PROGRESS)
        # The client takes it for done, and sends nothing more: the lease sees to it that it is packed.
        continued = Continued(new_owner(), paused.resumable, job.total)
        job = await self._store.save(job.changed(Counted(paused.bytes), continued), EventKind.PROGRESS)
        run = self._runs.begin_run(job)
        self._lifetime.start(self._attempts.carry_out(run, self._pack(run, paused.resumable)))
        return job

    async def _receive(
        self, run: JobRun, resumable: Resumable, request: UploadRequest, chunks: AsyncIterator[bytes]
    ) -> Packed:
        begun, total, part = run.job.bytes, run.job.total, resumable.parts[-1]
        room = None if total is None else total - begun
        # The upload as a whole has no time limit but that between two requests.
        limits = replace(transfer_limits(self._settings, run.job.claims), total_seconds=0)
        most = limits.max_bytes
        body = UploadBody(chunks, run.interrupted, limits, run.pace, room, request.algorithm)
        target = run.workspace / part.file
        earlier = begun - part.bytes
        try:
            size, _ = await receive(
                aiter(body),
                target,
                # The body keeps the time, and ends where this would raise.
                replace(
                    limits, max_bytes=max(most - earlier, 1) if most else 0, idle_seconds=0, min_bytes_per_second=0
                ),
                None,
                lambda count: run.progress(Counted(earlier + count)),
                part.bytes,
                durably=True,
                digest=run.digest if begun == 0 else None,
            )
        except FileNotFoundError:
            # The storage root has gone since the bytes before these were written.
            raise Pause(Paused(begun, resumable), errors.ServiceUnavailable()) from None
        if begun == 0:
            self._stages.judge_start(run, await run_to_end(upload_parts.head_of, target))
        if refusal := body.refusal(request.checksum):
            # None of these bytes counts, and no later look at the file may find them.
            raise Pause(
                upload_parts.held_to(resumable, part.bytes),
                refusal,
                partial(run_to_end, upload_parts.cut_off, target, part.bytes),
            )
        resumable = upload_parts.with_last_part(resumable, size)
        if earlier + size != total:
            if body.ending is Ending.TOO_SLOW:
                # No later request would be waited for.
                raise errors.UploadTimedOut
            raise Pause(Paused(earlier + size, resumable), body.answer())
        try:
            return await self._pack(run, resumable)
        except errors.ScannerUnavailable as refusal:
            if not await run.is_heard():
                # It takes the file for done, and would send nothing more.
                raise
            raise Pause(upload_parts.without_last_byte(resumable, run.within(run.source), total), refusal) from None

    async def _pack(self, run: JobRun, resumable: Resumable) -> Packed:
        reserve_bytes = self._settings.storage_reserve_bytes
        source = await upload_parts.whole(resumable, run.workspace, run.folder / "source", reserve_bytes)
        size = sum(part.bytes for part in resumable.parts)
        await run.received(source, size, is_on_disk=True, sha256=resumable.sha256)
        return await self._stages.prepare(run)
