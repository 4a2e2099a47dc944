"""Callbacks that wait while the Manager is away, and go out when it is back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.growth.curves import Curve
from benchmarks.growth.starts import p99_of_starts, waiting_loader
from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.events import EventKind
from open_workshop_storage.core.job import Stage
from open_workshop_storage.stores.redis import RedisJobStore
from open_workshop_storage.stores.redis_client import redis_client
from tests.support.jobs import new_job
from tests.support.manager import CALLBACK_PATH
from tests.support.nginx import nginx
from tests.support.servers import redis_server
from tests.support.services import REDIS_WORKERS

_SIZES = (2_000, 20_000)
_AT_ONCE = 50
_KEEP_SECONDS = 86400
_MOST_AT_ONCE = 4 * REDIS_WORKERS
"""What all workers may have under way."""
_PATIENCE_SECONDS = 600
# Connections last, so that those that are open tell how many callbacks came at once, also between two looks.
_MANAGER = """
location = {path} {{ access_log {log}; keepalive_requests 1000000; return 200; }}
location = /status {{ access_log off; stub_status; }}
"""


def measure(folder: Path) -> Sequence[Curve]:
    """Let callbacks come due that have waited, and begin transfers while they go out and afterwards."""
    each, connections = [], []
    starts: list[tuple[int, float]] = []
    with redis_server(folder) as redis:
        for size in _SIZES:
            place = folder / f"callbacks-{size}"
            log = folder / f"callbacks-{size}.log"
            asyncio.run(_leave_waiting(redis.url, f"test-{place.name}", size))
            with nginx(folder, _MANAGER.format(path=CALLBACK_PATH, log=log), upstream_port=9) as manager:
                with waiting_loader(place, redis.url, MANAGER_URL=manager.url) as (services, url):
                    began, out = time.perf_counter(), _lines(log)
                    meanwhile = p99_of_starts(services, url)
                    assert _lines(log) < size, "all callbacks were out before that was measured"
                    connections.append((size, _connections_until(log, size, manager.url)))
                    each.append((size, (time.perf_counter() - began) / (size - out) * 1000))
                    if not starts:
                        starts.append((1, p99_of_starts(services, url)))
                    starts.append((size, meanwhile))
    return [
        Curve("deliver a callback after an absence", "ms", "callbacks that waited", each),
        # Some of those that there may be are needed where the Manager answers at once.
        Curve(
            "callbacks at once", "connections", "callbacks that waited", connections, _MOST_AT_ONCE, most=_MOST_AT_ONCE
        ),
        Curve("start a transfer meanwhile, p99", "ms", "callbacks that waited", starts, 3),
    ]


async def _leave_waiting(redis_url: str, prefix: str, count: int) -> None:
    """Store jobs that failed, and callbacks of theirs that are due now, as after a failed attempt."""
    async with redis_client(redis_url) as client:
        store = RedisJobStore(client, prefix, _KEEP_SECONDS)

        async def leave_one() -> None:
            job = new_job(stage=Stage.ERROR, reason="exception", message="Download failed", origin="url")
            callback = callback_of(job)
            await store.save(job, EventKind.ERROR, callback)
            await store.outbox.retry(callback.model_copy(update={"attempts": 1}), 0)

        for _ in range(count // _AT_ONCE):
            await asyncio.gather(*(leave_one() for _ in range(_AT_ONCE)))


def _connections_until(log: Path, count: int, manager_url: str) -> int:
    """Wait until so many callbacks have come; return how many connections were open at most, but for its own."""
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    most = 0
    with httpx.Client(base_url=manager_url) as http:
        while _lines(log) < count:
            assert time.perf_counter() < deadline, f"{_lines(log)} callbacks are out"
            time.sleep(0.2)
            status = http.get("/status").text
            match = re.match(r"Active connections: (\d+)", status)
            assert match is not None, status
            most = max(most, int(match[1]) - 1)
    return most


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n")
