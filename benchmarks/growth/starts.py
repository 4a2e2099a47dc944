"""What jobs that wait for a slot cost a whole loader."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import redis

from benchmarks.growth.curves import Curve
from open_workshop_storage.core.job import Slot
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.jobs import new_job
from tests.support.servers import redis_server
from tests.support.services import REDIS_WORKERS, Services, running_services

_SIZES = (10, 1_000, 12_000)
_ROUNDS = 3
_STARTS = 300
_AT_ONCE = 50
_KEEP_SECONDS = 86400
_SETTLING_SECONDS = 2.0
_IDLE_SECONDS = 4.0


@contextmanager
def waiting_loader(folder: Path, redis_url: str, **settings: object) -> Iterator[tuple[Services, str]]:
    """Run a loader of one download slot, and an origin that never answers, so that one job keeps the slot.

    Yields:
        The loader, and the address to fetch from.
    """
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings |= {"TRANSFER_DOWNLOAD_CONCURRENCY": 1, "TRANSFER_IDLE_TIMEOUT_SECONDS": 0}
        with running_services(folder, redis_url, ("loader",), None, REDIS_WORKERS, **settings) as services:
            yield services, f"http://127.0.0.1:{silent.getsockname()[1]}/mod.zip"


def p99_of_starts(services: Services, url: str) -> float:
    """Return the milliseconds within which 99 of 100 starts were answered, one after the other: a median of rounds."""
    return statistics.median(_p99_of_starts(services, url) for _ in range(_ROUNDS))


def _p99_of_starts(services: Services, url: str) -> float:
    paths = [f"/transfer/start?token={services.ticket(download_url=url).token}" for _ in range(_STARTS)]
    parts = urlsplit(services.loader)
    times = []
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        for path in paths:
            began = time.perf_counter()
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: storage\r\n\r\n".encode())
            answer = connection.recv(65536)
            times.append(time.perf_counter() - began)
            assert b'"started"' in answer, answer
    return statistics.quantiles(times, n=100)[98] * 1000


def measure(folder: Path) -> Sequence[Curve]:
    """Begin transfers beside more and more that wait, and count what the workers ask Redis when nothing begins."""
    starts, asked = [], []
    with redis_server(folder) as server, redis.Redis.from_url(server.url) as client:
        with waiting_loader(folder / "starts", server.url) as (services, url):
            waiting = 0
            for size in _SIZES:
                asyncio.run(_put_in_line(server.url, "test-starts", size - waiting, url))
                waiting = size
                time.sleep(_SETTLING_SECONDS)
                before = client.info("stats")["total_commands_processed"]
                time.sleep(_IDLE_SECONDS)
                asked.append((size, (client.info("stats")["total_commands_processed"] - before) / _IDLE_SECONDS))
                starts.append((size, p99_of_starts(services, url)))
                waiting += _ROUNDS * _STARTS
    return [
        Curve("start a transfer, p99", "ms", "waiting jobs", starts),
        Curve("idle loader's commands to Redis", "per second", "waiting jobs", asked),
    ]


async def _put_in_line(redis_url: str, prefix: str, count: int, url: str) -> None:
    async with redis_client(redis_url) as client:
        store = RedisJobStore(client, prefix, _KEEP_SECONDS, {Slot.DOWNLOAD: 1})
        for start in range(0, count, _AT_ONCE):
            jobs = (
                new_job({"download_url": url}, origin="url", slot=Slot.DOWNLOAD)
                for _ in range(min(_AT_ONCE, count - start))
            )
            await asyncio.gather(*(store.save(job, None) for job in jobs))
