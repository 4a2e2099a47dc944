"""A worker's hold on one job, over a memory store that loses answers and goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.changes import Counted, Failed, Owned, Packed, Resumed
from open_workshop_storage.core.errors import NewerRecord, ServiceUnavailable
from open_workshop_storage.core.events import Event, EventKind
from open_workshop_storage.core.job import Job, Stage, WrongStep
from open_workshop_storage.core.store import StaleJobError
from open_workshop_storage.services.transfers import job_run
from open_workshop_storage.services.transfers.counts import TransferCounts
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.stores.memory import MemoryJobStore
from tests.support.events import watched
from tests.support.jobs import SHA256, job_in, new_job

pytestmark = pytest.mark.anyio

PACKED = Packed("me/packed.zip", 5, 9, SHA256)
FAILED = Failed("Corrupt archive", "corrupt_archive")


class Store(MemoryJobStore):
    """Fails as often as it is told to.

    Attributes:
        away: How many of the next saves fail before they are done.
        unanswered: How many of the next saves fail after they are done.
        newer: Whether the record that it holds cannot be read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.away = self.unanswered = 0
        self.newer = False

    async def save(
        self, job: Job, event: EventKind | None, callback: Callback | None = None, *, withdrawn: str | None = None
    ) -> Job:
        if self.away:
            self.away -= 1
            raise ServiceUnavailable
        saved = await super().save(job, event, callback)
        if self.unanswered:
            self.unanswered -= 1
            raise ServiceUnavailable
        return saved

    async def get(self, job_id: str) -> Job | None:
        if self.newer:
            raise NewerRecord
        return await super().get(job_id)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_run, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(job_run, "_PROGRESS_SECONDS", 0.01)


@pytest.fixture
def store() -> Store:
    return Store()


async def run_at(store: Store, folder: Path, job: Job) -> JobRun:
    return JobRun(store, await store.save(job, None), folder, TransferCounts())


async def ended(run: JobRun, end: Packed | Failed) -> Callback | None:
    if isinstance(end, Packed):
        return await run.save(end, event=EventKind.COMPLETE, stage=Stage.PACKED)
    return await run.save(end, event=EventKind.ERROR, stage=Stage.ERROR)


async def texts(events: AsyncIterator[Event], count: int) -> list[dict[str, object]]:
    async with asyncio.timeout(60):
        return [json.loads((await anext(events)).text) for _ in range(count)]


async def test_stages_and_their_facts_are_stored_and_told(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, new_job(origin="url", owner="me"))
    async with watched(store, run.job.job_id) as events:
        await run.stage(Stage.DOWNLOADING, Resumed(5, 9))
        _, told = await texts(events, 2)
    assert (told["event"], told["stage"], told["bytes"], told["total"]) == ("stage", "downloading", 5, 9)
    assert await store.get(run.job.job_id) == run.job


async def test_a_wrong_step_is_not_stored(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.PENDING))
    before = run.job
    with pytest.raises(WrongStep):
        await run.stage(Stage.REPACKING)
    assert await store.get(before.job_id) == run.job == before


async def test_progress_is_told_with_its_latest_values(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))
    async with watched(store, run.job.job_id) as events, run.reporting():
        for count in range(1, 6):
            run.progress(Counted(count))
        _, told = await texts(events, 2)
    assert (told["event"], told["bytes"]) == ("progress", 5)


async def test_what_was_received_is_told_with_a_failure(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))
    run.progress(Counted(7))
    callback = await ended(run, FAILED)
    assert callback is not None
    assert (callback.claims["status"], callback.claims["bytes"]) == ("error", 7)
    assert callback.claims["reason"] == "corrupt_archive"
    assert await store.outbox.contains(callback.jti)


async def test_a_good_end_reports_the_packed_file(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.REPACKING))
    callback = await ended(run, PACKED)
    assert callback is not None
    assert (callback.claims["status"], callback.claims["unpacked_bytes"]) == ("success", 9)
    assert await store.outbox.contains(callback.jti)


async def test_work_outlives_an_absence_of_the_store(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.PENDING))
    store.away = 3
    await run.stage(Stage.DOWNLOADING)
    assert await store.get(run.job.job_id) == run.job


@pytest.mark.parametrize("end", [PACKED, FAILED])
async def test_a_save_whose_answer_was_lost_counts_once(store: Store, tmp_path: Path, end: Packed | Failed) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.REPACKING))
    version = run.job.version
    store.unanswered = 1
    await ended(run, end)
    assert run.job.version == version + 1
    assert await store.get(run.job.job_id) == run.job
    assert (await store.outbox.pending())[0] == 1


async def test_a_save_that_was_given_up_but_stored_does_not_lose_the_job(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))
    await store.save(run.job.changed(Counted(5)), None)
    await run.stage(Stage.UPLOADED)
    assert await store.get(run.job.job_id) == run.job


async def test_progress_of_a_message_that_was_given_up_is_not_lost(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))
    store.away = 1_000_000
    run.progress(Counted(7))
    reporting = asyncio.create_task(run.stage(Stage.UPLOADED))
    await asyncio.sleep(0.02)
    reporting.cancel()
    await asyncio.wait([reporting])
    store.away = 0
    callback = await ended(run, FAILED)
    assert callback is not None
    assert callback.claims["bytes"] == 7


async def test_a_job_of_another_owner_is_lost(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))
    taken = await store.save(run.job.changed(Owned("another")), None)
    with pytest.raises(StaleJobError):
        await run.stage(Stage.UPLOADED)
    assert await store.get(run.job.job_id) == taken


async def test_a_job_that_a_newer_version_took_is_lost(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))
    await store.save(run.job.changed(Owned("another")), None)
    store.newer = True
    with pytest.raises(StaleJobError):
        async with asyncio.timeout(60):
            await run.stage(Stage.UPLOADED)


async def test_a_stop_cancels_what_is_being_done_and_says_why(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))
    with pytest.raises(StaleJobError):
        async with run.reporting():
            run.stop(StaleJobError())
            await asyncio.Event().wait()


async def test_a_cancelled_block_stays_cancelled(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))

    async def report() -> None:
        async with run.reporting():
            await asyncio.Event().wait()

    reporting = asyncio.create_task(report())
    await asyncio.sleep(0)
    reporting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reporting


async def test_a_job_that_is_handed_over_waits_with_its_received_file(store: Store, tmp_path: Path) -> None:
    run = await run_at(store, tmp_path, job_in(Stage.UPLOADING))
    run.folder.mkdir()
    source = run.folder / "source"
    source.write_bytes(b"received")
    await run.received(source, 8, is_on_disk=False)
    await run.hand_over()
    taken = await store.take("another")
    assert taken is not None
    assert (taken.stage, taken.source_file) == (Stage.UPLOADED, "me/source")
