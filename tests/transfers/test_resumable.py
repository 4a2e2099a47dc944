"""Uploads in several requests, whose workers may be replaced at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from open_workshop_storage.core.changes import Continued
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import (
    AccessDenied,
    ChecksumDiffers,
    DigestDiffers,
    FileTooLarge,
    OffsetDiffers,
    ServiceUnavailable,
    UploadFinished,
    UploadGone,
    UploadStalled,
    UploadTaken,
    UploadTimedOut,
)
from open_workshop_storage.core.job import Inner, Job, Part, Resumable, Slot, Stage
from open_workshop_storage.core.store import StaleJobError
from open_workshop_storage.services.intake.upload_bodies import UploadRequest
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.client import eventually
from tests.support.transfers import Bench, bench, pieces

pytestmark = pytest.mark.anyio

JOB_ID = "job-in-pieces"
MOD = zip_of(SMALL_MOD)


@pytest.fixture
def long_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a paused upload be known for longer than a test lasts."""
    monkeypatch.setattr("open_workshop_storage.services.transfers.resumable._REMEMBER_SECONDS", 600)


async def begun(parts: Bench, length: int | None = len(MOD)) -> Job:
    return await parts.resumable.create(TransferClaims(job_id=JOB_ID), "mod.zip", length, Resumable(), is_expired=False)


async def sent(parts: Bench, offset: int, content: bytes) -> Job:
    return await parts.resumable.append(JOB_ID, UploadRequest(offset, len(content)), pieces(content))


async def held(content: bytes) -> AsyncIterator[bytes]:
    """Send some bytes, and hold on."""
    yield content
    await asyncio.Event().wait()


def record_of_a_dead_worker(parts: Bench, job: Job, written: bytes) -> Job:
    """Return the record of an upload whose worker vanished after it had written so many bytes."""
    file = parts.workspaces.folder(JOB_ID) / "dead" / "part"
    file.parent.mkdir(parents=True)
    file.write_bytes(written)
    return job.changed(Continued("dead", Resumable(parts=(Part(file="dead/part"),)), job.total))


async def packed_bytes(parts: Bench, job: Job) -> bytes:
    assert job.stage is Stage.PACKED and job.packed_file is not None
    return (parts.workspaces.folder(JOB_ID) / job.packed_file).read_bytes()


