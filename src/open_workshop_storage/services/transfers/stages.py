"""The stages between a received file and a packed one (docs/API.md, "Archives" and "Images")."""

from __future__ import annotations

from typing import Any

from open_workshop_storage.core.claims import TransferKind
from open_workshop_storage.core.job import Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import Slot
from open_workshop_storage.services.archives.archives import Archives
from open_workshop_storage.services.archives.errors import as_storage_errors
from open_workshop_storage.services.archives.inspection import Inspection
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.storage.workspaces import discard
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.slots import Slots
from open_workshop_storage.services.transfers.tasks import Tasks
from open_workshop_storage.utils.archives.kinds import Kind
from open_workshop_storage.utils.archives.zip_headers import refuse_encrypted_start
from open_workshop_storage.utils.processes.threads import run_to_end


class Stages:
    """Turns received files into packed ones."""

    def __init__(self, settings: Settings, archives: Archives, images: Images, slots: Slots, tasks: Tasks) -> None:
        self._settings = settings
        self._archives = archives
        self._images = images
        self._slots = slots
        self._tasks = tasks

    def judge_start(self, run: JobRun, block: bytes) -> None:
        """Refuse a file by its first block, while the rest comes in.

        Raises:
            EncryptedArchive: It is a ZIP whose first file is encrypted.
        """
        if run.job.claims.transfer_kind is TransferKind.ARCHIVE:
            with as_storage_errors():
                refuse_encrypted_start(block)

    async def prepare(self, run: JobRun) -> dict[str, Any]:
        """Make the packed file; return what the job's record then says of it.

        Raises:
            StorageError: The file is refused, or could not be packed.
        """
        if run.job.claims.transfer_kind is TransferKind.IMAGE:
            return await self._prepare_image(run)
        return await self._prepare_archive(run)

    async def _prepare_image(self, run: JobRun) -> dict[str, Any]:
        await run.stage(Stage.PROCESSING)
        packed = run.folder / "packed.webp"
        await run_to_end(packed.parent.mkdir, parents=True, exist_ok=True)
        async with run.securing_source():
            size = await self._images.normalise(run.source, packed)
        return {"packed_file": run.within(packed), "packed_bytes": size, "unpacked_bytes": size}

    async def _prepare_archive(self, run: JobRun) -> dict[str, Any]:
        inspection = await self._archives.inspect(run.source, self._settings.transfer_max_unpacked_bytes)
        # What its headers do not refuse, the disk takes in while 7z works on it.
        async with run.securing_source():
            return await (self._keep(run, inspection) if inspection.keep else self._repack(run, inspection))

    async def _keep(self, run: JobRun, inspection: Inspection) -> dict[str, Any]:
        await self._archives.test(run.source, inspection, lambda percent: None)
        return {
            "packed_file": run.within(run.source),
            "packed_bytes": run.source.stat().st_size,
            "unpacked_bytes": inspection.unpacked_bytes,
        }

    async def _repack(self, run: JobRun, inspection: Inspection) -> dict[str, Any]:
        packed = run.folder / "packed.zip"
        async with self._slots.in_turn(Slot.REPACK, f"{run.job.job_id}/{run.job.owner}"):
            folder = run.folder / "extracted"
            if inspection.kind is not Kind.PLAIN:
                await run.stage(Stage.EXTRACTING)
            try:
                unpacked = await self._archives.extract(
                    run.source,
                    inspection,
                    folder,
                    run.job.file_name,
                    self._settings.transfer_max_unpacked_bytes,
                    lambda percent: run.progress(percent=percent),
                )
                await run.stage(Stage.REPACKING, unpacked_bytes=unpacked)
                size = await self._archives.pack(
                    folder, packed, run.job.claims.pack_level, lambda percent: run.progress(percent=percent)
                )
            finally:
                # Nobody waits for that; what of it is left when the worker dies goes with the job's folder.
                self._tasks.start(discard(folder))
        return {"packed_file": run.within(packed), "packed_bytes": size, "unpacked_bytes": unpacked}
