"""The jobs that this worker holds."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from open_workshop_storage.core.errors import NoSpace, RepackFailed, ServiceUnavailable, StorageError
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.services.manager.callbacks import Callbacks
from open_workshop_storage.services.storage.disk import full_disk_is_no_space
from open_workshop_storage.services.storage.workspaces import Workspaces, discard_parts, parts_of
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.tasks import Tasks

_logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_ENDING_SECONDS = 5.0

T = TypeVar("T")


class HandOver(Exception):
    """This worker is about to go; another one is to take the job on."""


def new_owner() -> str:
    """Return a name for a run that no other run has."""
    return uuid.uuid4().hex


class Runs:
    """Holds jobs for this worker, renews their leases and sees each attempt to its end.

    Attributes:
        tasks: Work that goes on without the request that began it.
        stopping: Set once this worker is about to go and takes nothing up any more.
        told_to_stop: Done from then on, for those who wait for several things at once.
        open_sockets: How many progress sockets this worker holds.
    """

    def __init__(self, store: JobStore, workspaces: Workspaces, callbacks: Callbacks, tasks: Tasks) -> None:
        self.tasks = tasks
        self.stopping = asyncio.Event()
        self.told_to_stop = tasks.start(self.stopping.wait())
        self.open_sockets = 0
        self._store = store
        self._workspaces = workspaces
        self._callbacks = callbacks
        self._runs: dict[str, JobRun] = {}
        self._attended = 0

    def hold(self, job: Job) -> JobRun:
        """Begin a run at a job that was saved or taken with this run as its owner."""
        # This worker may itself have taken a job that it lost while it was asleep.
        if job.job_id in self._runs:
            self._runs[job.job_id].stop(StaleJobError())
        run = JobRun(self._store, job, self._workspaces.folder(job.job_id))
        self._runs[job.job_id] = run
        if self.stopping.is_set() and job.origin == "url":
            run.stop(HandOver())
        return run

    def release(self, run: JobRun) -> None:
        """End a run: its lease is not renewed any more."""
        if self._runs.get(run.job.job_id) is run:
            del self._runs[run.job.job_id]
        run.end_spans()

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Have a stop wait for what is done for a client in the block."""
        self._attended += 1
        try:
            yield
        finally:
            self._attended -= 1

    @contextmanager
    def holding_socket(self) -> Iterator[None]:
        """Count a progress socket, and have a stop wait for it, during the block."""
        self.open_sockets += 1
        try:
            with self.attending():
                yield
        finally:
            self.open_sockets -= 1

    async def renew(self) -> None:
        """Renew the leases of all runs, and stop those that lost theirs."""
        if not self._runs:
            return
        runs = dict(self._runs)
        for job_id in await self._store.renew([run.job for run in runs.values()]):
            held = await self._store.get(job_id)
            try:
                if held is None:
                    await self._store.restore(runs[job_id].job)
                elif held.owner is not None:
                    raise StaleJobError
            except StaleJobError as lost:
                runs[job_id].stop(lost)
            # Without an owner the job has just been ended, by this run perhaps, which is about to hear of it.

    async def guard(self, run: JobRun, work: Coroutine[Any, Any, T], unexpected: type[StorageError]) -> T:
        """Do work on a job; whatever goes wrong ends the attempt.

        Args:
            unexpected: What a failure becomes that nothing foresees.

        Raises:
            StorageError: What went wrong; the Manager is told of it.
            ServiceUnavailable: The job went to another worker, which goes on with it.
        """
        try:
            with full_disk_is_no_space(), run.traced():
                async with run.reporting():
                    return await work
        except StaleJobError:
            self._drop(run)
        except HandOver:
            await self._hand_over(run)
        except RepackFailed as error:
            # Whoever ends this worker may have ended its child processes too, as systemd does.
            if self.stopping.is_set():
                await self._hand_over(run)
            await self.fail(run, error)
        except StorageError as error:
            await self.fail(run, error)
        except Exception as error:
            failure = unexpected()
            failure.__cause__ = error
            await self.fail(run, failure)

    def _drop(self, run: JobRun) -> NoReturn:
        # The run's folder stays until the job's end: the received file in it is its successor's now.
        job_log(_logger, run.job.job_id).warning("lost to another worker")
        self.release(run)
        raise ServiceUnavailable

    async def _hand_over(self, run: JobRun) -> NoReturn:
        job_log(_logger, run.job.job_id).info("handed over at %s", run.job.stage)
        try:
            await run.hand_over()
        except StaleJobError:
            self._drop(run)
        self.release(run)
        raise ServiceUnavailable

    async def fail(self, run: JobRun, error: StorageError) -> NoReturn:
        """End an attempt with an error, tell the Manager in the background, and raise the error."""
        # Most failures are the client's or the origin's; these are this host's.
        is_ours = error.status in (StorageError.status, NoSpace.status)
        job_log(_logger, run.job.job_id).log(
            logging.ERROR if is_ours else logging.INFO,
            "failed at %s: %s (%s)",
            run.job.stage,
            error.message,
            error.reason,
            exc_info=error.__cause__ if is_ours else None,
        )
        # The next attempt may begin as soon as this one's end is known.
        parts = await parts_of(run.workspace)
        try:
            callback = await run.fail(error)
        except StaleJobError:
            self._drop(run)
        self.release(run)
        await discard_parts(run.workspace, parts)
        self.tasks.start(self._callbacks.deliver(callback))
        raise error

    async def stop(self, grace_seconds: float) -> None:
        """End all runs of a worker that is about to go.

        What needs no client is handed over to other workers at once, and so is, after the grace period, what has
        its file. A body that is still coming in by then ends its attempt. Clients have until then to hear their
        ends.
        """
        self.stopping.set()
        for run in self._runs.values():
            if run.job.origin == "url":
                run.stop(HandOver())
        await self._wait_for_end(grace_seconds)
        for run in self._runs.values():
            needs_client = run.job.origin == "upload" and not run.is_received
            run.stop(ServiceUnavailable() if needs_client else HandOver())
        await self._wait_for_end(_ENDING_SECONDS)

    async def _wait_for_end(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._runs or self._attended:
                    await asyncio.sleep(_POLL_SECONDS)
