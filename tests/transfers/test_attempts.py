"""How attempts end, by themselves and from outside."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from open_workshop_storage.core.changes import Owned, Packed
from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import (
    CorruptArchive,
    DownloadFailed,
    ImagePreparationFailed,
    JobMissing,
    NoSpace,
    RepackFailed,
    ServiceUnavailable,
    StorageError,
    TransferCancelled,
    TransferEnded,
    UploadFailed,
)
from open_workshop_storage.core.job import Inner, Job, Resumable, Stage
from open_workshop_storage.core.store import Interruption
from open_workshop_storage.services.transfers import attempts
from open_workshop_storage.services.transfers.attempts import cancel_transfer
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import eventually
from tests.support.jobs import SHA256, job_in, new_job
from tests.support.transfers import Bench, bench

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


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[Bench]:
    """Give a bench whose worker hears what it is asked for."""
    async with bench(folder) as parts:
        parts.lifetime.start(parts.worker.follow_interruptions())
        yield parts


async def begun(go_on: asyncio.Event) -> AsyncIterator[bytes]:
    yield zip_of(SMALL_MOD)[:100]
    await go_on.wait()


async def assert_cancelled(parts: Bench, job_id: str) -> None:
    job = await parts.job(job_id)
    assert (job.stage, job.reason, job.message) == (Stage.ERROR, "exception", "Transfer cancelled")
    await eventually(lambda: len(parts.manager.requests) == 1)


async def test_an_upload_is_cut_short_and_its_client_hears_why(tmp_path: Path) -> None:
    async with listening(tmp_path) as parts:
        go_on = asyncio.Event()
        claims = parse_claims({"job_id": "job-12345678", "mod_id": 7})
        uploading = asyncio.create_task(parts.transfers.upload(claims, begun(go_on), "mod.zip", None))
        await eventually(lambda: parts.runs.job_ids)
        ended = await cancel_transfer(parts.store, claims.job_id)
        assert ended.stage is Stage.ERROR
        with pytest.raises(TransferCancelled):
            await uploading
        await assert_cancelled(parts, claims.job_id)
        assert not parts.workspaces.folder(claims.job_id).exists() and not parts.runs.job_ids


async def test_a_fetch_that_waits_for_a_worker_does_not_begin(tmp_path: Path) -> None:
    async with listening(tmp_path) as parts:
        claims = parse_claims({"job_id": "job-12345678", "mod_id": 7, "download_url": "http://127.0.0.1:9/"})
        await parts.transfers.start(claims)
        await cancel_transfer(parts.store, claims.job_id)
        await assert_cancelled(parts, claims.job_id)
        assert await parts.store.take("me") is None


async def test_a_fetch_that_waits_for_a_slot_gives_its_place_back(tmp_path: Path) -> None:
    async with listening(tmp_path) as parts:
        for holder in range(8):
            assert await parts.store.enter("download", str(holder))  # type: ignore[arg-type]
        claims = parse_claims({"job_id": "job-12345678", "mod_id": 7, "download_url": "http://127.0.0.1:9/"})
        await parts.transfers.start(claims)
        assert await parts.runs.take(expired=False) is None
        assert (await parts.store.overview(40)).slots["download"].waiting == 1
        await cancel_transfer(parts.store, claims.job_id)
        await assert_cancelled(parts, claims.job_id)
        assert (await parts.store.overview(40)).slots["download"].waiting == 0


async def test_a_paused_upload_ends(tmp_path: Path) -> None:
    async with listening(tmp_path) as parts:
        claims = parse_claims({"job_id": "job-12345678", "mod_id": 7})
        await parts.resumable.create(claims, "mod.zip", 9, Resumable(), is_expired=False)
        await cancel_transfer(parts.store, claims.job_id)
        await assert_cancelled(parts, claims.job_id)


async def test_what_has_ended_stays_as_it_is(tmp_path: Path) -> None:
    async with listening(tmp_path) as parts:
        failed = new_job(stage=Stage.ERROR, reason="timeout", message="Upload timed out")
        for job in (job_in(Stage.PACKED), job_in(Inner.MOVED), failed):
            saved = await parts.store.save(job, None)
            with pytest.raises(TransferEnded):
                await cancel_transfer(parts.store, job.job_id)
            assert await parts.job(job.job_id) == saved
        with pytest.raises(JobMissing):
            await cancel_transfer(parts.store, "job-of-nobody")


async def test_a_packed_file_that_is_about_to_be_moved_is_moved(tmp_path: Path) -> None:
    async with listening(tmp_path) as parts:
        run = parts.runs.begin_run(await parts.store.save(job_in(Inner.MOVING), None))
        # A worker may be asked late.
        await parts.store.interrupt(run.job.job_id, Interruption.CANCEL)
        async with run.reporting():
            await asyncio.sleep(0.05)
        assert (await parts.job(run.job.job_id)).state is Inner.MOVING


async def test_a_transfer_that_ends_by_itself_meanwhile_is_not_called_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = await parts.store.save(job_in(Stage.REPACKING), None)
        cancelling_it = asyncio.create_task(cancel_transfer(parts.store, job.job_id))
        # Nothing listens: it has been asked, and goes on.
        await parts.store.interrupted()
        await parts.store.save(job.model_copy(update={"stage": Stage.PACKED, "owner": None}), None)
        with pytest.raises(TransferEnded):
            await cancelling_it


async def test_without_a_worker_that_answers_it_is_given_up_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "_CANCEL_SECONDS", 0.1)
    async with bench(tmp_path) as parts:
        job = await parts.store.save(job_in(Stage.REPACKING), None)
        with pytest.raises(ServiceUnavailable):
            await cancel_transfer(parts.store, job.job_id)
