"""How attempts end, and what becomes of runs when their worker is about to go."""

from __future__ import annotations

import asyncio
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
from open_workshop_storage.core.store import StaleJobError
from open_workshop_storage.services.transfers.job_run import JobRun
from tests.support.jobs import SHA256, job_in, new_job
from tests.support.transfers import Bench, bench, eventually

pytestmark = pytest.mark.anyio

IMAGE = {"transfer_kind": "img", "storage_type": "avatar"}


async def held(parts: Bench, job: Job) -> JobRun:
    """Store a job, and begin a run at it that has a file in its workspace."""
    run = parts.runs.begin_run(await parts.store.save(job, None))
    run.folder.mkdir(parents=True)
    (run.folder / "source").write_bytes(b"received")
    return run


async def packs() -> Packed:
    return Packed("me/packed.zip", 5, 9, SHA256)


async def fails(error: Exception) -> Packed:
    raise error


async def forever() -> Packed:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_good_attempt_is_stored_reported_and_not_renewed_any_more(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, job_in(Stage.REPACKING))
        job = await parts.runs.attempt(run, packs())
        assert (job.stage, job.packed_bytes, job.owner) == (Stage.PACKED, 5, None)
        assert await parts.store.get(job.job_id) == job
        assert len(parts.manager.requests) == 1
        assert run.folder.exists()
        await parts.store.save(job, None)
        await parts.runs.renew()


async def test_a_failed_attempt_is_stored_reported_and_leaves_no_files(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, job_in(Stage.REPACKING))
        with pytest.raises(CorruptArchive):
            await parts.runs.attempt(run, fails(CorruptArchive()))
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
        run = await held(parts, job)
        with pytest.raises(expected) as failure:
            await parts.runs.attempt(run, fails(RuntimeError("unforeseen")))
        assert isinstance(failure.value.__cause__, RuntimeError)


async def test_a_full_disk_ends_an_attempt_as_no_space(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, job_in(Stage.UPLOADING))
        with pytest.raises(NoSpace):
            await parts.runs.attempt(run, fails(OSError(errno.ENOSPC, "full")))
        assert (await parts.job(run.job.job_id)).reason == "no_space"


async def test_a_run_that_lost_its_job_leaves_record_and_files_to_its_successor(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, job_in(Stage.REPACKING))
        successor = await parts.store.save(run.job.changed(Owned("successor")), None)
        working = asyncio.create_task(parts.runs.attempt(run, forever()))
        await asyncio.sleep(0)
        await parts.runs.renew()
        with pytest.raises(ServiceUnavailable):
            await working
        assert await parts.store.get(run.job.job_id) == successor
        assert (run.folder / "source").exists()
        assert parts.manager.requests == []


async def test_a_run_that_lost_its_job_at_the_very_end_reports_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, job_in(Stage.REPACKING))
        await parts.store.save(run.job.changed(Owned("successor")), None)
        with pytest.raises(ServiceUnavailable):
            await parts.runs.attempt(run, packs())
        assert await parts.store.outbox.pending() == (0, 0)


async def test_a_second_run_at_a_job_in_one_worker_ends_the_first(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, job_in(Stage.REPACKING))
        working = asyncio.create_task(parts.runs.attempt(run, forever()))
        await asyncio.sleep(0)
        parts.runs.begin_run(await parts.store.save(run.job.changed(Owned("successor")), None))
        with pytest.raises(ServiceUnavailable):
            await working


async def test_a_stopping_worker_hands_fetches_over_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, new_job(origin="url", stage=Stage.DOWNLOADING, owner="me"))
        working = asyncio.create_task(parts.runs.attempt(run, forever()))
        await asyncio.sleep(0)
        await parts.runs.stop(20)
        with pytest.raises(ServiceUnavailable):
            await working
        taken = await parts.taken("other")
        assert (taken.stage, taken.owner) == (Stage.DOWNLOADING, "other")
        assert parts.manager.requests == []


async def test_a_stopping_worker_hands_received_uploads_over_and_ends_the_others(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        received = await held(parts, job_in(Stage.UPLOADED).model_copy(update={"source_file": "me/source"}))
        coming = await held(parts, job_in(Stage.UPLOADING))
        working = [asyncio.create_task(parts.runs.attempt(run, forever())) for run in (received, coming)]
        await asyncio.sleep(0)
        await parts.runs.stop(0)
        assert [type(task.exception()) for task in working] == [ServiceUnavailable] * 2
        assert (await parts.taken("other")).job_id == received.job.job_id
        assert await parts.store.take("another") is None
        assert (await parts.job(coming.job.job_id)).stage is Stage.ERROR


async def test_a_child_that_died_with_its_worker_does_not_end_the_attempt(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, job_in(Stage.UPLOADED).model_copy(update={"source_file": "me/source"}))
        parts.lifetime.stopping.set()
        with pytest.raises(ServiceUnavailable):
            await parts.runs.attempt(run, fails(RepackFailed()))
        assert (await parts.taken("other")).stage is Stage.UPLOADED


async def test_a_stop_waits_for_clients_that_are_attended_to(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        with parts.lifetime.holding_socket("job-7f3a9c21"):
            assert parts.lifetime.open_sockets == 1
            stopping = asyncio.create_task(parts.runs.stop(20))
            await eventually(parts.lifetime.stopping.is_set)
            assert not stopping.done()
        await stopping
        assert parts.lifetime.open_sockets == 0


async def test_a_lost_record_is_told_apart_from_a_removed_one(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        run = await held(parts, job_in(Stage.UPLOADING))
        working = asyncio.create_task(parts.runs.attempt(run, forever()))
        await asyncio.sleep(0)
        await parts.store.remove(run.job)
        with pytest.raises(StaleJobError):
            await parts.store.restore(run.job)
        await parts.runs.renew()
        with pytest.raises(ServiceUnavailable):
            await working
