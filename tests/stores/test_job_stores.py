"""What both job stores promise: every test runs against memory, a real Redis, and one that sentinels lead."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.errors import StorageBusy
from open_workshop_storage.core.events import Event, EventKind
from open_workshop_storage.core.job import Job, Slot, Stage
from open_workshop_storage.core.store import (
    LEASE_SECONDS,
    STEP_SECONDS,
    STEPS,
    Interruption,
    JobStore,
    StaleJobError,
)
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.events import watched
from tests.support.jobs import new_job
from tests.support.sentinel import SentinelRedis
from tests.support.stores import LIMITS, altered, held_and_waiting, new_report, take_up_to, waiting_for

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A primary with a replica and three sentinels."""
    with ExitStack() as stack:
        yield SentinelRedis(tmp_path_factory.mktemp("sentinel"), stack).url


@pytest.fixture(params=["memory", "redis", "redis+sentinel"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[JobStore]:
    if request.param == "memory":
        yield MemoryJobStore(LIMITS)
        return
    redis = redis_client(request.getfixturevalue("redis_url" if request.param == "redis" else "sentinel_url"))
    made = RedisJobStore(redis, f"test-{uuid.uuid4().hex}", keep_seconds=60, limits=LIMITS)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        await redis.aclose()


async def read(events: AsyncIterator[Event], count: int) -> list[Event]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [await anext(events) for _ in range(count)]


async def test_a_saved_job_is_read_back_as_it_was(store: JobStore) -> None:
    saved = await store.save(new_job(owner="me", stage=Stage.UPLOADING, total=7), EventKind.STAGE)
    assert await store.get(saved.job_id) == saved
    assert saved.version == 1


async def test_the_version_at_which_an_attempt_ends_is_kept_and_later_changes_leave_it(store: JobStore) -> None:
    uploading = await store.save(new_job(owner="me", stage=Stage.UPLOADING), EventKind.STAGE)
    assert uploading.end_version is None
    packed = await store.save(altered(uploading, stage=Stage.PACKED, owner=None), EventKind.COMPLETE)
    assert packed.end_version == packed.version == 2
    moved = await store.save(altered(packed, moved_bytes=1), None)
    assert (moved.version, moved.end_version) == (3, 2)
    assert await store.get(moved.job_id) == moved


async def test_a_job_that_was_not_saved_is_none(store: JobStore) -> None:
    assert await store.get("no-such-job") is None


async def test_a_crowd_that_asks_at_once_is_answered(store: JobStore) -> None:
    jobs = [new_job() for _ in range(300)]
    saved = await asyncio.gather(*(store.save(job, None) for job in jobs))
    assert [job.job_id for job in saved] == [job.job_id for job in jobs]


async def test_a_second_creation_of_a_job_is_stale(store: JobStore) -> None:
    job = new_job()
    await store.save(job, None)
    with pytest.raises(StaleJobError):
        await store.save(job, None)


async def test_a_change_of_an_old_version_is_stale_and_changes_nothing(store: JobStore) -> None:
    first = await store.save(new_job(owner="first", stage=Stage.UPLOADING), None)
    second = await store.save(altered(first, owner="second"), None)
    with pytest.raises(StaleJobError):
        await store.save(altered(first, bytes=5), EventKind.PROGRESS)
    assert await store.get(first.job_id) == second


async def test_a_change_of_a_removed_job_is_stale(store: JobStore) -> None:
    job = await store.save(new_job(), None)
    await store.remove(job)
    with pytest.raises(StaleJobError):
        await store.save(altered(job, bytes=5), None)
    assert await store.get(job.job_id) is None


async def test_a_job_that_changed_is_not_removed(store: JobStore) -> None:
    job = await store.save(new_job(), None)
    changed = await store.save(altered(job, bytes=5), None)
    with pytest.raises(StaleJobError):
        await store.remove(job)
    assert await store.get(job.job_id) == changed


async def test_a_job_without_owner_is_taken_once_and_the_oldest_first(store: JobStore) -> None:
    younger = await store.save(new_job(created_at=2_000.0), None)
    older = await store.save(new_job(created_at=1_000.0), None)
    await store.save(new_job(owner="someone", stage=Stage.UPLOADING), None)
    taken = await take_up_to(store, "me", 1) + await take_up_to(store, "me", 8)
    assert [job.job_id for job in taken] == [older.job_id, younger.job_id]
    assert {job.owner for job in taken} == {"me"}
    assert await take_up_to(store, "me", 8) == []


async def test_a_job_that_has_ended_is_not_taken(store: JobStore) -> None:
    await store.save(new_job(stage=Stage.PACKED), None)
    assert await take_up_to(store, "me", 8) == []


async def test_a_job_whose_move_was_left_undone_is_taken(store: JobStore) -> None:
    job = await store.save(new_job(stage=Stage.PACKED, move_to="archive/mods/1/main.zip"), None)
    assert [taken.job_id for taken in await take_up_to(store, "me", 8)] == [job.job_id]


async def test_a_paused_upload_is_not_taken_and_has_no_lease(store: JobStore) -> None:
    uploading = await store.save(new_job(owner="me", stage=Stage.UPLOADING), None)
    paused = await store.save(altered(uploading, owner=None), EventKind.PROGRESS)
    assert await take_up_to(store, "other", 8) == []
    assert await store.renew([uploading]) == {uploading.job_id}
    assert await store.idle(0.0, 8) == []
    assert await store.get(paused.job_id) == paused
    async with watched(store, paused.job_id) as events:
        (snapshot,) = await read(events, 1)
    assert json.loads(snapshot.text)["status"] == "uploading"


async def test_paused_uploads_are_not_looked_through_for_work_or_for_ended_jobs(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        await store.save(new_job(stage=Stage.UPLOADING), None)
    looked_at: list[str] = []

    def state_of(job: Job) -> Stage:
        looked_at.append(job.job_id)
        return job.stage

    monkeypatch.setattr(Job, "state", property(state_of))
    assert await take_up_to(store, "me", 8) == await store.idle(0.0, 8) == []
    assert looked_at == []


async def test_paused_uploads_are_found_by_the_time_of_their_last_change(store: JobStore) -> None:
    first, second, third = [await store.save(new_job(stage=Stage.UPLOADING), None) for _ in range(3)]
    await store.save(new_job(), None)
    await asyncio.sleep(0.01)
    second = await store.save(altered(second, owner="me"), None)
    await store.remove(third)
    assert [job.job_id for job in await store.paused(0.0, 8)] == [first.job_id]
    assert await store.paused(60.0, 8) == []
    await store.save(altered(second, owner=None, updated_at=time.time()), None)
    await asyncio.sleep(0.01)
    assert [job.job_id for job in await store.paused(0.0, 8)] == [first.job_id, second.job_id]
    assert [job.job_id for job in await store.paused(0.0, 1)] == [first.job_id]


async def test_of_several_requests_that_claim_a_paused_upload_one_gets_it(store: JobStore) -> None:
    paused = await store.save(new_job(stage=Stage.UPLOADING), None)
    claims = [store.save(altered(paused, owner=f"request {number}"), None) for number in range(8)]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    (claimed,) = [outcome for outcome in outcomes if isinstance(outcome, Job)]
    assert sum(isinstance(outcome, StaleJobError) for outcome in outcomes) == 7
    assert await store.get(paused.job_id) == claimed
    assert await store.paused(-1.0, 8) == []


async def test_a_forgotten_job_does_not_begin_again_while_its_token_is_valid(store: JobStore) -> None:
    valid = TransferClaims(job_id="job-12345678", expires_at=time.time() + 60)
    moved = new_job(stage=Stage.PACKED, move_to="archive/mods/1/main.zip", moved_bytes=1, claims=valid)
    fetched = new_job(stage=Stage.ERROR, origin="url", claims=valid)
    for job, status in ((moved, "moved"), (fetched, "error")):
        assert await store.forgotten(job.job_id) is None
        await store.remove(await store.save(job, None))
        assert await store.forgotten(job.job_id) == status
        with pytest.raises(StaleJobError):
            await store.save(job, None)
        assert await store.get(job.job_id) is None


async def test_a_forgotten_job_begins_again_if_it_may_or_its_token_is_over(store: JobStore) -> None:
    claims = TransferClaims(job_id="job-12345678", expires_at=time.time() + 60)
    failed = new_job(stage=Stage.ERROR, claims=claims)
    over = new_job(stage=Stage.PACKED, claims=claims.model_copy(update={"expires_at": time.time() - 1}))
    for job in (failed, over):
        await store.remove(await store.save(job, None))
        assert await store.forgotten(job.job_id) is None
        assert (await store.save(job, None)).version == 1


async def test_renewing_tells_which_leases_are_lost(store: JobStore) -> None:
    kept = await store.save(new_job(owner="me", stage=Stage.UPLOADING), None)
    lost = await store.save(new_job(owner="me", stage=Stage.UPLOADING), None)
    await store.save(altered(lost, owner="other"), None)
    removed = await store.save(new_job(owner="me", stage=Stage.PACKED), None)
    await store.remove(removed)
    assert await store.renew([kept, lost, removed]) == {lost.job_id, removed.job_id}


async def test_a_taken_job_is_read_back_as_it_was_taken_and_saved_by_its_owner_alone(store: JobStore) -> None:
    waiting = await store.save(new_job(total=7), None)
    (taken,) = await take_up_to(store, "me", 8)
    assert taken == waiting.model_copy(update={"owner": "me", "version": waiting.version + 1})
    assert await store.get(taken.job_id) == taken
    with pytest.raises(StaleJobError):
        await store.save(altered(waiting, bytes=5), None)
    assert (await store.save(altered(taken, bytes=5), None)).owner == "me"


async def test_an_owner_that_handed_its_job_over_does_not_count_as_lost(store: JobStore) -> None:
    await store.save(new_job(), None)
    (taken,) = await take_up_to(store, "first", 8)
    await store.save(altered(taken, owner=None), None)
    (again,) = await take_up_to(store, "second", 8)
    assert (taken.lost_owners, again.lost_owners) == (0, 0)


async def test_a_job_that_was_removed_is_not_restored_by_an_owner_that_slept(store: JobStore) -> None:
    owned = await store.save(new_job(owner="me"), None)
    await store.remove(owned)
    with pytest.raises(StaleJobError):
        await store.restore(owned)
    assert await store.get(owned.job_id) is None


async def test_waiting_for_work_ends_when_a_job_waits(store: JobStore) -> None:
    while await take_up_to(store, "me", 8):
        pass
    waiting = asyncio.create_task(store.wait_for_work(PATIENCE_SECONDS))
    await asyncio.sleep(0.1)
    await store.save(new_job(), None)
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        await waiting
    assert len(await take_up_to(store, "me", 8)) == 1


async def test_a_watcher_of_no_job_hears_that_it_is_pending_and_then_of_its_events(store: JobStore) -> None:
    job = new_job(owner="me")
    async with watched(store, job.job_id) as events:
        (snapshot,) = await read(events, 1)
        assert json.loads(snapshot.text)["status"] == "pending"
        await store.save(altered(job, stage=Stage.UPLOADING), EventKind.STAGE)
        (event,) = await read(events, 1)
    assert json.loads(event.text)["event"] == "stage"
    assert json.loads(event.text)["stage"] == "uploading"


async def test_a_watcher_hears_the_present_state_first_and_every_later_stage_once_and_in_order(
    store: JobStore,
) -> None:
    job = await store.save(new_job(owner="me", stage=Stage.UPLOADING, bytes=3), EventKind.STAGE)
    async with watched(store, job.job_id) as events, watched(store, job.job_id) as others:
        for stage in (Stage.UPLOADED, Stage.EXTRACTING, Stage.REPACKING):
            job = await store.save(altered(job, stage=stage), EventKind.STAGE)
        await store.save(altered(job, stage=Stage.PACKED, owner=None), EventKind.COMPLETE)
        heard = [
            [json.loads(event.text)["stage"] for event in await read(all_events, 5)] for all_events in (events, others)
        ]
    assert heard == [["uploading", "uploaded", "extracting", "repacking", "packed"]] * 2


async def test_a_watcher_that_falls_behind_gets_the_latest_of_several_progress_events(store: JobStore) -> None:
    job = await store.save(new_job(owner="me", stage=Stage.UPLOADING), EventKind.STAGE)
    async with watched(store, job.job_id) as events:
        await read(events, 1)
        for count in range(1, 6):
            job = await store.save(altered(job, bytes=count), EventKind.PROGRESS)
        await store.save(altered(job, stage=Stage.UPLOADED), EventKind.STAGE)
        # Until the last event is here, so that all progress events wait together.
        await asyncio.sleep(0.2)
        progress, stage = await read(events, 2)
    assert json.loads(progress.text)["bytes"] == 5
    assert json.loads(stage.text)["stage"] == "uploaded"


async def test_a_watcher_of_an_ended_job_hears_its_end_first(store: JobStore) -> None:
    job = await store.save(new_job(stage=Stage.ERROR, message="No good", reason="exception"), EventKind.ERROR)
    async with watched(store, job.job_id) as events:
        (end,) = await read(events, 1)
    assert end.kind is EventKind.ERROR
    assert json.loads(end.text)["message"] == "No good"


async def test_idle_jobs_are_those_that_need_no_worker(store: JobStore) -> None:
    ended = await store.save(new_job(stage=Stage.PACKED), None)
    await store.save(new_job(owner="me", stage=Stage.UPLOADING), None)
    await asyncio.sleep(0.01)
    assert [job.job_id for job in await store.idle(0.0, 8)] == [ended.job_id]
    assert await store.idle(60.0, 8) == []


async def test_a_callback_waits_until_it_is_settled(store: JobStore) -> None:
    job = new_job(stage=Stage.PACKED)
    callback = callback_of(job)
    await store.save(job, EventKind.COMPLETE, callback)
    assert await store.outbox.contains(callback.jti)
    assert await store.outbox.claim(8) == []
    tried = callback.model_copy(update={"attempts": 1})
    await store.outbox.retry(tried, 0.0)
    await asyncio.sleep(0.01)
    assert await store.outbox.claim(8) == [tried]
    assert await store.outbox.claim(8) == []
    await store.outbox.settle(tried)
    assert not await store.outbox.contains(callback.jti)


async def test_pending_callbacks_are_counted_with_the_age_of_the_oldest(store: JobStore) -> None:
    assert await store.outbox.pending() == (0, 0)
    callbacks, begun = [], []
    for _ in range(2):
        begun.append(time.monotonic())
        job = new_job(stage=Stage.PACKED)
        callbacks.append(callback_of(job))
        await store.save(job, EventKind.COMPLETE, callbacks[-1])
        await asyncio.sleep(0.01)
    await store.outbox.retry(callbacks[0], 0.0)
    count, age = await store.outbox.pending()
    assert count == 2 and age > 0.01
    await store.outbox.settle(callbacks[0])
    count, younger = await store.outbox.pending()
    # Redis counts whole milliseconds.
    assert count == 1 and 0 < younger < time.monotonic() - begun[1] + 0.002
    await store.outbox.settle(callbacks[1])
    assert await store.outbox.pending() == (0, 0)


async def test_a_settled_callback_does_not_come_back(store: JobStore) -> None:
    job = new_job(stage=Stage.PACKED)
    callback = callback_of(job)
    await store.save(job, None, callback)
    await store.outbox.settle(callback)
    await store.outbox.hold(callback)
    assert await store.outbox.claim(8) == []


async def test_a_failed_callback_is_written_down_again_though_redis_lost_it(store: JobStore) -> None:
    job = new_job(stage=Stage.PACKED)
    callback = callback_of(job)
    await store.save(job, None, callback)
    await store.outbox.settle(callback)
    await store.outbox.retry(callback, 0.0)
    await asyncio.sleep(0.01)
    assert await store.outbox.claim(8) == [callback]


async def test_a_new_attempt_withdraws_the_report_of_the_one_before(store: JobStore) -> None:
    failed = new_job(stage=Stage.ERROR)
    report = callback_of(failed)
    failed = await store.save(failed, EventKind.ERROR, report)
    other = new_job(stage=Stage.ERROR)
    await store.save(other, EventKind.ERROR, callback_of(other))
    again = altered(failed, attempt=2, stage=Stage.UPLOADING, owner="me")
    with pytest.raises(StaleJobError):
        await store.save(altered(again, version=7), None, withdrawn=report.jti)
    assert await store.outbox.contains(report.jti)
    await store.save(again, None, withdrawn=report.jti)
    assert not await store.outbox.contains(report.jti)
    # A worker may have been about to deliver it.
    await store.outbox.hold(report)
    await store.outbox.retry(report, 0.0)
    await asyncio.sleep(0.01)
    assert await store.outbox.claim(8) == []
    assert (await store.outbox.pending())[0] == 1


async def test_a_call_that_is_cancelled_at_any_point_of_it_ends(store: JobStore) -> None:
    job = await store.save(new_job(), None)

    async def call_again_and_again() -> None:
        while True:
            await asyncio.sleep(0)
            await store.get(job.job_id)

    for turns in range(100):
        calling = asyncio.create_task(call_again_and_again())
        for _ in range(turns):
            await asyncio.sleep(0)
        calling.cancel()
        done, _ = await asyncio.wait([calling], timeout=PATIENCE_SECONDS)
        assert done, f"cancelled at turn {turns}, it went on"


async def test_slots_are_given_up_to_the_limit_and_then_in_order(store: JobStore) -> None:
    assert await store.enter(Slot.REPACK, "first")
    assert await store.enter(Slot.REPACK, "first")
    assert not await store.enter(Slot.REPACK, "second")
    assert not await store.enter(Slot.REPACK, "third")
    waiting = asyncio.create_task(store.slot_granted("second", PATIENCE_SECONDS))
    await asyncio.sleep(0.1)
    await store.leave(Slot.REPACK, "first")
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        await waiting
    assert await store.enter(Slot.REPACK, "second")
    assert not await store.enter(Slot.REPACK, "third")


async def test_a_holder_that_leaves_the_queue_does_not_get_a_slot(store: JobStore) -> None:
    assert await store.enter(Slot.REPACK, "first")
    assert not await store.enter(Slot.REPACK, "second")
    await store.leave(Slot.REPACK, "second")
    await store.leave(Slot.REPACK, "first")
    assert await store.enter(Slot.REPACK, "third")


async def test_a_job_is_taken_with_the_slot_that_it_waits_for_and_not_before_the_slot_is_free(store: JobStore) -> None:
    younger = await store.save(waiting_for(Slot.DOWNLOAD, created_at=2_000.0), None)
    older = await store.save(waiting_for(Slot.DOWNLOAD, created_at=1_000.0), None)
    first = await store.take("first")
    assert first is not None and (first.job_id, first.slot) == (older.job_id, Slot.DOWNLOAD)
    assert await store.take("second") is None
    assert await held_and_waiting(store, Slot.DOWNLOAD) == (1, 1)
    await store.save(altered(first, slot=None), None)
    second = await store.take("second")
    assert second is not None and (second.job_id, second.owner) == (younger.job_id, "second")
    assert await store.get(younger.job_id) == second
    assert await held_and_waiting(store, Slot.DOWNLOAD) == (1, 0)


@pytest.mark.parametrize("slot", [Slot.DOWNLOAD, Slot.IMAGE], ids=["limited", "unlimited"])
async def test_what_waits_is_told_apart_from_what_runs(store: JobStore, slot: Slot) -> None:
    taken = [await store.save(waiting_for(slot, owner=f"run {number}"), None) for number in range(2)]
    runs = [job for job in taken if job.owner]
    assert len(runs) == (1 if slot is Slot.DOWNLOAD else 2)
    assert await held_and_waiting(store, slot) == (len(runs), 2 - len(runs))
    shown = await store.overview(40)
    assert [job.job_id for job in shown.unfinished] == [job.job_id for job in taken]
    assert shown.totals["unfinished"] == 2


async def test_an_owner_that_finds_its_next_slot_free_changes_over_in_one_step(store: JobStore) -> None:
    fetching = await store.save(waiting_for(Slot.DOWNLOAD, owner="me"), None)
    packing = await store.save(altered(fetching, stage=Stage.DOWNLOADED, slot=Slot.REPACK), EventKind.STAGE)
    assert packing.owner == "me"
    assert await held_and_waiting(store, Slot.DOWNLOAD) == (0, 0)
    assert await held_and_waiting(store, Slot.REPACK) == (1, 0)
    await store.save(altered(packing, stage=Stage.PACKED, owner=None, slot=None), EventKind.COMPLETE)
    assert await held_and_waiting(store, Slot.REPACK) == (0, 0)


async def test_an_owner_that_finds_none_gives_its_job_up_and_its_old_slot_back(store: JobStore) -> None:
    await store.save(waiting_for(Slot.REPACK, owner="another"), None)
    fetching = await store.save(waiting_for(Slot.DOWNLOAD, owner="me"), None)
    async with watched(store, fetching.job_id) as events:
        await read(events, 1)
        queued = await store.save(altered(fetching, stage=Stage.DOWNLOADED, slot=Slot.REPACK), EventKind.STAGE)
        (event,) = await read(events, 1)
    assert json.loads(event.text)["stage"] == "downloaded"
    assert (queued.owner, queued.slot) == (None, Slot.REPACK)
    assert await store.get(queued.job_id) == queued
    assert await store.renew([fetching]) == {fetching.job_id}
    assert await held_and_waiting(store, Slot.DOWNLOAD) == (0, 0)
    assert await held_and_waiting(store, Slot.REPACK) == (1, 1)


async def test_no_owner_gets_before_those_that_wait(store: JobStore) -> None:
    running = await store.save(waiting_for(Slot.REPACK, owner="me"), None)
    waits = await store.save(waiting_for(Slot.REPACK), None)
    await store.save(altered(running, slot=None), None)
    late = await store.save(waiting_for(Slot.REPACK, owner="late"), None)
    assert late.owner is None
    taken = await store.take("other")
    assert taken is not None and taken.job_id == waits.job_id


async def test_jobs_and_holders_wait_in_one_order(store: JobStore) -> None:
    assert await store.enter(Slot.REPACK, "first")
    job = await store.save(waiting_for(Slot.REPACK, created_at=2_000.0), None)
    assert not await store.enter(Slot.REPACK, "before the job", since=1_000.0)
    assert not await store.enter(Slot.REPACK, "after the job", since=3_000.0)
    await store.leave(Slot.REPACK, "first")
    assert await store.take("me") is None
    await store.leave(Slot.REPACK, "before the job")
    taken = await store.take("me")
    assert taken is not None and taken.job_id == job.job_id
    await store.save(altered(taken, stage=Stage.ERROR, owner=None, slot=None), EventKind.ERROR)
    assert await store.enter(Slot.REPACK, "after the job")


async def test_a_job_that_ends_while_it_waits_leaves_the_queue(store: JobStore) -> None:
    removed, ended, claimed = [await store.save(waiting_for(Slot.DOWNLOAD), None) for _ in range(3)]
    await store.remove(removed)
    await store.save(altered(ended, stage=Stage.ERROR, slot=None), EventKind.ERROR)
    await store.save(altered(claimed, owner="another", slot=None), None)
    assert await held_and_waiting(store, Slot.DOWNLOAD) == (0, 0)
    assert await store.take("me") is None


async def test_what_has_its_file_is_taken_before_what_is_to_be_fetched(store: JobStore) -> None:
    fetched = [await store.save(waiting_for(slot, created_at=1.0), None) for slot in (Slot.DOWNLOAD, Slot.REPACK)]
    handed_over = await store.save(new_job(), None)
    taken = [await store.take(f"run {number}") for number in range(3)]
    assert [job and job.job_id for job in taken] == [handed_over.job_id, fetched[1].job_id, fetched[0].job_id]


@pytest.mark.parametrize("slot", [Slot.IMAGE, None], ids=["with a slot", "without a slot"])
async def test_a_worker_that_took_one_of_several_jobs_does_not_wait_for_the_next(
    store: JobStore, slot: Slot | None
) -> None:
    waiting = {(await store.save(new_job(slot=slot), None)).job_id for _ in range(3)}
    while waiting:
        taken = await store.take("me")
        assert taken is not None
        waiting.remove(taken.job_id)
        if waiting:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await store.wait_for_work(10 * PATIENCE_SECONDS)


async def test_an_upload_that_finds_no_slot_is_refused_and_changes_nothing(store: JobStore) -> None:
    first, paused = new_job(stage=Stage.UPLOADING, owner="first", slot=Slot.UPLOAD), new_job(stage=Stage.UPLOADING)
    first, paused = await store.save(first, None), await store.save(paused, None)
    for refused in (altered(paused, owner="second", slot=Slot.UPLOAD), altered(first, job_id="new", version=0)):
        with pytest.raises(StorageBusy):
            await store.save(altered(refused, owner="second"), EventKind.STAGE)
    assert await store.get(paused.job_id) == paused and await store.get("new") is None
    await store.save(altered(first, stage=Stage.UPLOADED, slot=None), None)
    second = await store.save(altered(paused, owner="second", slot=Slot.UPLOAD), None)
    assert await held_and_waiting(store, Slot.UPLOAD) == (1, 0)
    await store.save(altered(second, owner=None, slot=None), None)
    assert await held_and_waiting(store, Slot.UPLOAD) == (0, 0)


async def test_a_removed_job_gives_its_slot_back(store: JobStore) -> None:
    await store.remove(await store.save(waiting_for(Slot.DOWNLOAD, owner="me"), None))
    assert await held_and_waiting(store, Slot.DOWNLOAD) == (0, 0)


async def test_a_limit_of_zero_is_no_limit(store: JobStore) -> None:
    assert all([await store.enter(Slot.IMAGE, str(number)) for number in range(20)])


async def test_a_callback_is_made_due_now_and_claimed(store: JobStore) -> None:
    job = new_job(owner="me", stage=Stage.REPACKING)
    callback = callback_of(job)
    saved = await store.save(job, None)
    await store.save(altered(saved, stage=Stage.PACKED, owner=None), EventKind.COMPLETE, callback)
    await store.outbox.retry(callback, 500)
    assert await store.outbox.claim(8) == []
    assert await store.outbox.hurry(callback.jti) == 0
    assert [claimed.jti for claimed in await store.outbox.claim(8)] == [callback.jti]


async def test_a_callback_that_may_be_under_delivery_is_left_to_who_holds_it(store: JobStore) -> None:
    job = new_job(owner="me", stage=Stage.REPACKING)
    callback = callback_of(job)
    saved = await store.save(job, None)
    await store.save(altered(saved, stage=Stage.PACKED, owner=None), EventKind.COMPLETE, callback)
    left = await store.outbox.hurry(callback.jti)
    assert left is not None and 0 < left <= LEASE_SECONDS
    assert await store.outbox.claim(8) == []


async def test_a_callback_that_does_not_wait_is_not_hurried(store: JobStore) -> None:
    assert await store.outbox.hurry("none") is None
    assert await store.outbox.claim(8) == []


async def test_every_worker_hears_what_is_asked_of_a_job_and_in_which_way(store: JobStore) -> None:
    heard = asyncio.create_task(store.interrupted())
    async with asyncio.timeout(PATIENCE_SECONDS):
        # The subscription may not have begun yet.
        while not heard.done():
            await store.interrupt("job-12345678", Interruption.CANCEL)
            await asyncio.wait([heard], timeout=0.1)
    assert heard.result() == ("job-12345678", Interruption.CANCEL)


async def test_the_overview_lists_what_runs_waits_is_paused_and_ended_and_counts_it(store: JobStore) -> None:
    running = await store.save(new_job(owner="me", stage=Stage.EXTRACTING), None)
    waiting = await store.save(new_job(origin="url"), None)
    paused = await store.save(new_job(stage=Stage.UPLOADING), None)
    failed = await store.save(new_job(stage=Stage.ERROR, reason="timeout"), None)
    packed = await store.save(new_job(stage=Stage.PACKED), None)
    shown = await store.overview(40)
    assert {job.job_id for job in shown.unfinished} == {running.job_id, waiting.job_id}
    assert [job.job_id for job in shown.paused] == [paused.job_id]
    assert {job.job_id for job in shown.ended} == {failed.job_id, packed.job_id}
    assert shown.totals == {"unfinished": 2, "paused": 1, "ended": 2, "callbacks": 0}
    assert abs(shown.at - time.time()) < PATIENCE_SECONDS


async def test_the_overview_lists_no_more_than_it_is_asked_for_and_counts_all(store: JobStore) -> None:
    for stage in (Stage.PENDING, Stage.UPLOADING, Stage.ERROR):
        for _ in range(3):
            await store.save(new_job(stage=stage), None)
    shown = await store.overview(4)
    assert [len(jobs) for jobs in (shown.unfinished, shown.paused, shown.ended)] == [2, 1, 1]
    assert [shown.totals[name] for name in ("unfinished", "paused", "ended")] == [3, 3, 3]


async def test_the_overview_tells_when_callbacks_come_due_and_how_long_they_have_waited(store: JobStore) -> None:
    job = new_job(owner="me", stage=Stage.REPACKING)
    callback = callback_of(job)
    saved = await store.save(job, None)
    await store.save(altered(saved, stage=Stage.PACKED, owner=None), EventKind.COMPLETE, callback)
    await store.outbox.retry(callback.model_copy(update={"attempts": 3}), 500)
    shown = await store.overview(40)
    ((waiting, due),) = shown.callbacks
    assert (waiting.jti, waiting.attempts) == (callback.jti, 3)
    assert 480 < due - shown.at <= 500
    assert shown.totals["callbacks"] == 1 and shown.oldest_callback_seconds >= 0


async def test_the_overview_tells_who_waits_for_a_slot(store: JobStore) -> None:
    assert await store.enter(Slot.REPACK, "first")
    for holder in ("second", "third"):
        assert not await store.enter(Slot.REPACK, holder)
    slots = (await store.overview(40)).slots
    assert (slots[Slot.REPACK].held, slots[Slot.REPACK].waiting) == (1, 2)
    assert list(slots[Slot.REPACK].first) == ["second", "third"]
    assert (slots[Slot.UPLOAD].held, slots[Slot.UPLOAD].waiting) == (0, 0)


async def test_the_overview_has_each_worker_s_last_report(store: JobStore) -> None:
    await store.report(new_report("one"), {})
    await store.report(new_report("one", sockets=5), {})
    await store.report(new_report("other"), {})
    workers = {report.name: (report, age) for report, age in (await store.overview(40)).workers}
    assert workers["one"][0] == new_report("one", sockets=5)
    assert workers.keys() == {"one", "other"} and all(age < PATIENCE_SECONDS for _, age in workers.values())


async def test_metrics_of_all_workers_are_added_up_by_step(store: JobStore) -> None:
    await store.report(new_report("one"), {"begun": 2, "outcome success": 1})
    await store.report(new_report("other"), {"begun": 3, "received": 10**12})
    metrics = (await store.overview(40)).metrics
    steps = list(metrics)
    assert len(steps) == STEPS and {later - earlier for earlier, later in zip(steps, steps[1:])} == {STEP_SECONDS}
    # The two reports may have come in different steps.
    total = {name: sum(counts.get(name, 0) for counts in metrics.values()) for name in ("begun", "received")}
    assert total == {"begun": 5, "received": 10**12}
    assert any(metrics[step] for step in steps[-3:])
