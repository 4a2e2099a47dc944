"""Workers of a loader."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.growth.curves import Curve
from benchmarks.load import requests_per_second, resident_bytes
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.configs import Secrets, write_config
from tests.support.manager import stand_in
from tests.support.servers import clean_environment, granian, redis_server
from tests.support.services import Services

_WORKERS = (1, 2, 4, 8)
_SCRAPES = 30
_UPLOADS = 24


def measure(folder: Path) -> Sequence[Curve]:
    """Start a loader with more and more workers, have each count something, and ask for their metrics."""
    scrapes, memory = [], []
    with redis_server(folder) as redis, stand_in(shared := Secrets()) as manager:
        for count in _WORKERS:
            place = folder / str(count)
            (place / "storage").mkdir(parents=True)
            settings: dict[str, object] = {
                "MAIN_DIR": str(place / "storage"),
                "MANAGER_URL": manager.url,
                "ACCESS_SERVICE_URL": manager.url,
                "STORAGE_RESERVE_BYTES": 0,
                "REDIS_URL": redis.url,
                "REDIS_PREFIX": f"growth-{count}",
                "METRICS_ENABLED": True,
                **shared.settings(),
            }
            environment = clean_environment() | {"OW_CONFIG": str(write_config(place, settings))}
            with granian("loader", place, environment, workers=count) as loader, httpx.Client() as http:
                manager.loader_url = loader.url
                services = Services("redis", place / "storage", shared, manager, {"loader": loader})
                for _ in range(_UPLOADS):
                    url = f"{loader.url}/transfer/upload?token={services.ticket().token}"
                    assert http.post(url, content=zip_of(SMALL_MOD)).status_code == 200
                requests_per_second(f"{loader.url}/loader/healthz", connections=64)
                times = []
                for _ in range(_SCRAPES):
                    began = time.perf_counter()
                    assert http.get(f"{loader.url}/loader/metrics").status_code == 200
                    times.append(time.perf_counter() - began)
                scrapes.append((count, statistics.median(times) * 1e3))
                memory.append((count, resident_bytes(loader) / count / 1e6))
    return [
        Curve("scrape of metrics", "ms", "workers", scrapes, 3, 20),
        Curve("memory of a worker", "MB", "workers", memory),
    ]
