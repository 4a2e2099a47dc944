"""What a loader's process does besides answering requests, over a memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Inner, Job, Slot, Stage
from open_workshop_storage.services.intake.receive import BLOCK_BYTES
from open_workshop_storage.services.transfers import worker
from tests.support.archives import SMALL_MOD, tar_of, zip_of
from tests.support.client import eventually
from tests.support.jobs import job_in, new_job
from tests.support.origins import reply, running_origin
from tests.support.transfers import PATIENCE_SECONDS, Bench, bench

pytestmark = pytest.mark.anyio

JOB_ID = "job-12345678"


@asynccontextmanager
async def working(parts: Bench) -> AsyncIterator[None]:
    """Have the worker work while the block runs."""
    task = asyncio.create_task(parts.worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def ended(parts: Bench, job_id: str) -> Job:
    while not (job := await parts.job(job_id)).ended:
        await asyncio.sleep(0.01)
    return job


async def test_a_queued_job_is_taken_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts, running_origin(reply(200, body=zip_of(SMALL_MOD))) as origin:
        async with working(parts):
            await parts.transfers.start(parse_claims({"job_id": JOB_ID, "download_url": f"{origin.url}/mod.zip"}))
            async with asyncio.timeout(60):
                assert (await ended(parts, JOB_ID)).stage is Stage.PACKED


@pytest.mark.parametrize("size", [len(tar_of(SMALL_MOD)), 2 * BLOCK_BYTES], ids=["small", "large"])
async def test_a_fetched_file_waits_for_its_slot_without_a_run_and_is_not_fetched_again(
    tmp_path: Path, size: int
) -> None:
    content = tar_of(SMALL_MOD).ljust(size, b"\0")
    async with (
        bench(tmp_path, transfer_repack_concurrency=1) as parts,
        running_origin(reply(200, body=content)) as origin,
        working(parts),
    ):
        async with parts.runs.in_turn(Slot.REPACK, "another"):
            await parts.transfers.start(parse_claims({"job_id": JOB_ID, "download_url": f"{origin.url}/mod.zip"}))
            await parts.until(Slot.REPACK, 1, 1)
            await eventually(lambda: not parts.runs.job_ids)
            waiting = await parts.job(JOB_ID)
            assert (waiting.stage, waiting.owner) == (Stage.DOWNLOADED, None) and waiting.source_file is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await ended(parts, JOB_ID)).stage is Stage.PACKED
        assert len(origin.requests) == 1
        await parts.until(Slot.REPACK, 0, 0)


async def test_jobs_with_one_slot_of_each_kind_all_come_to_their_ends(tmp_path: Path) -> None:
    files = [zip_of(SMALL_MOD), tar_of(SMALL_MOD), zip_of(SMALL_MOD)[:-30], b"plain"]
    async with AsyncExitStack() as stack:
        limits: dict[str, Any] = {"transfer_repack_concurrency": 1, "transfer_download_concurrency": 1}
        parts = await stack.enter_async_context(bench(tmp_path, **limits))
        for number, content in enumerate(files):
            origin = await stack.enter_async_context(running_origin(reply(200, body=content)))
            claims = parse_claims({"job_id": f"{JOB_ID}-{number}", "download_url": f"{origin.url}/file"})
            await parts.transfers.start(claims)
        await stack.enter_async_context(working(parts))
        async with asyncio.timeout(PATIENCE_SECONDS):
            stages = [(await ended(parts, f"{JOB_ID}-{number}")).stage for number in range(len(files))]
        assert stages == [Stage.PACKED, Stage.PACKED, Stage.ERROR, Stage.PACKED]
        for slot in Slot:
            assert await parts.counts(slot) == (0, 0)


async def test_paused_uploads_and_jobs_of_others_are_left_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts, running_origin(reply(200, body=zip_of(SMALL_MOD))) as origin:
        left = [await parts.store.save(job_in(state), None) for state in (Inner.PAUSED, Stage.UPLOADING)]
        async with working(parts):
            await parts.transfers.start(parse_claims({"job_id": JOB_ID, "download_url": f"{origin.url}/mod.zip"}))
            async with asyncio.timeout(60):
                await ended(parts, JOB_ID)
        assert [await parts.store.get(job.job_id) for job in left] == left


async def test_a_worker_that_is_about_to_go_takes_no_job(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        parts.lifetime.stopping.set()
        job = await parts.store.save(new_job({"download_url": "http://127.0.0.1:9/"}, origin="url"), None)
        async with working(parts):
            await asyncio.sleep(0.05)
        assert await parts.store.get(job.job_id) == job


async def test_after_an_absence_of_redis_expired_leases_count_only_once_the_living_have_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(worker, "_RENEWALS_SECONDS", 0.2)
    counted: list[bool] = []

    async def take(owner: str, *, home: str | None, expired: bool) -> Job | None:
        counted.append(expired)
        if len(counted) in (2, 4):
            raise ServiceUnavailable
        return None

    async with bench(tmp_path) as parts:
        monkeypatch.setattr(parts.store, "take", take)
        async with working(parts):
            await eventually(lambda: counted[-1:] == [True] and len(counted) > 5)
    assert counted[:3] == [True, True, False]
    assert counted.index(True, 3) > 4


async def test_callbacks_that_come_due_are_delivered(tmp_path: Path) -> None:
    async with bench(tmp_path) as parts:
        job = job_in(Stage.PACKED)
        callback = callback_of(job)
        await parts.store.save(job, EventKind.COMPLETE, callback)
        await parts.store.outbox.retry(callback, 0.0)
        async with working(parts):
            await eventually(lambda: parts.manager.requests)


async def test_background_work_that_fails_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_POLL_SECONDS", 0.01)
    failures = 0

    async def fail() -> None:
        nonlocal failures
        failures += 1
        raise RuntimeError("unforeseen")

    async with bench(tmp_path) as parts:
        monkeypatch.setattr(parts.store, "run", fail)
        async with working(parts):
            await eventually(lambda: failures > 1)
