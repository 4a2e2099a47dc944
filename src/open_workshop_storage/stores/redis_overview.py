"""What the job store in Redis holds at this moment, for operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.job import Job
from open_workshop_storage.core.store import Slot
from open_workshop_storage.stores.redis_keys import RedisKeys
from open_workshop_storage.stores.redis_records import FIELDS, known_job_of


@dataclass(frozen=True)
class Overview:
    """All that waits, runs or ended a short time ago.

    Attributes:
        unfinished: Jobs that need a worker, with or without one, in the order in which their leases end; then paused
            uploads, the latest first.
        ended: Jobs that have ended, the latest first.
        callbacks: What waits in the outbox, the next to be delivered first, each with the Unix time, in seconds, when
            it comes due.
        slots: How many are held, and how many wait for one.
    """

    unfinished: Sequence[Job]
    ended: Sequence[Job]
    callbacks: Sequence[tuple[Callback, float]]
    slots: Mapping[Slot, tuple[int, int]]


async def overview(redis: Redis, prefix: str, limit: int) -> Overview:
    """Read what the store of this prefix holds: at most `limit` of each list.

    Raises:
        RedisError, OSError: Redis did not answer.
    """
    keys = RedisKeys(prefix)
    async with redis.pipeline(transaction=True) as asked:
        asked.zrange(keys.leases, 0, limit - 1)
        asked.zrange(keys.paused, 0, limit - 1, desc=True)
        asked.zrange(keys.ended, 0, limit - 1, desc=True)
        asked.zrange(keys.due, 0, limit - 1, withscores=True)
        for slot in Slot:
            held, queue, _ = keys.slot(slot)
            asked.zcard(held)
            asked.zcard(queue)
        leased, paused, ended, due, *counts = await asked.execute()
    unfinished = [*leased, *paused]
    async with redis.pipeline(transaction=False) as asked:
        for job_id in (*unfinished, *ended):
            asked.hmget(keys.job + job_id, FIELDS)
        for jti, _ in due:
            asked.hget(keys.outbox, jti)
        answers = await asked.execute()
    jobs = [known_job_of(values) for values in answers[: len(unfinished) + len(ended)]]
    callbacks = [Callback.model_validate_json(text) if text else None for text in answers[len(jobs) :]]
    return Overview(
        unfinished=[job for job in jobs[: len(unfinished)] if job],
        ended=[job for job in jobs[len(unfinished) :] if job],
        callbacks=[(callback, at / 1000) for callback, (_, at) in zip(callbacks, due, strict=True) if callback],
        slots=dict(zip(Slot, zip(counts[::2], counts[1::2], strict=True), strict=True)),
    )