async def test_requests_that_end_in_order_go_on_in_one_file(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        for start in range(0, len(MOD) - 50, 50):
            job = await sent(parts, start, MOD[start : start + 50])
            assert job.state is Inner.PAUSED and job.bytes == start + 50
            assert job.resumable is not None and len(job.resumable.parts) == 1
        assert await packed_bytes(parts, await sent(parts, job.bytes, MOD[job.bytes :])) == MOD


@pytest.mark.parametrize("size", [len(MOD) + 1, 50], ids=["in one request", "in several"])
async def test_a_whole_upload_is_judged_by_the_digest_that_its_creation_told(tmp_path: Path, size: int) -> None:
    digest = sha256(MOD).hexdigest()
    for content, error in ((MOD, None), (MOD + b"x", DigestDiffers)):
        async with bench(tmp_path / f"{error}") as parts:
            claims, described = TransferClaims(job_id=JOB_ID), Resumable(sha256=digest)
            await parts.resumable.create(claims, "a", len(content), described, is_expired=False)
            with pytest.raises(error) if error else nullcontext():
                for start in range(0, len(content), size):
                    await sent(parts, start, content[start : start + size])
            job = await parts.job(JOB_ID)
            assert (job.sha256, job.reason) == ((None, "exception") if error else (digest, None))


async def test_the_last_digest_that_was_told_counts(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        digest = sha256(MOD).hexdigest()
        for told, start, stop in (("00" * 32, 0, 50), (digest, 50, 90), (None, 90, len(MOD))):
            request = UploadRequest(start, sha256=told)
            job = await parts.resumable.append(JOB_ID, request, pieces(MOD[start:stop]))
        assert job.sha256 == digest


async def test_a_worker_that_takes_a_whole_upload_judges_it_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        dead = record_of_a_dead_worker(parts, await begun(parts), MOD)
        assert dead.resumable is not None
        resumable = dead.resumable.model_copy(update={"sha256": "00" * 32})
        await parts.transfers.resume(await parts.store.save(dead.model_copy(update={"resumable": resumable}), None))
        assert (await parts.job(JOB_ID)).message == "Digest mismatch"


@pytest.mark.usefixtures("long_remembered")
async def test_a_request_that_comes_at_once_reads_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        await sent(parts, 0, MOD[:50])
        with monkeypatch.context() as patched:
            patched.setattr(parts.store, "get", None)
            await sent(parts, 50, MOD[50:90])
        assert await packed_bytes(parts, await sent(parts, 90, MOD[90:])) == MOD


async def test_what_was_paused_is_soon_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_workshop_storage.services.transfers.resumable._REMEMBER_SECONDS", 0.01)
    async with bench(tmp_path) as parts:
        await begun(parts)
        await sent(parts, 0, MOD[:50])
        await eventually(lambda: not parts.resumable._just_paused)


@pytest.mark.usefixtures("long_remembered")
async def test_a_request_that_comes_after_a_change_elsewhere_goes_by_the_latest_record(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        job = await sent(parts, 0, MOD[:50])
        await parts.store.save(job.changed(), None)
        await sent(parts, 50, MOD[50:70])
        another_worker = replace(parts.resumable)
        await another_worker.append(JOB_ID, UploadRequest(70), pieces(MOD[70:90]))
        with pytest.raises(OffsetDiffers):
            await sent(parts, 70, b"x" * 20)
        assert await packed_bytes(parts, await sent(parts, 90, MOD[90:])) == MOD


@pytest.mark.usefixtures("long_remembered")
async def test_a_file_that_vanishes_is_not_made_anew_and_the_upload_goes_on_once_it_is_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        await sent(parts, 0, MOD[:50])
        folder = parts.workspaces.folder(JOB_ID)
        folder.rename(tmp_path / "away")
        with pytest.raises(ServiceUnavailable):
            await sent(parts, 50, MOD[50:])
        assert not folder.exists()
        (tmp_path / "away").rename(folder)
        assert await packed_bytes(parts, await sent(parts, 50, MOD[50:])) == MOD


async def test_a_paused_upload_holds_no_run_and_no_slot(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        await sent(parts, 0, MOD[:50])
        assert await parts.counts(Slot.UPLOAD) == (0, 0)
        assert await parts.store.take("another") is None


async def test_what_a_dead_worker_wrote_counts_and_is_never_written_to_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        dead = await parts.store.save(record_of_a_dead_worker(parts, await begun(parts), MOD[:70]), None)
        found = await parts.resumable.find(JOB_ID)
        assert found.bytes == 70 and found.owner is None
        # The worker was asleep only, and writes on.
        with (parts.workspaces.folder(JOB_ID) / "dead" / "part").open("ab") as file:
            file.write(b"x" * 1000)
        with pytest.raises(StaleJobError):
            await parts.store.save(dead.changed(), None)
        assert await packed_bytes(parts, await sent(parts, 70, MOD[70:])) == MOD


async def test_a_worker_that_died_before_it_wrote_anything_leaves_nothing_to_miss(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        paused = await sent(parts, 0, MOD[:50])
        assert paused.resumable is not None
        resumable = Resumable(parts=(*paused.resumable.parts, Part(file="dead/part")))
        await parts.store.save(paused.changed(Continued("dead", resumable, len(MOD))), None)
        assert (await parts.resumable.find(JOB_ID)).bytes == 50
        assert await packed_bytes(parts, await sent(parts, 50, MOD[50:])) == MOD


async def test_a_file_that_is_whole_when_its_worker_dies_is_packed_without_another_request(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await parts.store.save(record_of_a_dead_worker(parts, await begun(parts), MOD), None)
        found = await parts.resumable.find(JOB_ID)
        assert found.bytes == found.total == len(MOD)

        async def ended() -> Job:
            while not (job := await parts.job(JOB_ID)).ended:
                await asyncio.sleep(0.01)
            return job

        assert await packed_bytes(parts, await ended()) == MOD


async def test_a_whole_file_is_packed_once_also_when_all_slots_are_taken(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_upload_concurrency=1) as parts, parts.runs.in_turn(Slot.UPLOAD, "another"):
        await parts.store.save(record_of_a_dead_worker(parts, await begun(parts), MOD), None)
        found = await parts.resumable.find(JOB_ID)
        # Until it is packed it has a lease, for its worker may die too.
        assert found.needs_worker and found.owner is not None
        assert (await parts.resumable.find(JOB_ID)).owner == (await sent(parts, len(MOD), b"")).owner == found.owner
        with pytest.raises(UploadFinished):
            await parts.resumable.cancel(JOB_ID)

        async def ended() -> Job:
            while not (job := await parts.job(JOB_ID)).ended:
                await asyncio.sleep(0.01)
            return job

        assert await packed_bytes(parts, await ended()) == MOD


@pytest.mark.parametrize("good", [0, 70])
async def test_refused_bytes_leave_nothing_on_the_disk_nor_in_the_record(good: int, tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        if good:
            await sent(parts, 0, MOD[:good])
        wrong = UploadRequest(good, checksum=b"another", algorithm="sha256")
        for _ in range(3):
            with pytest.raises(ChecksumDiffers):
                await parts.resumable.append(JOB_ID, wrong, pieces(MOD[good:-1]))
            files = [path for path in parts.workspaces.folder(JOB_ID).rglob("*") if path.is_file()]
            assert [path.stat().st_size for path in files] == [good] * bool(good)
        resumable = (await parts.job(JOB_ID)).resumable
        assert resumable is not None and [part.bytes for part in resumable.parts] == [good] * bool(good)
        assert await packed_bytes(parts, await sent(parts, good, MOD[good:])) == MOD


async def test_a_worker_that_takes_the_job_pauses_it_or_packs_what_is_whole(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        dead = record_of_a_dead_worker(parts, await begun(parts), MOD[:70])
        await parts.transfers.resume(await parts.store.save(dead, None))
        job = await parts.job(JOB_ID)
        assert job.state is Inner.PAUSED and job.bytes == 70
        assert await packed_bytes(parts, await sent(parts, 70, MOD[70:])) == MOD


async def test_asking_ends_a_request_that_holds_on(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        listening = asyncio.create_task(parts.worker.follow_interruptions())
        await begun(parts)
        stale = asyncio.create_task(parts.resumable.append(JOB_ID, UploadRequest(0), held(MOD[:70])))
        await parts.until(Slot.UPLOAD, 1, 0)
        found = await parts.resumable.find(JOB_ID)
        assert found.state is Inner.PAUSED
        with pytest.raises(UploadTaken):
            await stale
        assert await packed_bytes(parts, await sent(parts, found.bytes, MOD[found.bytes :])) == MOD
        listening.cancel()


async def test_an_idle_request_leaves_what_it_brought(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_idle_timeout_seconds=0.1) as parts:
        await begun(parts)
        with pytest.raises(UploadStalled):
            await parts.resumable.append(JOB_ID, UploadRequest(0), held(MOD[:70]))
        assert (await parts.resumable.find(JOB_ID)).bytes == 70


async def test_all_requests_of_an_upload_share_the_minute_for_slow_senders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, transfer_idle_timeout_seconds=0.1) as parts:
        await begun(parts)
        for start in (0, 1):
            with pytest.raises(UploadStalled):
                await parts.resumable.append(JOB_ID, UploadRequest(start), held(MOD[start : start + 1]))
        # More than a quarter of one idle wait, and less than of both.
        monkeypatch.setattr("open_workshop_storage.services.intake.receive._FIRST_SECONDS", 0.04)
        with pytest.raises(UploadTimedOut):
            await parts.resumable.append(JOB_ID, UploadRequest(2), held(MOD[2:3]))
        job = await parts.job(JOB_ID)
        assert (job.stage, job.reason) == (Stage.ERROR, "timeout")
        with pytest.raises(UploadTimedOut):
            await begun(parts)
            await sent(parts, 0, MOD)


async def test_many_short_requests_over_the_rate_go_on_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open_workshop_storage.services.intake.receive._FIRST_SECONDS", 0.01)
    async with bench(tmp_path, transfer_min_bytes_per_second=1) as parts:
        await begun(parts)

        async def slowly(content: bytes) -> AsyncIterator[bytes]:
            yield content
            await asyncio.sleep(0.02)

        for start in range(0, len(MOD), 500):
            content = MOD[start : start + 500]
            job = await parts.resumable.append(JOB_ID, UploadRequest(start, len(content)), slowly(content))
        assert await packed_bytes(parts, job) == MOD


async def test_each_request_has_an_error_of_its_own_that_keeps_no_frames_of_others(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_idle_timeout_seconds=0.1) as parts:
        await begun(parts)
        with pytest.raises(UploadStalled) as first:
            await parts.resumable.append(JOB_ID, UploadRequest(0), held(MOD[:70]))
        with pytest.raises(UploadStalled) as second:
            await parts.resumable.append(JOB_ID, UploadRequest(70), held(MOD[70:90]))
        assert first.value is not second.value


async def test_a_stop_of_the_worker_pauses_what_comes_in(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        stale = asyncio.create_task(parts.resumable.append(JOB_ID, UploadRequest(0), held(MOD[:70])))
        await parts.until(Slot.UPLOAD, 1, 0)
        await parts.runs.stop(5)
        with pytest.raises(UploadTaken):
            await stale
        assert (await parts.job(JOB_ID)).state is Inner.PAUSED
        with pytest.raises(ServiceUnavailable):
            await sent(parts, 0, MOD)


async def test_an_upload_that_nothing_more_comes_for_ends_by_its_time(tmp_path: Path) -> None:
    async with bench(tmp_path, transfer_resume_seconds=0.05) as parts:
        await begun(parts)
        await sent(parts, 0, MOD[:70])
        await asyncio.sleep(0.1)
        await parts.cleanup.clean()
        job = await parts.job(JOB_ID)
        assert (job.stage, job.reason) == (Stage.ERROR, "timeout")
        assert not parts.workspaces.folder(JOB_ID).exists()
        with pytest.raises(UploadGone):
            await parts.resumable.find(JOB_ID)


async def test_one_whose_time_is_not_over_stays(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        await begun(parts)
        await parts.cleanup.clean()
        assert (await parts.job(JOB_ID)).state is Inner.PAUSED


async def test_each_of_several_creations_at_once_over_the_limit_is_told_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        claims = TransferClaims(job_id=JOB_ID, max_bytes=10)

        async def create() -> Job:
            return await parts.resumable.create(claims, "mod.zip", 11, Resumable(), is_expired=False)

        answers = await asyncio.gather(*(create() for _ in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [FileTooLarge] * 5


async def test_an_expired_token_begins_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        with pytest.raises(AccessDenied):
            await parts.resumable.create(TransferClaims(job_id=JOB_ID), "a", 3, Resumable(), is_expired=True)
        assert await parts.store.get(JOB_ID) is None
