"""Begins transfers and carries them to their packed file (docs/API.md, "Loader: transfers")."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.core import errors
from open_workshop_storage.core.changes import Counted, Held, Opened, Packed, Resumed
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Job, Slot, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore, StaleJobError
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.observability.tracing import joined, traceparent
from open_workshop_storage.services.intake.fetch import Fetcher, parse_url
from open_workshop_storage.services.intake.receive import receive, transfer_limits
from open_workshop_storage.services.storage.disk import has_space
from open_workshop_storage.services.transfers.attempts import Attempts, Unreported
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.lifetime import HasLeft, never_leaves
from open_workshop_storage.services.transfers.moves import Moves
from open_workshop_storage.services.transfers.resumable import ResumableUploads
from open_workshop_storage.services.transfers.runs import Runs, new_owner
from open_workshop_storage.services.transfers.stages import Stages
from open_workshop_storage.utils.files.paths import safe_file_name
from open_workshop_storage.utils.http.digest_fields import sha256_in
from open_workshop_storage.utils.processes.threads import run_to_end

_logger = logging.getLogger(__name__)

_SOURCE = "source"


@dataclass(eq=False)
class Transfers:
    """Uploads and URL transfers."""

    _settings: Settings
    _store: JobStore
    _runs: Runs
    _attempts: Attempts
    _stages: Stages
    _fetcher: Fetcher
    _moves: Moves
    _resumable: ResumableUploads

    async def start(self, claims: TransferClaims) -> str:
        """Queue a URL transfer for any worker; return `started`, or the status of the job that the token began.

        Raises:
            BadRequest: The token names no URL, or one that cannot be fetched.
            ServiceUnavailable: The store is away.
        """
        if not claims.download_url:
            raise errors.BadRequest("Download URL missing")
        parse_url(claims.download_url)
        job = Job(
            job_id=claims.job_id,
            claims=claims,
            origin="url",
            file_name=safe_file_name(claims.filename or ""),
            slot=Slot.DOWNLOAD,
            traceparent=traceparent(),
        )
        while True:
            try:
                await self._store.save(job, EventKind.STAGE)
            except StaleJobError:
                known = await self._store.get(job.job_id)
                status = await self._store.forgotten(job.job_id) if known is None else known.status
                if status is not None:
                    return status
            else:
                self._runs.counts.begun()
                job_log(_logger, job.job_id).info("queued to be fetched")
                return "started"

    async def upload(
        self,
        claims: TransferClaims,
        chunks: AsyncIterator[bytes],
        file_name: str,
        announced: int | None,
        digests: Sequence[str] = (),
        has_left: HasLeft = never_leaves,
    ) -> Job:
        """Receive a file and pack it; return the job once the callback's first attempt has ended.

        Args:
            announced: The body's size in bytes, if the client said it.
            digests: What the client's digest fields say of the body (RFC 9530).

        Raises:
            UploadInProgress: Another request, or a worker, works on the job.
            UploadFinished: It has its file, or had it before it was forgotten.
            StorageBusy: Too many uploads run.
            ServiceUnavailable: The store is away, or another worker took the job over.
            StorageError: The attempt ended with this error, and the Manager is told.
            ScannerUnavailable: The attempt ended with this, and the Manager is told only if the client has left.
            UploadNotAccepted: The file is packed, and the Manager does not want it.
            BadRequest: The token is one for a URL transfer.
        """
        previous = await self._store.get(claims.job_id)
        job = await self._attempts.begin_upload(previous, claims, file_name, announced, new_owner())
        run = self._runs.begin_run(job, has_left)
        return await self._attempts.carry_out(run, self._receive_and_pack(run, chunks, digests))

    async def _receive_and_pack(self, run: JobRun, chunks: AsyncIterator[bytes], digests: Sequence[str]) -> Packed:
        try:
            sha256 = sha256_in(digests)
        except ValueError:
            raise errors.BadRequest("Malformed digest") from None
        await self._receive(run, chunks, run.job.total, sha256=sha256)
        try:
            return await self._stages.prepare(run)
        except errors.ScannerUnavailable as refusal:
            if not await run.is_heard():
                raise
            raise Unreported(refusal) from None

    async def resume(self, job: Job) -> None:
        """Go on with a job that was taken from the store, from its last finished stage to its end.

        The stages are those of the table in docs/ARCHITECTURE.md, "A job".
        """
        run = self._runs.begin_run(job)
        # Failures are logged and reported where they end the attempt.
        with joined(job.traceparent), suppress(errors.StorageError):
            job_log(_logger, job.job_id).info("taken at %s", job.stage)
            if job.stage is Stage.PACKED:
                await self._moves.finish(run, taken_over=True)
            else:
                await self._attempts.carry_out(run, self._go_on(run))

    async def _go_on(self, run: JobRun) -> Packed:
        is_upload = run.job.origin == "upload"
        if run.job.resumable is not None and not run.is_received:
            return await self._resumable.go_on(run)
        if run.job.given_up:
            raise errors.UploadFailed if is_upload else errors.DownloadFailed
        if not await run.find_source():
            if is_upload:
                # The body went to a worker or a host that is gone, and cannot be had again.
                raise errors.UploadFailed
            await self._fetch(run)
        return await self._stages.prepare(run)

    async def _fetch(self, run: JobRun) -> None:
        claims = run.job.claims
        assert claims.download_url is not None
        async with AsyncExitStack() as slot:

            async def pause(seconds: float) -> None:
                # Another fetch has the slot during the pause, or origins could hold all of them.
                if run.job.slot is not None:
                    await run.save(Held(None))
                await slot.aclose()
                await asyncio.sleep(seconds)
                # Another run would not know how often the origin has been asked.
                await slot.enter_async_context(self._runs.in_turn(Slot.DOWNLOAD, run.owner, run.job.created_at))

            await run.take_slot(Slot.DOWNLOAD)
            kept = 0
            if run.job.partial_file is not None and run.job.validator is not None:
                partial, reserve_bytes = run.workspace / run.job.partial_file, self._settings.storage_reserve_bytes
                kept = await run_to_end(_copy, partial, run.folder / _SOURCE, reserve_bytes)
            await run.stage(Stage.DOWNLOADING, Resumed(kept, run.job.total if kept else None))
            try:
                # The time limit holds for connecting and redirects too.
                async with asyncio.timeout(self._settings.transfer_download_timeout_seconds or None):
                    fetching = self._fetcher.open(
                        claims.download_url, offset=kept, validator=run.job.validator, pause=pause
                    )
                    async with fetching as response:
                        run.progress(
                            Opened(
                                total=response.total,
                                validator=response.validator,
                                partial_file=run.within(run.folder / _SOURCE),
                                file_name=safe_file_name(claims.filename or response.filename or ""),
                            )
                        )
                        await self._receive(run, response.chunks, response.total, response.offset)
            except TimeoutError:
                raise errors.DownloadTimedOut from None

    async def _receive(
        self,
        run: JobRun,
        chunks: AsyncIterator[bytes],
        expected: int | None,
        offset: int = 0,
        sha256: str | None = None,
    ) -> None:
        source = run.folder / _SOURCE
        size, is_on_disk = await receive(
            chunks,
            source,
            transfer_limits(self._settings, run.job.claims),
            expected,
            lambda count: run.progress(Counted(count)),
            offset,
            lambda block: self._stages.judge_start(run, block),
            digest=None if offset else run.digest,
            pace=run.pace,
        )
        await run.received(source, size, is_on_disk=is_on_disk, sha256=sha256)


def _copy(partial: Path, target: Path, reserve_bytes: int) -> int:
    """Copy what an earlier run fetched, so that this one can go on from there; return its size in bytes.

    It cannot go on in the same file, since that run's worker may only be asleep, and write on when it wakes. Where the
    disk has no room for both, nothing is kept, and the fetch begins anew.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    copied = 0
    with suppress(FileNotFoundError):
        if has_space(target.parent, partial.stat().st_size, reserve_bytes):
            shutil.copyfile(partial, target)
            copied = target.stat().st_size
        partial.unlink()
    return copied
