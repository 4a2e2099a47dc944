"""What the store in Redis does where Redis, a worker or another version is at fault."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from open_workshop_storage.core.changes import Counted
from open_workshop_storage.core.errors import NewerRecord, ServiceUnavailable
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import SCHEMA, Job, Slot, Stage
from open_workshop_storage.core.store import LEASE_SECONDS, JobStore, StaleJobError
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.jobs import new_job
from tests.support.stores import LIMITS, altered, held_and_waiting, new_report, take_up_to, waiting_for

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    """Of keys that no other test has."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def store(redis: Redis, prefix: str) -> JobStore:
    return RedisJobStore(redis, prefix, keep_seconds=60, limits=LIMITS)


async def test_a_record_of_a_newer_schema_is_left_alone(store: JobStore, redis: Redis, prefix: str) -> None:
    newer = {}
    for values in ({}, {"stage": Stage.UPLOADING}, {"stage": Stage.PACKED}):
        job = await store.save(new_job(created_at=1.0, updated_at=1.0, **values), None)
        await redis.hset(f"{prefix}:job:{job.job_id}", mapping={"schema": SCHEMA + 1, "data": "unreadable"})
        newer[job.job_id] = await redis.hgetall(f"{prefix}:job:{job.job_id}")
    known = {
        "take": await store.save(new_job(), None),
        "paused": await store.save(new_job(stage=Stage.UPLOADING), None),
        "idle": await store.save(new_job(stage=Stage.ERROR), None),
    }
    await asyncio.sleep(0.01)
    assert [job.job_id for job in await take_up_to(store, "me", 1)] == [known["take"].job_id]
    assert await take_up_to(store, "me", 8) == []
    assert [job.job_id for job in await store.paused(0.0, 1)] == [known["paused"].job_id]
    assert [job.job_id for job in await store.idle(0.0, 1)] == [known["idle"].job_id]
    for job_id, record in newer.items():
        with pytest.raises(NewerRecord):
            await store.get(job_id)
        with pytest.raises(StaleJobError):
            await store.save(altered(new_job(), job_id=job_id), None)
        assert await redis.hgetall(f"{prefix}:job:{job_id}") == record
    shown = await store.overview(40)
    listed = (*shown.unfinished, *shown.paused, *shown.ended)
    assert {job.job_id for job in listed} == {job.job_id for job in known.values()}


async def test_owners_whose_leases_ran_out_lose_their_jobs_and_are_counted(
    store: JobStore, redis: Redis, prefix: str
) -> None:
    first = await store.save(new_job(owner="first"), None)
    assert await take_up_to(store, "second", 8) == []
    for lost_owners, owner in enumerate(("second", "third"), 1):
        await redis.zadd(f"{prefix}:leases", {first.job_id: 0})
        (taken,) = await take_up_to(store, owner, 8)
        assert (taken.owner, taken.lost_owners) == (owner, lost_owners)
    assert await store.renew([first, taken]) == {first.job_id}
    assert (await store.save(altered(taken, bytes=5), None)).lost_owners == 2
    assert await take_up_to(store, "fourth", 8) == []


async def test_expired_leases_are_left_alone_where_they_do_not_count(
    store: JobStore, redis: Redis, prefix: str
) -> None:
    held = await store.save(new_job(owner="slow"), None)
    await redis.zadd(f"{prefix}:leases", {held.job_id: 0})
    waiting = await store.save(new_job(), None)
    assert [job.job_id for job in await take_up_to(store, "me", 1, expired=False)] == [waiting.job_id]
    assert await take_up_to(store, "me", 8, expired=False) == []
    assert [job.job_id for job in await take_up_to(store, "me", 8)] == [held.job_id]


