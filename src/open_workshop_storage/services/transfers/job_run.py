"""A worker's hold on one job: the only way in which work on a job changes its record."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from open_workshop_storage.core.callback import Callback, callback_of
from open_workshop_storage.core.changes import Held, Housed, Owned, Pace, Received, Secured
from open_workshop_storage.core.errors import DigestDiffers, NewerRecord, ServiceUnavailable
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Change, Job, Slot, Stage
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.observability.tracing import StageSpans
from open_workshop_storage.services.transfers.counts import TransferCounts
from open_workshop_storage.services.transfers.lifetime import HasLeft
from open_workshop_storage.utils.files.digests import FileDigest
from open_workshop_storage.utils.files.durable_files import sync
from open_workshop_storage.utils.processes.task_groups import run_beside, without_group
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

_logger = logging.getLogger(__name__)

# The 250 ms of the contract, and something for messages that do not all travel at the same speed.
_PROGRESS_SECONDS = 0.26
_RETRY_SECONDS = 1.0


class Queued(Exception):
    """The job waits for a slot, and belongs to no run any more."""


class JobRun:
    """One run of one worker at one job, from taking the lease to the end or the loss of the lease.

    Each run writes into a folder of its own, so a worker that lost the job without noticing cannot touch what its
    successor makes.

    Args:
        job: The record as stored, owned by this run.
        workspace: The job's folder.
        home: This host, if others do not see that folder.
        has_left: Of the client that waits for this run's answer, so that it keeps its job while it waits for a slot.

    Attributes:
        interrupted: Done once another request wants to go on with the upload that this run receives.
        digest: Of the received file; a run that receives it from its first byte on adds what comes.
        pace: The job's, which a run that receives bytes adds to.
        spans: Those of the job's stages; whoever ends the run ends the last one.
    """

    def __init__(
        self,
        store: JobStore,
        job: Job,
        workspace: Path,
        counts: TransferCounts,
        home: str | None = None,
        has_left: HasLeft | None = None,
    ) -> None:
        assert job.owner is not None
        self.job = job
        self.owner = job.owner
        self.workspace = workspace
        self.folder = workspace / job.owner
        self.interrupted = asyncio.get_running_loop().create_future()
        self.digest = FileDigest()
        self.pace = Pace(job.waited_seconds, job.sent_bytes)
        self.spans = StageSpans(job.job_id, job.traceparent)
        self._store = store
        self._counts = counts
        self._home = home
        self._has_left = has_left
        self._log = job_log(_logger, job.job_id)
        self._source = workspace / job.source_file if job.source_file else None
        self._saving = asyncio.Lock()
        self._progress: dict[type[Change], Change] = {}
        self._news = asyncio.Event()
        self._stopped: BaseException | None = None
        self._last_event = self._stage_began = time.monotonic()

    @property
    def is_attended(self) -> bool:
        """Whether a client waits for this run's answer."""
        return self._has_left is not None

    async def is_heard(self) -> bool:
        """Return whether a client waits for this run's answer, and has not left since."""
        return self._has_left is not None and not await self._has_left()

    def interrupt(self) -> None:
        """Have the upload that this run receives left to another request."""
        if not self.interrupted.done():
            self.interrupted.set_result(None)

    @property
    def source(self) -> Path:
        """The received file."""
        assert self._source is not None
        return self._source

    @property
    def is_received(self) -> bool:
        """Whether the received file is complete."""
        return self._source is not None

    async def find_source(self) -> bool:
        """Return whether the received file is complete, and on this host."""
        if self._source is not None and not await asyncio.to_thread(self._source.exists):
            self._source = None
        return self.is_received

    def within(self, path: Path) -> str:
        """Return a path of the workspace as the job's record names it."""
        return path.relative_to(self.workspace).as_posix()

    def stop(self, error: Exception) -> None:
        """Cancel what is being done inside `reporting`, which then raises the error."""
        self._stopped = error
        self._news.set()

    def progress(self, fact: Change) -> None:
        """Note progress, which goes out with the next message, at most one every 250 ms."""
        self._progress[type(fact)] = fact
        self._news.set()

    async def stage(self, stage: Stage, *changes: Change) -> None:
        """Enter a stage."""
        await self.save(*changes, event=EventKind.STAGE, stage=stage)
        self.spans.enter(stage)
        self._log.info("%s, %d bytes", stage, self.job.bytes)

    async def take_slot(self, slot: Slot) -> None:
        """Go on with a slot, and give the one that the run has back.

        Raises:
            Queued: None is free.
        """
        if self.job.slot is slot:
            return
        # Whichever run has its turn goes on from there.
        await self._secure_source()
        await self.save(Held(slot))
        if self.job.owner is None:
            raise Queued

    async def received(self, source: Path, size: int, *, is_on_disk: bool, sha256: str | None = None) -> None:
        """Enter the stage after the last byte, and give the slot back.

        Args:
            is_on_disk: Whether the disk has taken the file in; else `securing_source` has to see to that.
            sha256: What the file's digest has to be, as hex digits; `None` if nothing was said.

        Raises:
            DigestDiffers: It is another one.
        """
        # Before the record names the file, since another run would go on from it.
        if sha256 is not None and await self.sha256_of(source, size) != sha256:
            raise DigestDiffers
        job, named = self.job, self.within(source) if is_on_disk else None
        lost = job.lost_owners if job.lost_receivers is None else job.lost_receivers
        stage = Stage.UPLOADED if job.origin == "upload" else Stage.DOWNLOADED
        await self.stage(stage, Received(size, size, named, lost), Held(None))
        self._source = source

    async def sha256_of(self, source: Path, size: int) -> str:
        """Return the digest of a file of so many bytes, of which only those are read that were not hashed before."""
        known = self.digest.of(size)
        return known if known is not None else await run_until_stopped(partial(self.digest.finish, source))

    @asynccontextmanager
    async def securing_source(self) -> AsyncIterator[None]:
        """Write the received file to the disk, unless it is there, while the block does something with it.

        From then on the record names it, and other runs can go on from it.

        Raises:
            OSError: The disk does not take it.
        """
        with without_group():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._secure_source())
                yield

    async def _secure_source(self) -> None:
        if self._source is not None and self.job.source_file is None:
            await run_to_end(sync, self._source)
            secured = Secured(self.within(self._source))
            if self.job.origin == "upload":
                # Its body cannot be had again.
                await self.save(secured)
            else:
                # It goes with the next save, for a small file that of the attempt's end.
                self.progress(secured)

    async def hand_over(self) -> None:
        """Leave the job to whichever worker takes it next."""
        await self._secure_source()
        waits_for = Slot.DOWNLOAD if self.job.origin == "url" else None
        await self.save(Owned(None, self.job.packing_slot if self.is_received else waits_for))

    async def save(
        self, *changes: Change, event: EventKind | None = None, stage: Stage | None = None, is_reported: bool = True
    ) -> Callback | None:
        """Save the record with what is new, for as long as it takes; return the report that is stored with it, if any.

        Args:
            event: What clients are told of it; `None` for nothing.
            stage: The stage that begins; the time in the one before is counted.
            is_reported: Whether the Manager hears of an attempt that ends with it.

        Raises:
            StaleJobError: The lease is lost.
        """
        async with self._saving:
            progress, self._progress = self._progress, {}
            try:
                wanted = self.job.changed(Housed(self._home), self.pace, *progress.values(), *changes, stage=stage)
                callback = callback_of(wanted) if is_reported and wanted.ended and not self.job.ended else None
                saved = await self._save_for_sure(wanted, event, callback)
                self._counts.received(saved.bytes - self.job.bytes)
                left, self.job = self.job, saved
            except BaseException:
                # A message that is given up must not take with it what the attempt's end has to tell.
                self._progress = {**progress, **self._progress}
                raise
            # Counted from here, no slow save brings two messages closer together than they may be.
            self._last_event = now = time.monotonic()
            if stage is not None:
                self._counts.left_stage(left, now - self._stage_began)
                self._stage_began = now
            return callback

    async def _save_for_sure(self, wanted: Job, event: EventKind | None, callback: Callback | None) -> Job:
        while True:
            try:
                return await self._save_once(wanted, event, callback)
            except ServiceUnavailable:
                # Work that is under way outlives an absence of Redis.
                await asyncio.sleep(_RETRY_SECONDS)

    async def _save_once(self, wanted: Job, event: EventKind | None, callback: Callback | None) -> Job:
        try:
            return await self._store.save(wanted, event, callback)
        except StaleJobError:
            try:
                held = await self._store.get(wanted.job_id)
            except NewerRecord:
                raise StaleJobError from None
            if held is None:
                # Redis has lost its data; this worker still knows the job.
                await self._store.restore(self.job)
            elif held == wanted.as_saved(ends=event is not None and event.final):
                # Only the answer to an earlier try was lost.
                return held
            elif held.owner == self.job.owner:
                # So was the answer to an earlier save that was given up; no other run has this one's name.
                wanted = wanted.model_copy(update={"version": held.version})
            else:
                raise
            return await self._store.save(wanted, event, callback)

    @asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Send progress messages while the block runs, and have what it does lie in the spans of the job's stages.

        Raises:
            StaleJobError: The lease is lost; the block was cancelled.
            Exception: What `stop` was called with; the block was cancelled.
        """
        with self.spans.current(self.job.stage):
            async with run_beside(self._report()):
                yield

    async def _report(self) -> NoReturn:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._stopped is not None:
                raise self._stopped
            await asyncio.sleep(self._last_event + _PROGRESS_SECONDS - time.monotonic())
            if self._progress:
                is_told = any(change.is_told for change in self._progress.values())
                await self.save(event=EventKind.PROGRESS if is_told else None)
