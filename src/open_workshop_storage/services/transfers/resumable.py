"""Uploads in several requests (docs/API.md, "Resumable uploads").

Between two requests the job is paused: no run owns it, and it costs its record and its bytes on the disk. Each request
is a run of its own. Only one run writes to a file, and one that is replaced without having left in order may write on:
its file is then sealed, what it held at that moment counts, and the next request begins another one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import (
    AccessDenied,
    BadRequest,
    ChecksumDiffers,
    ClientGone,
    FileTooLarge,
    JobMissing,
    OffsetDiffers,
    ServiceUnavailable,
    StorageError,
    UploadCancelled,
    UploadFinished,
    UploadGone,
    UploadInProgress,
    UploadStalled,
    UploadTaken,
)
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.facts import Continued, Counted, Packed, Paused
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.core.resumable import Part, Resumable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore, Slot, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.services.intake.pieces import Ending, Piece
from open_workshop_storage.services.intake.receive import BLOCK_BYTES, receive, upload_limits
from open_workshop_storage.services.storage.disk import require_space
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.attempts import begin_attempt, max_bytes_of, new_attempt
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.runs import Pause, Runs, new_owner
from open_workshop_storage.services.transfers.slots import Slots
from open_workshop_storage.services.transfers.stages import Stages
from open_workshop_storage.services.transfers.tasks import Tasks
from open_workshop_storage.utils.files.durable_files import Stopped, sync
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

_logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.6
_POLL_SECONDS = 0.02
_COPY_BYTES = 8 * 1024 * 1024


class UploadRequest(NamedTuple):
    """One request's part of an upload.

    Attributes:
        offset: Where in the file its bytes belong.
        announced: How many bytes it brings, if the client said it.
        length: The file's size in bytes, if this request tells it.
        checksum: The digest that its bytes must have.
        algorithm: What that is made with, by `hashlib`'s name; empty for none.
    """

    offset: int
    announced: int | None = None
    length: int | None = None
    checksum: bytes = b""
    algorithm: str = ""


class ResumableUploads:
    """Receives files in several requests, and packs them as other uploads when they are whole."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        workspaces: Workspaces,
        runs: Runs,
        lifetime: Lifetime,
        slots: Slots,
        stages: Stages,
        tasks: Tasks,
    ) -> None:
        self._settings = settings
        self._store = store
        self._workspaces = workspaces
        self._runs = runs
        self._lifetime = lifetime
        self._slots = slots
        self._stages = stages
        self._tasks = tasks

    async def create(
        self, claims: TransferClaims, file_name: str, length: int | None, metadata: str | None, *, is_expired: bool
    ) -> Job:
        """Begin an upload, or return the one that this job has begun and not finished.

        Args:
            length: The file's size in bytes; `None` if a later request tells it.
            metadata: The client's own description of the file.
            is_expired: Whether the token's time is over, so that it goes on with an upload but begins none.

        Raises:
            AccessDenied: The token is expired, and the job has no unfinished upload.
            BadRequest: The token is one for a URL transfer.
            FileTooLarge: The file is larger than its limit; the attempt has ended, and the Manager is told.
            UploadInProgress: The job's unfinished upload is another one.
            UploadFinished: The job has its file.
            ServiceUnavailable: The store is away, or this worker stops.
        """
        previous = await self._store.get(claims.job_id)
        if previous is not None and previous.resumable is not None and previous.stage is Stage.UPLOADING:
            if previous.total != length:
                raise UploadInProgress
            return await self._left(previous)
        if is_expired:
            raise AccessDenied
        self._refuse_while_stopping()
        limit = max_bytes_of(self._settings, claims)
        is_too_large = bool(limit and length is not None and length > limit)
        job = new_attempt(claims, file_name, length, previous, None, Resumable(metadata=metadata))
        job = await begin_attempt(self._store, job, previous)
        job_log(_logger, job.job_id).info("uploading in several requests, attempt %d", job.attempt)
        if is_too_large:
            await self._runs.end_paused(job, FileTooLarge())
            raise FileTooLarge
        return job

    async def find(self, job_id: str) -> Job:
        """Return an upload, once no request of it holds on; its bytes are then all on the disk.

        Raises:
            JobMissing: The job has none.
            UploadGone: It ended with an error.
        """
        return await self._left(await self._known(job_id))

    async def append(self, job_id: str, request: UploadRequest, chunks: AsyncIterator[bytes]) -> Job:
        """Take a request's bytes in; those of the last one are packed, and reported to the Manager.

        Raises:
            JobMissing: The job has no upload in several requests.
            UploadGone: It ended with an error.
            OffsetDiffers: The bytes are not those that come next.
            BadRequest: The length is not the one that was told before, or is passed.
            UploadTaken: Another request goes on with the upload.
            StorageBusy: Too many uploads run.
            ChecksumDiffers: The bytes are others than their checksum says, and none of them counts.
            UploadStalled: No byte came for too long; what came counts.
            ClientGone: The client left; what came counts.
            ServiceUnavailable: The store is away, or this worker stops.
            StorageError: The attempt ended with this error, and the Manager is told.
        """
        self._refuse_while_stopping()
        job = await self._left(await self._known(job_id))
        total = request.length if job.total is None else job.total
        if request.length not in (None, total):
            raise BadRequest("Upload length differs")
        if request.offset != job.bytes:
            raise OffsetDiffers
        if job.stage is not Stage.UPLOADING:
            return job
        if total is not None and job.bytes + (request.announced or 0) > total:
            raise BadRequest("More bytes than the upload has")
        assert job.resumable is not None
        owner = new_owner()
        async with AsyncExitStack() as entered:
            await entered.enter_async_context(self._slots.at_once(Slot.UPLOAD, owner))
            resumable = _with_open_part(job.resumable, owner)
            try:
                job = await self._store.save(job.changed(Continued(owner, resumable, total)), None)
            except StaleJobError:
                raise UploadTaken from None
            slot = entered.pop_all()
        run = self._runs.hold(job)
        work = self._receive(run, resumable, request, chunks, slot)
        # Once the file is whole, the transfer goes on to its end, whether or not the client waits for it.
        return await asyncio.shield(self._tasks.start(self._runs.attempt(run, work)))

    async def cancel(self, job_id: str) -> None:
        """End an unfinished upload, as its client wishes.

        Raises:
            JobMissing: The job has no upload in several requests.
            UploadGone: It ended with an error.
            UploadFinished: It is whole.
        """
        job = await self.find(job_id)
        if job.stage is not Stage.UPLOADING:
            raise UploadFinished
        await self._runs.end_paused(job, UploadCancelled())

    async def go_on(self, run: JobRun) -> Packed:
        """Go on with an upload whose worker is gone: pack it if all of it is here, else leave it to its next request.

        Raises:
            Pause: Bytes are missing.
            StorageError: The file is refused, or could not be packed.
        """
        paused = await self._sealed(run.job)
        if paused.bytes != run.job.total:
            raise Pause(paused)
        return await self._pack(run, paused.resumable)

    def expires_at(self, job: Job) -> int:
        """Return the Unix time, in seconds, at which an upload ends unless more bytes come."""
        return int(job.updated_at + self._settings.transfer_resume_seconds)

    def _refuse_while_stopping(self) -> None:
        if self._lifetime.stopping.is_set():
            raise ServiceUnavailable

    async def _known(self, job_id: str) -> Job:
        job = await self._store.get(job_id)
        if job is None or job.resumable is None:
            raise JobMissing
        if job.stage is Stage.ERROR or job.unwanted:
            raise UploadGone
        return job

    async def _left(self, job: Job) -> Job:
        """Return the upload once no request holds on: a worker that answers leaves it, from others it is taken.

        Raises:
            UploadGone: It ended with an error meanwhile.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        asked = False
        while job.stage is Stage.UPLOADING and job.owner is not None:
            if not asked:
                await self._store.interrupt(job.job_id)
                asked = True
            elif time.monotonic() > deadline:
                with suppress(StaleJobError):
                    job = await self._store.save(job.changed(await self._sealed(job)), EventKind.PROGRESS)
                    if job.bytes == job.total:
                        # The client takes it for done, and sends nothing more.
                        self._tasks.start(self.append(job.job_id, UploadRequest(job.total), _nothing()))
                    return job
            await asyncio.sleep(_POLL_SECONDS)
            job = await self._known(job.job_id)
        return job

    async def _sealed(self, job: Job) -> Paused:
        """Return what counts of an upload whose worker may write on."""
        assert job.resumable is not None
        *before, last = job.resumable.parts
        size = await run_to_end(_size_on_disk, self._workspaces.folder(job.job_id) / last.file)
        # A worker that wrote nothing may have made no file.
        parts = (*before, last.model_copy(update={"bytes": size})) if size else tuple(before)
        count = sum(part.bytes for part in parts)
        return Paused(count, job.resumable.model_copy(update={"parts": parts, "sealed": True}))

    async def _receive(
        self,
        run: JobRun,
        resumable: Resumable,
        request: UploadRequest,
        chunks: AsyncIterator[bytes],
        slot: AsyncExitStack,
    ) -> Packed:
        *before, part = resumable.parts
        begun, total = run.job.bytes, run.job.total
        room = None if total is None else total - begun
        limit = max_bytes_of(self._settings, run.job.claims)
        # The upload as a whole has no time limit but that between two requests.
        limits = replace(upload_limits(self._settings, limit), total_seconds=0)
        piece = Piece(chunks, run.interrupted, limits, room, request.algorithm)
        target = run.workspace / part.file
        earlier = sum(one.bytes for one in before)
        # A client that goes on at once finds the slot free.
        async with slot:
            size, is_on_disk = await receive(
                aiter(piece),
                target,
                # The piece keeps the time, and ends where this would raise.
                replace(
                    limits, max_bytes=max(limit - earlier, 1) if limit else 0, idle_seconds=0, min_bytes_per_second=0
                ),
                None,
                lambda count: run.progress(Counted(earlier + count)),
                part.bytes,
            )
            if not is_on_disk:
                await run_to_end(sync, target)
            if begun == 0:
                self._stages.judge_start(run, await run_to_end(_head, target))
            refusal = _refusal(piece, request.checksum)
            if refusal is not None:
                # None of these bytes counts, and no later look at the file may find them.
                raise Pause(Paused(begun, resumable.model_copy(update={"sealed": True})), refusal)
            resumable = resumable.model_copy(update={"parts": (*before, Part(file=part.file, bytes=size))})
            if earlier + size != total:
                answer = _ANSWERS.get(piece.ending)
                raise Pause(Paused(earlier + size, resumable), answer() if answer else None)
        return await self._pack(run, resumable)

    async def _pack(self, run: JobRun, resumable: Resumable) -> Packed:
        source = await self._whole(run, resumable)
        await run.received(source, Stage.UPLOADED, sum(part.bytes for part in resumable.parts), is_on_disk=True)
        return await self._stages.prepare(run)

    async def _whole(self, run: JobRun, resumable: Resumable) -> Path:
        """Return a file that holds all bytes of the upload, and that no other run writes to."""
        files = [(run.workspace / part.file, part.bytes) for part in resumable.parts]
        if len(files) == 1 and not resumable.sealed:
            return files[0][0]
        source = run.folder / "source"
        await run_until_stopped(partial(_join, files, source, self._settings.storage_reserve_bytes))
        return source


# Classes: an exception that is raised again keeps the frames of each time.
_ANSWERS: Mapping[Ending | None, type[StorageError]] = {
    Ending.CUT: ClientGone,
    Ending.SLOW: UploadStalled,
    Ending.INTERRUPTED: UploadTaken,
}


def _with_open_part(resumable: Resumable, owner: str) -> Resumable:
    """Return the record of an upload whose last part this run may write to."""
    if resumable.parts and not resumable.sealed:
        return resumable
    return Resumable(metadata=resumable.metadata, parts=(*resumable.parts, Part(file=f"{owner}/part")))


def _refusal(piece: Piece, checksum: bytes) -> StorageError | None:
    """Return why none of a request's bytes counts, if that is so."""
    if piece.ending is Ending.TOO_LONG:
        return BadRequest("More bytes than the upload has")
    if checksum and piece.ending is Ending.COMPLETE and piece.digest != checksum:
        return ChecksumDiffers()
    return None


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BLOCK_BYTES)


def _size_on_disk(path: Path) -> int:
    """Return how many bytes of a file are on the disk, once those that are written have been synced."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
            return size
    except FileNotFoundError:
        return 0


def _join(files: Sequence[tuple[Path, int]], target: Path, reserve_bytes: int, stop: threading.Event) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent, sum(size for _, size in files), reserve_bytes)
    with target.open("wb") as joined:
        for path, size in files:
            with path.open("rb") as part:
                copied = 0
                while copied < size:
                    copied += os.sendfile(joined.fileno(), part.fileno(), copied, min(size - copied, _COPY_BYTES))
                    if stop.is_set():
                        raise Stopped
        os.fsync(joined.fileno())