async def test_workers_of_another_host_wait_for_a_lease_before_they_take_a_job(
    store: JobStore, redis: Redis, prefix: str
) -> None:
    async def ran_out(job: Job, seconds: float) -> None:
        now, microseconds = await redis.time()
        await redis.zadd(f"{prefix}:leases", {job.job_id: (now - seconds) * 1000 + microseconds // 1000})

    housed = await store.save(new_job(owner="dead", home="one"), None)
    free = await store.save(new_job(owner="dead"), None)
    await ran_out(housed, 2)
    await ran_out(free, 1)
    assert [job.job_id for job in await take_up_to(store, "other", 8, home="two")] == [free.job_id]
    (taken,) = await take_up_to(store, "same", 8, home="one")
    assert taken.job_id == housed.job_id
    await ran_out(housed, LEASE_SECONDS + 1)
    assert [job.job_id for job in await take_up_to(store, "other", 8, home="two")] == [housed.job_id]
    # One that was handed over, however old it is.
    (handed_over,) = [await store.get(housed.job_id)]
    assert handed_over is not None
    await store.save(altered(handed_over, owner=None, created_at=1.0), None)
    assert await take_up_to(store, "other", 8, home="two") == []
    assert [job.job_id for job in await take_up_to(store, "same", 8, home="one")] == [housed.job_id]


async def test_a_job_whose_record_is_gone_is_not_taken_and_forgotten(
    store: JobStore, redis: Redis, prefix: str
) -> None:
    gone, waiting = await store.save(new_job(created_at=1.0), None), await store.save(new_job(), None)
    await redis.delete(f"{prefix}:job:{gone.job_id}")
    assert [job.job_id for job in await take_up_to(store, "me", 8)] == [waiting.job_id]
    assert await redis.zrange(f"{prefix}:leases", 0, -1) == [waiting.job_id]


async def test_a_job_that_redis_lost_is_restored_for_its_owner(store: JobStore, redis: Redis, prefix: str) -> None:
    first, second = [await store.save(new_job(owner="me"), None) for _ in range(2)]
    await asyncio.sleep(0.01)
    await redis.delete(*[key async for key in redis.scan_iter(f"{prefix}:*")])
    await store.save(new_job(owner="another"), None)
    for job in (first, second):
        await store.restore(job)
    assert await store.renew([first, second]) == set()
    assert await take_up_to(store, "another", 8) == []
    changed = await store.save(altered(first, bytes=1), None)
    await store.remove(changed)
    with pytest.raises(StaleJobError):
        await store.restore(changed)


async def test_what_workers_leave_in_redis_when_they_die_goes_by_itself(
    store: JobStore, redis: Redis, prefix: str
) -> None:
    await store.save(new_job(stage=Stage.PACKED), None)
    assert await store.enter(Slot.UPLOAD, "holder")
    assert not await store.enter(Slot.UPLOAD, "waiter")
    await store.renew_slots(Slot.UPLOAD, ["holder"])
    keys = [key async for key in redis.scan_iter(f"{prefix}:*")]
    assert len(keys) == 6
    assert {key for key in keys if await redis.ttl(key) < 0} == {f"{prefix}:ended"}


async def test_the_prefix_of_keys_may_be_any_text(redis_url: str) -> None:
    prefix = f'{uuid.uuid4().hex} "\\]]\n\x01é'
    async with redis_client(redis_url) as redis:
        store = RedisJobStore(redis, prefix, keep_seconds=60)
        job = await store.save(new_job(), None)
        assert await store.get(job.job_id) == job
        assert await redis.zscore(f"{prefix}:leases", job.job_id) is not None


async def test_a_slot_in_use_counts_again_after_redis_has_forgotten_it(
    store: JobStore, redis: Redis, prefix: str
) -> None:
    assert await store.enter(Slot.DOWNLOAD, "running")
    await redis.delete(*[key async for key in redis.scan_iter(f"{prefix}:*")])
    await store.renew_slots(Slot.DOWNLOAD, ["running"])
    assert not await store.enter(Slot.DOWNLOAD, "new")
    await store.leave(Slot.DOWNLOAD, "running")
    assert await store.enter(Slot.DOWNLOAD, "new")


async def test_a_job_whose_lease_ran_out_waits_for_its_slot_again(store: JobStore, redis: Redis, prefix: str) -> None:
    dead = await store.save(waiting_for(Slot.REPACK, owner="dead", created_at=1.0, home="one"), None)
    younger = await store.save(waiting_for(Slot.REPACK, created_at=2.0), None)
    now, _ = await redis.time()
    await redis.zadd(f"{prefix}:leases", {dead.job_id: now * 1000 - 1000})
    assert await store.take("me", home="one", expired=False) is None
    # Its host may have it first, and its slot is free for others meanwhile.
    other = await store.take("other", home="two")
    assert other is not None and other.job_id == younger.job_id
    assert await store.take("me", home="one") is None
    await store.save(altered(other, slot=None), None)
    taken = await store.take("me", home="one")
    assert taken is not None and (taken.job_id, taken.owner, taken.lost_owners) == (dead.job_id, "me", 1)
    assert await store.renew([dead, taken]) == {dead.job_id}


async def test_a_renewed_owner_keeps_its_slot_also_where_redis_has_forgotten_it(
    store: JobStore, redis: Redis, prefix: str
) -> None:
    running = await store.save(waiting_for(Slot.DOWNLOAD, owner="me"), None)
    await redis.delete(f"{prefix}:slots:download:held")
    assert await store.renew([running]) == set()
    assert not await store.enter(Slot.DOWNLOAD, "new")
    # Given back in the meantime.
    await store.save(altered(running, slot=None), None)
    assert await store.renew([running]) == set()
    assert await store.enter(Slot.DOWNLOAD, "new")


async def test_a_record_that_an_older_version_left_waiting_is_taken(store: JobStore, redis: Redis, prefix: str) -> None:
    job = await store.save(new_job(origin="url"), None)
    data = {name: value for name, value in json.loads(job.model_dump_json()).items() if name != "slot"}
    await redis.hset(f"{prefix}:job:{job.job_id}", "data", json.dumps(data))
    await redis.hdel(f"{prefix}:job:{job.job_id}", "slot", "created", "free_since")
    taken = await store.take("me")
    assert taken is not None and (taken.job_id, taken.slot) == (job.job_id, None)


async def test_of_several_workers_that_wait_one_is_woken_for_each_job(redis: Redis, prefix: str) -> None:
    stores = [RedisJobStore(redis, prefix, keep_seconds=60, limits=LIMITS) for _ in range(3)]
    listening = [asyncio.create_task(store.run()) for store in stores]
    while len(await redis.pubsub_channels(f"{prefix}:work:*")) < len(stores):
        await asyncio.sleep(0.01)
    for store in stores:
        assert await store.take("me") is None
        # Their order is told by milliseconds.
        await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(store.wait_for_work(3 * PATIENCE_SECONDS)) for store in stores]
    await stores[0].save(waiting_for(Slot.IMAGE), None)
    done, others = await asyncio.wait(waiting, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    # The one that looked longest ago; a second one would have been told in the same step.
    assert done == {waiting[0]}
    # To take the job wakes no other worker, either.
    assert await stores[0].take("me") is not None
    await stores[0].ping()
    await asyncio.sleep(0.1)
    assert [task.done() for task in waiting] == [True, False, False]
    await stores[0].save(waiting_for(Slot.IMAGE), None)
    await asyncio.wait([waiting[1]], timeout=PATIENCE_SECONDS)
    assert [task.done() for task in waiting] == [True, True, False]
    for task in (*listening, *others):
        task.cancel()
    await asyncio.wait([*listening, *waiting])


async def test_an_upload_whose_lease_ran_out_is_taken_without_a_slot(
    store: JobStore, redis: Redis, prefix: str
) -> None:
    dead = await store.save(new_job(stage=Stage.UPLOADING, owner="dead", slot=Slot.UPLOAD), None)
    await redis.zadd(f"{prefix}:leases", {dead.job_id: 0})
    taken = await store.take("me")
    assert taken is not None and (taken.job_id, taken.slot, taken.lost_owners) == (dead.job_id, None, 1)
    assert await held_and_waiting(store, Slot.UPLOAD) == (0, 0)


async def test_a_worker_that_has_not_reported_for_long_is_gone(store: JobStore, redis: Redis, prefix: str) -> None:
    await store.report(new_report("gone"), {})
    await redis.zadd(f"{prefix}:workers:told", {"gone": (time.time() - 60) * 1000})
    assert (await store.overview(40)).workers == []
    await store.report(new_report("here"), {})
    assert await redis.hkeys(f"{prefix}:workers") == ["here"]
    assert [await redis.pttl(f"{prefix}:{name}") > 0 for name in ("workers", "workers:told")] == [True, True]


class LoadingStore(RedisJobStore):
    """One whose Redis takes subscriptions, and answers no questions as often as `questions` says."""

    questions = 0

    async def get(self, job_id: str) -> Job | None:
        if self.questions:
            self.questions -= 1
            raise ServiceUnavailable
        return await super().get(job_id)


async def test_a_watcher_hears_what_it_missed_also_if_redis_answers_later_than_it_takes_subscriptions(
    redis: Redis, prefix: str
) -> None:
    store = LoadingStore(redis, prefix, keep_seconds=60, limits=LIMITS)
    listening = asyncio.create_task(store.run())
    job = await store.save(new_job(), None)
    events = await store.watch(job.job_id)
    store.questions = 1
    await redis.client_kill_filter(_type="pubsub")
    changed = await RedisJobStore(redis, prefix, keep_seconds=60, limits=LIMITS).save(
        job.changed(Counted(7)), EventKind.PROGRESS
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while events.waiting[-1].version != changed.version:
            await asyncio.sleep(0.01)
    assert store.questions == 0
    await store.unwatch(job.job_id, events)
    listening.cancel()
    await asyncio.wait([listening])
