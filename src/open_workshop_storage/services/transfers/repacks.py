"""Packs a packed job's received file again, as the Manager says (docs/API.md, "Loader: transfers")."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.core import errors
from open_workshop_storage.core.changes import Packed
from open_workshop_storage.core.claims import TransferKind
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.observability.tracing import job_span
from open_workshop_storage.services.storage.staging import Staging, facts_of
from open_workshop_storage.services.storage.workspaces import Workspaces, discard
from open_workshop_storage.services.transfers.runs import new_owner
from open_workshop_storage.services.transfers.stages import Stages

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Repacks:
    """Packs received files again."""

    _store: JobStore
    _staging: Staging
    _workspaces: Workspaces
    _stages: Stages

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
        try:
            async with self._staging.copy(job.job_id, job.packed_file) as packed:
                yield packed
        except errors.FileMissing:
            raise errors.SourceMissing from None

    async def _save_repacked(self, job: Job, packed: Packed) -> Job:
        """Store the result of a repack, also if another request has repacked the same file since."""
        while True:
            try:
                return await self._store.save(job.changed(packed), None)
            except StaleJobError:
                source, job = job.source_file, await self._repackable(job.job_id)
                if job.source_file != source:
                    raise errors.SourceMissing from None
