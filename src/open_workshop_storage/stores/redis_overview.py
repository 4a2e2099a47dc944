"""What the job store in Redis holds at this moment, and what workers report to it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from redis.asyncio import Redis

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.job import Job, Slot
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
    found = await _listed(redis, keys, limit)
    seconds, microseconds = found["time"]
    now = seconds + microseconds / 1_000_000
    unfinished = [*found["owned"], *chain.from_iterable(found[slot, "job ids"] for slot in SLOTS_OF_JOBS)][: limit // 2]
    last = seconds - seconds % STEP_SECONDS
    steps = range(last - (STEPS - 1) * STEP_SECONDS, last + 1, STEP_SECONDS)
    present = {name: now - at / 1000 for name, at in found["reported"] if now - at / 1000 < REPORT_SECONDS}
    job_ids = (*unfinished, *found["paused"], *found["ended"])
    async with redis.pipeline(transaction=False) as pipeline:
        asked = {
            **{("job", job_id): pipeline.hmget(keys.job + job_id, FIELDS) for job_id in job_ids},
            **{("callback", jti): pipeline.hget(keys.outbox, jti) for jti, _ in found["due"]},
            **{("report", name): pipeline.hget(keys.workers, name) for name in present},
            **{("metrics", step): pipeline.hgetall(f"{keys.metrics}{step}") for step in steps},
        }
        read: dict[tuple[str, Any], Any] = dict(zip(asked, await pipeline.execute(), strict=True))

    def jobs(ids: Iterable[str]) -> list[Job]:
        return [job for job_id in ids if (job := known_job_of(read["job", job_id]))]

    return Overview(
        at=now,
        unfinished=jobs(unfinished),
        paused=jobs(found["paused"]),
        ended=jobs(found["ended"]),
        callbacks=[
            (Callback.model_validate_json(text), at / 1000)
            for jti, at in found["due"]
            if (text := read["callback", jti]) is not None
        ],
        totals={
            "unfinished": found["owned total"] + sum(found[slot, "jobs"] for slot in Slot),
            "paused": found["paused total"],
            "ended": found["ended total"],
            "callbacks": found["due total"],
        },
        oldest_callback_seconds=now - found["oldest"][0][1] / 1000 if found["oldest"] else 0.0,
        slots={
            slot: SlotQueue(found[slot, "held"], found[slot, "holders"] + found[slot, "jobs"], found[slot, "first"])
            for slot in Slot
        },
        workers=[
            (WorkerReport.model_validate_json(text), age)
            for name, age in present.items()
            if (text := read["report", name]) is not None
        ],
        metrics={step: {name: int(count) for name, count in read["metrics", step].items()} for step in steps},
    )


async def _listed(redis: Redis, keys: RedisKeys, limit: int) -> dict[Any, Any]:
    """Return how many of each there are, and the names of those that are read; of slots by slot and name."""
    half, quarter = limit // 2, limit // 4
    async with redis.pipeline(transaction=True) as pipeline:
        # Each call puts its command behind those before it, and answers come in that order.
        asked: dict[Any, object] = {
            "time": pipeline.time(),
            "owned total": pipeline.zcard(keys.leases),
            "paused total": pipeline.zcard(keys.paused),
            "ended total": pipeline.zcard(keys.ended),
            "due total": pipeline.zcard(keys.due),
            "owned": pipeline.zrange(keys.leases, 0, half - 1),
            "paused": pipeline.zrange(keys.paused, 0, quarter - 1, desc=True),
            "ended": pipeline.zrange(keys.ended, 0, quarter - 1, desc=True),
            "due": pipeline.zrange(keys.due, 0, limit - 1, withscores=True),
            "oldest": pipeline.zrange(keys.since, 0, 0, withscores=True),
            "reported": pipeline.zrange(keys.reported, 0, -1, withscores=True),
        }
        for slot in Slot:
            asked[slot, "held"] = pipeline.zcard(keys.slot(slot, "held"))
            asked[slot, "holders"] = pipeline.zcard(keys.slot(slot, "queue"))
            asked[slot, "jobs"] = pipeline.zcard(keys.slot(slot, "jobs"))
            asked[slot, "first"] = pipeline.zrange(keys.slot(slot, "queue"), 0, limit - 1)
            asked[slot, "job ids"] = pipeline.zrange(keys.slot(slot, "jobs"), 0, half - 1)
        return dict(zip(asked, await pipeline.execute(), strict=True))
