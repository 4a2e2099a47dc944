"""Moves packed files to their permanent places, as the Manager says (docs/API.md, "Loader: transfers")."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass

from open_workshop_storage.core import errors
from open_workshop_storage.core.changes import MoveBegun, Moved, MoveUndone
from open_workshop_storage.core.job import Inner, Job, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.observability.tracing import job_span
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.staging import Staging, facts_of
from open_workshop_storage.services.storage.workspaces import discard_holding
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.runs import Runs, new_owner

_logger = logging.getLogger(__name__)

_WAIT_SECONDS = 0.1


@dataclass(eq=False)
class Moves:
    """Moves packed files."""

    _settings: Settings
    _store: JobStore
    _files: Files
    _staging: Staging
    _runs: Runs
    _lifetime: Lifetime

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
                return await self.finish(self._runs.begin_run(moving), taken_over=False)
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
                size = await self._place(run, taken_over)
                await run.save(Moved(size))
                self._runs.counts.moved(size)
            except StaleJobError:
                # The worker that took the job over finishes the move.
                raise errors.ServiceUnavailable from None
            finally:
                self._runs.release(run)
            if source := await discard_holding(run.workspace, run.source):
                self._lifetime.start(asyncio.to_thread(source.close))
            with suppress(errors.ServiceUnavailable):
                # Cleanup removes what is left.
                await self._staging.discard(run.job.job_id)
            job_log(_logger, run.job.job_id).info("moved to %s, %d bytes", run.job.move_to, size)
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
            await run.save(MoveUndone())
            raise

    async def _size_if_moved(self, job: Job) -> int:
        """Return the size of the file in place, which has to be the one that was to be moved there."""
        assert job.move_to is not None
        try:
            size, facts = await self._files.size_and_facts(job.move_to)
        except errors.FileMissing:
            raise errors.PackedMissing from None
        # A disk without extended attributes keeps no facts.
        if size != job.packed_bytes or facts not in (None, facts_of(job, job)):
            raise errors.PackedMissing
        return size
