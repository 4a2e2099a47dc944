"""Paused uploads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.growth.curves import Curve
from open_workshop_storage.core.job import Inner, Job
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.jobs import job_in
from tests.support.servers import redis_server

_SIZES = (1_000, 10_000, 100_000)
_AT_ONCE = 50
_ROUNDS = 100
_DAY_SECONDS = 86400
_LOOKED_AT = 1000


def measure(folder: Path) -> Sequence[Curve]:
    """Pause uploads in one Redis, and see what a worker's rounds and a client's requests cost beside them."""
    return asyncio.run(_measure(folder))


async def _measure(folder: Path) -> Sequence[Curve]:
    figures: dict[str, list[tuple[int, float]]] = {}
    workspaces = Workspaces(folder, 0)
    with redis_server(folder) as server:
        async with redis_client(server.url) as redis:
            store = RedisJobStore(redis, "growth", 30 * _DAY_SECONDS)
            empty = (await redis.info("memory"))["used_memory"]
            paused = 0
            for size in _SIZES:
                new = await _pause(store, size - paused)
                paused += len(new)
                for job in new:
                    (workspaces.folder(job.job_id) / "run").mkdir(parents=True)
                last = new[-1]

                async def go_on() -> None:
                    nonlocal last
                    last = await store.save(last.changed(), None)

                asked: dict[str, Callable[[], Awaitable[object]]] = {
                    "tell an upload's offset": lambda: store.get(last.job_id),
                    "save an upload": go_on,
                    "look for work": lambda: store.take("growth"),
                    "look for expired uploads": lambda: store.paused(_DAY_SECONDS, 100),
                    "look for idle jobs": lambda: store.idle(_DAY_SECONDS, 100),
                    "look for stray workspaces": lambda: workspaces.idle(_DAY_SECONDS, _LOOKED_AT),
                    "show the status": lambda: store.overview(10),
                }
                for name, ask in asked.items():
                    figures.setdefault(name, []).append((size, await _milliseconds(ask)))
                memory = ((await redis.info("memory"))["used_memory"] - empty) / size / 1000
                figures.setdefault("Redis' memory for an upload", []).append((size, memory))
    return [
        Curve(name, "KB" if "memory" in name else "ms", "paused uploads", points) for name, points in figures.items()
    ]


async def _pause(store: RedisJobStore, count: int) -> list[Job]:
    jobs: list[Job] = []
    for start in range(0, count, _AT_ONCE):
        new = (job_in(Inner.PAUSED) for _ in range(min(_AT_ONCE, count - start)))
        jobs += await asyncio.gather(*(store.save(job, None) for job in new))
    return jobs


async def _milliseconds(ask: Callable[[], Awaitable[object]]) -> float:
    """Return the median time of one question."""
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - began)
    return sorted(times)[_ROUNDS // 2] * 1e3
