"""Transfers that an operator ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import JobMissing, ServiceUnavailable, TransferCancelled, TransferEnded
from open_workshop_storage.core.job import Inner, Resumable, Stage
from open_workshop_storage.core.store import Interruption
from open_workshop_storage.services.transfers import cancelling
from open_workshop_storage.services.transfers.cancelling import cancel_transfer, follow_interruptions
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.jobs import job_in, new_job
from tests.support.transfers import Bench, bench, eventually

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[Bench]:
    """Give a bench whose worker hears what it is asked for."""
    async with bench(folder) as parts:
        parts.lifetime.start(follow_interruptions(parts.store, parts.runs, parts.attempts, parts.lifetime))
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
    monkeypatch.setattr(cancelling, "_PATIENCE_SECONDS", 0.1)
    async with bench(tmp_path) as parts:
        job = await parts.store.save(job_in(Stage.REPACKING), None)
        with pytest.raises(ServiceUnavailable):
            await cancel_transfer(parts.store, job.job_id)
