"""Jobs that wait for a slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.curves import Curve
from open_workshop_storage.core.job import Job, Slot
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.jobs import new_job
from tests.support.servers import redis_server

_SIZES = (10, 1_000, 10_000, 100_000)
_STEPS = 300
_AT_ONCE = 50
_KEEP_SECONDS = 86400


def measure(folder: Path) -> Sequence[Curve]:
    """Put jobs in line and take them, beside more and more that wait, in both stores."""
    return asyncio.run(_measure(folder))


async def _measure(folder: Path) -> Sequence[Curve]:
    curves = await _curves("memory", MemoryJobStore())
    with redis_server(folder) as server:
        async with redis_client(server.url) as redis:
            return [*curves, *await _curves("Redis", RedisJobStore(redis, "growth", _KEEP_SECONDS))]


async def _curves(name: str, store: JobStore) -> list[Curve]:
    put: list[tuple[int, float]] = []
    take: list[tuple[int, float]] = []
    waiting = 0
    for size in _SIZES:
        for start in range(waiting, size, _AT_ONCE):
            await asyncio.gather(*(store.save(_job(), None) for _ in range(min(_AT_ONCE, size - start))))
        waiting = size
        times = [await _put_and_take(store, number) for number in range(_STEPS)]
        put.append((size, sorted(one for one, _ in times)[_STEPS // 2]))
        take.append((size, sorted(other for _, other in times)[_STEPS // 2]))
    return [
        Curve(f"{name}: put a job in line", "ms", "waiting jobs", put),
        Curve(f"{name}: take a job", "ms", "waiting jobs", take),
    ]


async def _put_and_take(store: JobStore, number: int) -> tuple[float, float]:
    """Return the milliseconds that each took; as many wait afterwards as before."""
    job = _job()
    began = time.perf_counter()
    await store.save(job, None)
    put = time.perf_counter()
    taken = await store.take(f"run {number}")
    ended = time.perf_counter()
    assert taken is not None
    await store.remove(taken)
    return (put - began) * 1000, (ended - put) * 1000


def _job() -> Job:
    return new_job(origin="url", slot=Slot.DOWNLOAD)
