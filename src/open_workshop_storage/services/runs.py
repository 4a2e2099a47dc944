"""The jobs that this worker holds."""

from __future__ import annotations

import asyncio
import logging
import shutil
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from open_workshop_storage.core.errors import ServiceUnavailable, StorageError
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.services.callbacks import Callbacks
from open_workshop_storage.services.job_run import JobRun
from open_workshop_storage.services.storage import Storage
from open_workshop_storage.services.tasks import Tasks

_logger = logging.getLogger(__name__)

T = TypeVar("T")


def new_owner() -> str:
    """Return a name for a run that no other run has."""
    return uuid.uuid4().hex


class Runs:
    """Holds jobs for this worker, renews their leases and sees each attempt to its end."""

    def __init__(self, store: JobStore, storage: Storage, callbacks: Callbacks, tasks: Tasks) -> None:
        self.tasks = tasks
        self._store = store
        self._storage = storage
        self._callbacks = callbacks
        self._runs: dict[str, JobRun] = {}

    def hold(self, job: Job) -> JobRun:
        """Begin a run at a job that was saved or taken with this run as its owner."""
        run = JobRun(self._store, job, self._storage.workspace(job.job_id))
        self._runs[job.job_id] = run
        return run

    def release(self, run: JobRun) -> None:
        """End a run: its lease is not renewed any more."""
        if self._runs.get(run.job.job_id) is run:
            del self._runs[run.job.job_id]

    async def renew(self) -> None:
        """Renew the leases of all runs, and stop those that lost theirs."""
        if not self._runs:
            return
        runs = dict(self._runs)
        for job_id in await self._store.renew([run.job for run in runs.values()]):
            runs[job_id].lose()

    async def guard(self, run: JobRun, work: Coroutine[Any, Any, T], unexpected: type[StorageError]) -> T:
        """Do work on a job; whatever goes wrong ends the attempt.

        Args:
            unexpected: What a failure becomes that nothing foresees.

        Raises:
            StorageError: What went wrong; the Manager is told of it.
            ServiceUnavailable: The job was lost to another worker, which goes on with it.
        """
        try:
            async with run.reporting():
                return await work
        except StaleJobError:
            await self._drop(run)
        except StorageError as error:
            await self.fail(run, error)
        except Exception:
            _logger.exception("job %s: unexpected failure", run.job.job_id)
            await self.fail(run, unexpected())

    async def _drop(self, run: JobRun) -> NoReturn:
        _logger.warning("job %s: lost to another worker", run.job.job_id)
        self.release(run)
        await discard(run.folder)
        raise ServiceUnavailable

    async def fail(self, run: JobRun, error: StorageError) -> NoReturn:
        """End an attempt with an error, tell the Manager in the background, and raise the error."""
        _logger.info("job %s: %s (%s)", run.job.job_id, error.message, error.reason)
        try:
            callback = await run.fail(error)
        except StaleJobError:
            await self._drop(run)
        self.release(run)
        await discard(run.workspace)
        self.tasks.start(self._callbacks.deliver(callback))
        raise error


async def discard(folder: Path) -> None:
    """Remove a folder with all that is in it, if it is there."""
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
