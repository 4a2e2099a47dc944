"""What the job store in Redis holds at this moment, and what workers report to it."""

from __future__ import annotations

from itertools import chain

from redis.asyncio import Redis

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.job import Slot
from open_workshop_storage.core.store import (
    REPORT_SECONDS,
    SLOTS_OF_JOBS,
    STEP_SECONDS,
    STEPS,
    Overview,
    SlotQueue,
    WorkerReport,
)
from open_workshop_storage.stores.redis_keys import FIELDS, RedisKeys, known_job_of


async def read_overview(redis: Redis, keys: RedisKeys, limit: int) -> Overview:
    """Read what the store holds, in two round trips.

    Args:
        limit: How many jobs, and how many callbacks, are read at most. Half of the jobs are unfinished ones.

    Raises:
        RedisError, OSError: Redis did not answer.
    """
    half, quarter = limit // 2, limit // 4
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.time()
        for key in (keys.leases, keys.paused, keys.ended, keys.due):
            pipeline.zcard(key)
        pipeline.zrange(keys.leases, 0, half - 1)
        pipeline.zrange(keys.paused, 0, quarter - 1, desc=True)
        pipeline.zrange(keys.ended, 0, quarter - 1, desc=True)
        pipeline.zrange(keys.due, 0, limit - 1, withscores=True)
        pipeline.zrange(keys.since, 0, 0, withscores=True)
        pipeline.zrange(keys.reported, 0, -1, withscores=True)
        for slot in Slot:
            pipeline.zcard(keys.slot(slot, "held"))
            pipeline.zcard(keys.slot(slot, "queue"))
            pipeline.zcard(keys.slot(slot, "jobs"))
            pipeline.zrange(keys.slot(slot, "queue"), 0, limit - 1)
            pipeline.zrange(keys.slot(slot, "jobs"), 0, half - 1)
        (seconds, microseconds), *totals_and_rest = await pipeline.execute()
    owned_total, paused_total, ended_total, due_total, *rest = totals_and_rest
    owned, paused, ended, due, oldest, reports, *of_slots = rest
    slots = dict(zip(Slot, zip(*[iter(of_slots)] * 5, strict=True), strict=True))
    unfinished = [*owned, *chain.from_iterable(slots[slot][4] for slot in SLOTS_OF_JOBS)][:half]
    now = seconds + microseconds / 1_000_000
    last = seconds - seconds % STEP_SECONDS
    steps = range(last - (STEPS - 1) * STEP_SECONDS, last + 1, STEP_SECONDS)
    present = [(name, now - at / 1000) for name, at in reports if now - at / 1000 < REPORT_SECONDS]
    async with redis.pipeline(transaction=False) as pipeline:
        for job_id in (*unfinished, *paused, *ended):
            pipeline.hmget(keys.job + job_id, FIELDS)
        for jti, _ in due:
            pipeline.hget(keys.outbox, jti)
        for name, _ in present:
            pipeline.hget(keys.workers, name)
        for step in steps:
            pipeline.hgetall(f"{keys.metrics}{step}")
        answers = iter(await pipeline.execute())
    jobs = [[job for _ in ids if (job := known_job_of(next(answers)))] for ids in (unfinished, paused, ended)]
    callbacks = [
        (Callback.model_validate_json(text), at / 1000) for _, at in due if (text := next(answers)) is not None
    ]
    workers = [
        (WorkerReport.model_validate_json(text), age) for _, age in present if (text := next(answers)) is not None
    ]
    return Overview(
        at=now,
        unfinished=jobs[0],
        paused=jobs[1],
        ended=jobs[2],
        callbacks=callbacks,
        totals={
            "unfinished": owned_total + sum(jobs for _, _, jobs, *_ in slots.values()),
            "paused": paused_total,
            "ended": ended_total,
            "callbacks": due_total,
        },
        oldest_callback_seconds=now - oldest[0][1] / 1000 if oldest else 0.0,
        slots={slot: SlotQueue(held, holders + jobs, first) for slot, (held, holders, jobs, first, _) in slots.items()},
        workers=workers,
        metrics={step: {name: int(count) for name, count in next(answers).items()} for step in steps},
    )
