"""What the Manager does with a packed job: packs it again, or moves it (docs/API.md, "Loader: transfers")."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.core import errors
from open_workshop_storage.core.changes import MoveBegun, Packed
from open_workshop_storage.core.claims import TransferKind
from open_workshop_storage.core.job import Inner, Job, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.observability.tracing import job_span
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.staging import Staging
from open_workshop_storage.services.storage.workspaces import Workspaces, discard, discard_holding
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.runs import Runs, facts_of, new_owner
from open_workshop_storage.services.transfers.stages import Stages
from open_workshop_storage.services.transfers.tasks import Tasks

_logger = logging.getLogger(__name__)

_WAIT_SECONDS = 0.1


@dataclass(eq=False)
class Moves:
    """Moves and repacks packed files."""

    _settings: Settings
    _store: JobStore
    _files: Files
    _staging: Staging
    _workspaces: Workspaces
    _runs: Runs
    _stages: Stages
    _tasks: Tasks

    async def move(self, job_id: str, storage_type: str, path: str) -> Job:
        """Move a job's packed file to its permanent place and end the job; return it with its receipt.

        A second call with the same target gives the same job. Of two at once the second waits for the first.

        Raises:
            InvalidType: No such storage type.
            PathOutsideStorage: The path leaves the folder of its type.
            JobMissing: No such job.
            PackedMissing: It has no packed file, or went somewhere else.
            NoSpace: The disk is full.
            ServiceUnavailable: Redis or the storage root has been away for `TRANSFER_MOVE_WAIT_SECONDS`.
        """
        # The Manager does not ask twice.
        give_up = time.monotonic() + self._settings.transfer_move_wait_seconds
        while True:
            try:
                return await self._move(job_id, storage_type, path)
            except errors.ServiceUnavailable:
                if time.monotonic() >= give_up:
                    raise
                await asyncio.sleep(_WAIT_SECONDS)

    async def _move(self, job_id: str, storage_type: str, path: str) -> Job:
        if not await self._files.is_available(for_writing=True):
            raise errors.ServiceUnavailable
        final = await self._files.resolve(storage_type, path)
        while True:
            job = await self._store.get(job_id)
            if job is None:
                raise errors.JobMissing
            if job.stage is not Stage.PACKED or job.move_to not in (None, final):
                raise errors.PackedMissing
            if job.state is Inner.MOVED:
                return job
            if job.state is Stage.PACKED:
                try:
                    moving = await self._store.save(job.changed(MoveBegun(final, new_owner())), None)
                except StaleJobError:
                    continue
                return await self.finish(self._runs.hold(moving), taken_over=False)
            await asyncio.sleep(_WAIT_SECONDS)

    async def finish(self, run: JobRun, *, taken_over: bool) -> Job:
        """Carry a move out.

        Args:
            taken_over: Whether another worker began the move, and may have put the file in place before it died.

        Raises:
            PackedMissing: The packed file is gone.
            StorageError: The file could not be put in place; the job is packed as before.
        """
        with job_span("move", run.job.job_id, run.job.traceparent):
            try:
                await run.moved(await self._place(run, taken_over))
            except StaleJobError:
                # The worker that took the job over finishes the move.
                raise errors.ServiceUnavailable from None
            finally:
                self._runs.release(run)
            if source := await discard_holding(run.workspace, run.source):
                self._tasks.start(asyncio.to_thread(source.close))
            with suppress(errors.ServiceUnavailable):
                # Cleanup removes what is left.
                await self._staging.discard(run.job.job_id)
            job_log(_logger, run.job.job_id).info("moved to %s, %d bytes", run.job.move_to, run.job.moved_bytes)
            return run.job

    async def _place(self, run: JobRun, taken_over: bool) -> int:
        job = run.job
        assert job.move_to is not None and job.packed_file is not None
        try:
            try:
                return await self._staging.place(job.job_id, job.packed_file, job.move_to, facts_of(job, job))
            except errors.FileMissing:
                if not taken_over:
                    raise errors.PackedMissing from None
                return await self._size_if_moved(job)
        except (errors.StorageError, OSError):
            await run.undo_move()
            raise

    async def _size_if_moved(self, job: Job) -> int:
        """Return the size of the file in place, if it is the one that was to be moved there.

        Raises:
            PackedMissing: It is not.
        """
        assert job.move_to is not None
        try:
            size, facts = await self._files.size_and_facts(job.move_to)
        except errors.FileMissing:
            raise errors.PackedMissing from None
        # A disk without extended attributes keeps no facts.
        if size != job.packed_bytes or facts not in (None, facts_of(job, job)):
            raise errors.PackedMissing
        return size

    async def repack(self, job_id: str, level: int | None) -> Job:
        """Pack the received file of a packed job again, with another Deflate level; return the changed job.

        Raises:
            JobMissing: No such job.
            SourceMissing: It has no received file yet, or any more.
            MalwareFound: The scanner finds now what it did not know before; all that the job had is removed.
            UploadInProgress: It is still being worked on.
            UnsupportedFormat: It is an image's.
            StorageError: The archive is refused, or packing failed.
        """
        job = await self._repackable(job_id)
        folder = self._workspaces.folder(job_id) / new_owner()
        level = job.claims.pack_level if level is None else level
        with job_span("repack", job_id, job.traceparent):
            try:
                async with self._source(job) as source:
                    packed = await self._stages.repack(source, folder, job.file_name, level)
                await self._staging.stage(job_id, packed.packed_file, facts_of(job, packed))
                job = await self._save_repacked(job, packed)
            except Exception as error:
                await discard(folder)
                if isinstance(error, errors.MalwareFound):
                    await discard(folder.parent)
                    await self._staging.discard(job_id)
                if isinstance(error, errors.StorageError):
                    raise
                raise errors.RepackFailed from error
            job_log(_logger, job_id).info("packed again, %d bytes", job.packed_bytes)
            return job

    async def _repackable(self, job_id: str) -> Job:
        job = await self._store.get(job_id)
        if job is None:
            raise errors.JobMissing
        if job.source_file is None or job.move_to is not None:
            raise errors.SourceMissing
        if job.stage is not Stage.PACKED:
            raise errors.UploadInProgress
        if job.claims.transfer_kind is TransferKind.IMAGE:
            raise errors.UnsupportedFormat
        return job

    @asynccontextmanager
    async def _source(self, job: Job) -> AsyncIterator[Path]:
        """Give the file that a repack begins with: the received one, or the packed one where that is not at hand."""
        assert job.source_file is not None and job.packed_file is not None
        received = self._workspaces.folder(job.job_id) / job.source_file
        if await asyncio.to_thread(received.exists):
            yield received
            return
        async with AsyncExitStack() as stack:
            try:
                packed = await stack.enter_async_context(self._staging.copy(job.job_id, job.packed_file))
            except errors.FileMissing:
                raise errors.SourceMissing from None
            yield packed

    async def _save_repacked(self, job: Job, packed: Packed) -> Job:
        """Store the result of a repack, also if another request has repacked the same file since."""
        while True:
            try:
                return await self._store.save(job.changed(packed), None)
            except StaleJobError:
                source, job = job.source_file, await self._repackable(job.job_id)
                if job.source_file != source:
                    raise errors.SourceMissing from None
