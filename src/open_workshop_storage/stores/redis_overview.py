"""What the job store in Redis holds at this moment, and what workers report to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
    async with redis.pipeline(transaction=True) as asked:
        asked.time()
        for key in (*keys.sets, keys.due):
            asked.zcard(key)
        asked.zrange(keys.leases, 0, half - 1)
        asked.zrange(keys.paused, 0, quarter - 1, desc=True)
        asked.zrange(keys.ended, 0, quarter - 1, desc=True)
        asked.zrange(keys.due, 0, limit - 1, withscores=True)
        asked.zrange(keys.since, 0, 0, withscores=True)
        asked.zrange(keys.told, 0, -1, withscores=True)
        for key in keys.queues:
            asked.zrange(key, 0, half - 1)
        for slot in Slot:
            held, queue, _ = keys.slot(slot)
            asked.zcard(held)
            asked.zrange(queue, 0, limit - 1)
            asked.zcard(queue)
        (seconds, microseconds), *totals_and_rest = await asked.execute()
    owned_total, paused_total, ended_total, *queued_totals, due_total = totals_and_rest[: len(keys.sets) + 1]
    owned, paused, ended, due, oldest, told, *rest = totals_and_rest[len(keys.sets) + 1 :]
    queued, slots = rest[: len(keys.queues)], rest[len(keys.queues) :]
    waiting_jobs = dict(zip(SLOTS_OF_JOBS, queued_totals, strict=True))
    unfinished = [*owned, *chain.from_iterable(queued)][:half]
    now = seconds + microseconds / 1_000_000
    last = seconds - seconds % STEP_SECONDS
    steps = range(last - (STEPS - 1) * STEP_SECONDS, last + 1, STEP_SECONDS)
    present = [(name, now - at / 1000) for name, at in told if now - at / 1000 < REPORT_SECONDS]
    async with redis.pipeline(transaction=False) as asked:
        for job_id in (*unfinished, *paused, *ended):
            asked.hmget(keys.job + job_id, FIELDS)
        for jti, _ in due:
            asked.hget(keys.outbox, jti)
        for name, _ in present:
            asked.hget(keys.workers, name)
        for step in steps:
            asked.hgetall(f"{keys.metrics}{step}")
        answers = iter(await asked.execute())
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
            "unfinished": owned_total + sum(queued_totals),
            "paused": paused_total,
            "ended": ended_total,
            "callbacks": due_total,
        },
        oldest_callback_seconds=now - oldest[0][1] / 1000 if oldest else 0.0,
        slots={
            slot: SlotQueue(held, waiting + waiting_jobs.get(slot, 0), first)
            for slot, held, first, waiting in zip(Slot, slots[::3], slots[1::3], slots[2::3], strict=True)
        },
        workers=workers,
        metrics={step: {name: int(count) for name, count in next(answers).items()} for step in steps},
    )


async def read_waiting(redis: Redis, keys: RedisKeys) -> Mapping[Slot, int]:
    """Read how many jobs and holders wait for each slot.

    Raises:
        RedisError, OSError: Redis did not answer.
    """
    async with redis.pipeline(transaction=False) as asked:
        for slot in Slot:
            asked.zcard(keys.slot(slot)[1])
        for key in keys.queues:
            asked.zcard(key)
        holders_and_jobs = await asked.execute()
    waiting = Counter(dict(zip(Slot, holders_and_jobs, strict=False)))
    waiting.update(dict(zip(SLOTS_OF_JOBS, holders_and_jobs[len(Slot) :], strict=True)))
    return {slot: waiting[slot] for slot in Slot}
