"""Removes what is not needed any more: idle jobs, stray workspaces, leftovers (docs/ARCHITECTURE.md, "A job")."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.errors import NewerRecord, ServiceUnavailable, UploadTimedOut
from open_workshop_storage.core.job import Job, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.staging import Staging
from open_workshop_storage.services.storage.workspaces import Workspaces, discard_parts, parts_of
from open_workshop_storage.services.transfers.attempts import Attempts

_logger = logging.getLogger(__name__)

_AT_ONCE = 100
# Those of thousands of paused uploads stay, and need not be looked at in one go.
_WORKSPACES_AT_ONCE = 1000


@dataclass(eq=False)
class Cleanup:
    """Cleans up again and again; several at once do each other no harm."""

    _settings: Settings
    _store: JobStore
    _files: Files
    _staging: Staging
    _workspaces: Workspaces
    _attempts: Attempts

    async def run(self) -> None:
        """Clean up every `CLEANUP_INTERVAL_SECONDS` until cancelled."""
        if not self._settings.redis_url:
            # The jobs of the last process went with it. A store that is away keeps their packed files for later.
            with suppress(ServiceUnavailable):
                await self.remove_strays(0)
        while True:
            await asyncio.sleep(self._settings.cleanup_interval_seconds)
            try:
                await self.clean()
            except ServiceUnavailable:
                _logger.warning("cleanup put off: Redis or the storage is away")
            except OSError as error:
                _logger.warning("cleanup put off: %s", error.strerror)

    async def clean(self) -> None:
        """End uploads that were paused for `TRANSFER_RESUME_SECONDS`; remove what was idle for `JOB_TTL_SECONDS`."""
        await self._end_paused()
        ttl = self._settings.job_ttl_seconds
        is_last = False
        while not is_last:
            jobs = await self._store.idle(ttl, _AT_ONCE)
            for job in jobs:
                with suppress(StaleJobError):
                    await self._forget(job)
            is_last = len(jobs) < _AT_ONCE
        await self.remove_strays(ttl, _WORKSPACES_AT_ONCE)
        await self._files.remove_leftovers(ttl)

    async def remove_strays(self, seconds: float, most: int = sys.maxsize) -> None:
        """Remove workspaces and packed files whose jobs are gone, and in which nothing has changed for so long.

        Args:
            most: How many workspaces to look at; where there are more, the next call goes on behind them.

        Raises:
            ServiceUnavailable: The job store, or the store of the packed files, is away.
        """
        for workspace in await self._workspaces.idle(seconds, most):
            # A new job of this name may begin as soon as it is known that there is none.
            parts = await parts_of(workspace)
            if await self._is_gone(workspace.name):
                job_log(_logger, workspace.name).info("stray workspace removed")
                await discard_parts(workspace, parts)
        for job_id in await self._staging.idle(seconds):
            if await self._is_gone(job_id):
                job_log(_logger, job_id).info("stray packed file removed")
                await self._staging.discard(job_id)

    async def _is_gone(self, job_id: str) -> bool:
        try:
            return await self._store.get(job_id) is None
        except NewerRecord:
            return False

    async def _end_paused(self) -> None:
        is_last = False
        while not is_last:
            jobs = await self._store.paused(self._settings.transfer_resume_seconds, _AT_ONCE)
            for job in jobs:
                await self._attempts.end_waiting(job, UploadTimedOut())
            # A Manager that is slow, or away, gets no more reports at once: the rest end with later cleanups.
            waiting, _ = await self._store.outbox.pending()
            is_last = len(jobs) < _AT_ONCE or waiting >= _AT_ONCE

    async def _forget(self, job: Job) -> None:
        """Forget an idle job, unless the Manager still has to hear of it and to ask for its file, perhaps again."""
        if job.stage is Stage.PACKED and await self._store.outbox.contains(callback_of(job).jti):
            await self._store.save(job.changed(), None)
            return
        workspace = self._workspaces.folder(job.job_id)
        # A new job of this name may begin as soon as this one is forgotten.
        parts = await parts_of(workspace)
        await self._store.remove(job)
        job_log(_logger, job.job_id).info("forgotten after its time")
        await discard_parts(workspace, parts)
        await self._staging.discard(job.job_id)
