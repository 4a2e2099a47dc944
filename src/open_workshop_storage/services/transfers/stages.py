"""The stages between a received file and a packed one (docs/API.md, "Archives" and "Images")."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.core.changes import Advanced, Held, Packed, ScannerAway, Unpacked
from open_workshop_storage.core.claims import TransferKind
from open_workshop_storage.core.errors import ScannerUnavailable, ServiceUnavailable, StoreRefuses
from open_workshop_storage.core.job import Change, Slot, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.logs import job_log
from open_workshop_storage.services.archives.archives import Archives
from open_workshop_storage.services.archives.inspection import Inspection
from open_workshop_storage.services.archives.parsers import as_storage_errors
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.intake.scan import Scanner
from open_workshop_storage.services.storage.staging import Staging, facts_of
from open_workshop_storage.services.storage.workspaces import discard
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.lifetime import Lifetime
from open_workshop_storage.services.transfers.runs import Runs
from open_workshop_storage.utils.archives.kinds import Kind
from open_workshop_storage.utils.archives.zip_headers import refuse_encrypted_start
from open_workshop_storage.utils.processes.task_groups import without_group
from open_workshop_storage.utils.processes.threads import run_to_end

_logger = logging.getLogger(__name__)

_PACKED = "packed.zip"
_STORE_SECONDS = 1.0
_STORED = 0
"""The level at which nothing is compressed."""


@dataclass(eq=False)
class Stages:
    """Turns received files into packed ones."""

    _settings: Settings
    _archives: Archives
    _images: Images
    _scanner: Scanner
    _staging: Staging
    _runs: Runs
    _lifetime: Lifetime

    def judge_start(self, run: JobRun, block: bytes) -> None:
        """Refuse a file by its first block, while the rest comes in.

        Raises:
            EncryptedArchive: It is a ZIP whose first file is encrypted.
        """
        if run.job.claims.transfer_kind is TransferKind.ARCHIVE:
            with as_storage_errors():
                refuse_encrypted_start(block)

    async def prepare(self, run: JobRun) -> Packed:
        """Make the packed file, have it scanned, which takes no slot, and let any host move it.

        Images are encoded anew, and not scanned. A store that is away is waited for.

        Raises:
            Queued: No slot is free, and no client waits for this run.
            MalwareFound: The scanner found something in it.
            ScannerUnavailable: It has to be scanned, and cannot be now.
            StoreRefuses: The store that it goes to is there, and does not take it.
            StorageError: The file is refused, or could not be packed.
        """
        # The disk takes the file in while this waits for a slot, and while it is decoded, or packed and scanned.
        async with run.securing_source():
            if run.job.claims.transfer_kind is TransferKind.IMAGE:
                packed = await self._normalise(run)
            else:
                packed, copy = await self._pack(run)
                await self._scan(run, packed, copy)
        while True:
            try:
                await self._staging.stage(run.job.job_id, packed.packed_file, facts_of(run.job, packed))
                return packed
            except StoreRefuses:
                raise
            except ServiceUnavailable:
                await asyncio.sleep(_STORE_SECONDS)

    @asynccontextmanager
    async def _turn(self, run: JobRun) -> AsyncIterator[None]:
        """Hold the slot that a received file is packed with; the run ends as `Queued` where it may not wait for one."""
        slot = run.job.packing_slot
        if run.is_attended:
            async with self._runs.in_turn(slot, run.owner, run.job.created_at):
                yield
        else:
            await run.take_slot(slot)
            yield
            # It goes with the next save, most often that of the attempt's end.
            run.progress(Held(None))

    async def _normalise(self, run: JobRun) -> Packed:
        webp = run.folder / "packed.webp"
        async with self._turn(run):
            await run.stage(Stage.PROCESSING)
            await run_to_end(webp.parent.mkdir, parents=True, exist_ok=True)
            size, sha256 = await self._images.normalise(run.source, webp)
        return Packed(run.within(webp), size, size, sha256)

    async def _pack(self, run: JobRun) -> tuple[Packed, Packed | None]:
        """Return the packed file, and a stored copy for the scanner where it cannot undo a compression method."""
        job = run.job
        small = await self._archives.inspector.inspect_small_zip(run.source, self._settings.transfer_max_unpacked_bytes)
        # Slots limit `7z`, which nothing starts for a small sound ZIP.
        async with nullcontext() if small is not None and small.is_sound else self._turn(run):
            inspection = small or await self._archives.inspector.inspect(
                run.source, job.file_name, self._settings.transfer_max_unpacked_bytes
            )
            if not inspection.keep:
                level = job.claims.pack_level
                return await self._repack(run.source, inspection, run.folder, job.file_name, level, run), None
            size, unpacked = (await asyncio.to_thread(run.source.stat)).st_size, inspection.unpacked_bytes
            with without_group():
                async with asyncio.TaskGroup() as group:
                    # What was not hashed while it came is hashed beside the test.
                    sha256 = group.create_task(run.sha256_of(run.source, size))
                    await self._archives.inspector.test(run.source, inspection)
            packed = Packed(run.within(run.source), size, unpacked, sha256.result())
            if not (self._scanner.is_set and inspection.has_new_methods):
                return packed, None
            return packed, await self._repack(run.source, inspection, run.folder, job.file_name, _STORED, None)

    async def _scan(self, run: JobRun, packed: Packed, copy: Packed | None) -> None:
        log = job_log(_logger, run.job.job_id)

        async def away_since() -> float:
            if run.job.scanner_away_since is not None:
                return run.job.scanner_away_since
            # Later runs wait on from here.
            began = time.time()
            await run.save(ScannerAway(began))
            return began

        try:
            for result in filter(None, (packed, copy)):
                await self._scanner.require_clean(run.workspace / result.packed_file, log, away_since)
        except ScannerUnavailable:
            # The received file may be scanned another time.
            await discard(run.folder / _PACKED)
            raise
        finally:
            if copy is not None:
                self._lifetime.start(discard(run.workspace / copy.packed_file))

    async def repack(self, source: Path, folder: Path, file_name: str, level: int) -> Packed:
        """Pack a received file again, waiting for a repack slot, and have it scanned.

        Args:
            folder: Belongs to this repack alone, in the job's workspace; its name is unique.
            file_name: The name that a file which is no archive gets in the ZIP.
            level: 0 (fastest) to 9 (smallest).

        Raises:
            MalwareFound: The scanner found something in it.
            ScannerUnavailable: It has to be scanned, and cannot be now.
            StorageError: The file is refused, or could not be packed.
        """
        async with self._runs.in_turn(Slot.REPACK, folder.name):
            inspection = await self._archives.inspector.inspect(
                source, file_name, self._settings.transfer_max_unpacked_bytes
            )
            packed = await self._repack(source, inspection, folder, file_name, level, None)
        job_id = folder.parent.name
        await self._scanner.require_clean(folder.parent / packed.packed_file, job_log(_logger, job_id))
        return packed

    async def _repack(
        self, source: Path, inspection: Inspection, folder: Path, file_name: str, level: int, run: JobRun | None
    ) -> Packed:
        """Extract and pack; a run hears how far it is."""

        async def enter(stage: Stage, *changes: Change) -> None:
            if run is not None:
                await run.stage(stage, *changes)

        def advance(percent: float) -> None:
            if run is not None:
                run.progress(Advanced(percent))

        extracted, packed = folder / "extracted", folder / _PACKED
        if inspection.kind is not Kind.PLAIN:
            await enter(Stage.EXTRACTING)
        try:
            unpacked = await self._archives.repacker.extract(
                source, inspection, extracted, file_name, self._settings.transfer_max_unpacked_bytes, advance
            )
            await enter(Stage.REPACKING, Unpacked(unpacked))
            size, sha256 = await self._archives.repacker.pack(extracted, packed, level, advance)
        finally:
            # What is left of it when the worker dies goes with the job's folder.
            self._lifetime.start(discard(extracted))
        return Packed(packed.relative_to(folder.parent).as_posix(), size, unpacked, sha256)
