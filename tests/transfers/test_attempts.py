"""How attempts end."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from open_workshop_storage.core.changes import Owned, Packed
from open_workshop_storage.core.errors import (
    CorruptArchive,
    DownloadFailed,
    ImagePreparationFailed,
    NoSpace,
    RepackFailed,
    ServiceUnavailable,
    StorageError,
    UploadFailed,
)
from open_workshop_storage.core.job import Job, Stage
from tests.support.jobs import SHA256, job_in, new_job
from tests.support.transfers import bench, eventually

pytestmark = pytest.mark.anyio

IMAGE = {"transfer_kind": "img", "storage_type": "avatar"}


async def packs() -> Packed:
    return Packed("me/packed.zip", 5, 9, SHA256)


async def fails(error: Exception) -> Packed:
    raise error


async def test_a_good_attempt_is_stored_reported_and_not_renewed_any_more(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job_in(Stage.REPACKING))
        job = await parts.attempts.carry_out(run, packs())
        assert (job.stage, job.packed_bytes, job.owner) == (Stage.PACKED, 5, None)
        assert await parts.store.get(job.job_id) == job
        assert len(parts.manager.requests) == 1
        assert run.folder.exists()
        await parts.store.save(job, None)
        await parts.runs.renew()


async def test_a_failed_attempt_is_stored_reported_and_leaves_no_files(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job_in(Stage.REPACKING))
        with pytest.raises(CorruptArchive):
            await parts.attempts.carry_out(run, fails(CorruptArchive()))
        job = await parts.job(run.job.job_id)
        assert (job.stage, job.message, job.reason) == (Stage.ERROR, "Corrupt archive", "corrupt_archive")
        assert not run.workspace.exists()
        await eventually(lambda: parts.manager.requests)


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (job_in(Stage.UPLOADING), UploadFailed),
        (job_in(Stage.PENDING), DownloadFailed),
        (job_in(Stage.DOWNLOADING), DownloadFailed),
        (job_in(Stage.UPLOADED), RepackFailed),
        (job_in(Stage.EXTRACTING), RepackFailed),
        (new_job(IMAGE, stage=Stage.PROCESSING, owner="me"), ImagePreparationFailed),
    ],
)
async def test_an_unforeseen_failure_becomes_that_of_its_stage(
    tmp_path: Path, job: Job, expected: type[StorageError]
) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job)
        with pytest.raises(expected) as failure:
            await parts.attempts.carry_out(run, fails(RuntimeError("unforeseen")))
        assert isinstance(failure.value.__cause__, RuntimeError)


async def test_a_full_disk_ends_an_attempt_as_no_space(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job_in(Stage.UPLOADING))
        with pytest.raises(NoSpace):
            await parts.attempts.carry_out(run, fails(OSError(errno.ENOSPC, "full")))
        assert (await parts.job(run.job.job_id)).reason == "no_space"


async def test_a_run_that_lost_its_job_at_the_very_end_reports_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job_in(Stage.REPACKING))
        await parts.store.save(run.job.changed(Owned("successor")), None)
        with pytest.raises(ServiceUnavailable):
            await parts.attempts.carry_out(run, packs())
        assert await parts.store.outbox.pending() == (0, 0)


async def test_a_child_that_died_with_its_worker_does_not_end_the_attempt(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await parts.held(job_in(Stage.UPLOADED).model_copy(update={"source_file": "me/source"}))
        parts.lifetime.stopping.set()
        with pytest.raises(ServiceUnavailable):
            await parts.attempts.carry_out(run, fails(RepackFailed()))
        assert (await parts.taken("other")).stage is Stage.UPLOADED
