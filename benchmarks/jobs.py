"""How many small transfers the loader gets through."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.report import Findings, Row
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.manager import CALLBACK_PATH
from tests.support.nginx import nginx
from tests.support.servers import redis_server
from tests.support.services import Services, running_services

_JOBS = 300
_ROUNDS = 3
_CLIENTS = 8
_PATIENCE_SECONDS = 60
_NOTES = """
CPU time is the limit: both cores are full. Of some 17 ms for each job, all processes together,

- the workers take 10.3. Of that, 30 % goes to the request (17 % to putting the job in line), 18 % to the fetch, 14 %
  to the callback, 9 % to inspection and test, 4 % to taking jobs up (half of it to finding that another worker was
  first, which happens twice for each job), 5 % to what Redis publishes. Seen the other way, the 10 questions to Redis
  are 28 %, and file work in threads is 14 %, half of it the last write of the received file with its `fsync`;
- the child that tests the archive takes 5.5: 2.6 are what `7z` itself needs for any small file, 0.6 the shell, since
  Debian's `7z` is a script, 1.6 `prlimit` and `setpriv`;
- Redis takes 0.8, nginx as origin and Manager 0.2, the client 0.2.

All but the workers' share would let two cores do 300 jobs per second. One `7z t` and nothing else runs for a sound ZIP.
With uvloop's own way of starting children, which copies the page tables of a worker of 85 MB, workers and children took
another 9 ms for each job, most of it in the kernel.
"""


def measure(folder: Path) -> Findings:
    """Start transfers of a tiny ZIP, and wait until all callbacks have come."""
    (folder / "origin").mkdir()
    (folder / "origin" / "mod.zip").write_bytes(zip_of(SMALL_MOD))
    log = folder / "callbacks.log"
    # A Manager that answers at once and moves nothing.
    site = f"location = {CALLBACK_PATH} {{ access_log {log}; return 200; }} location / {{ root {folder}/origin; }}"
    place = folder / "loader"
    place.mkdir()
    with nginx(folder, site, upstream_port=9) as other, redis_server(folder) as redis:
        with running_services(place, redis.url, ("loader",), None, 3, MANAGER_URL=other.url) as services:
            rates = [_rate(services, f"{other.url}/mod.zip", log) for _ in range(_ROUNDS)]
    return Findings("Small transfers", [Row("jobs per second, start to callback, three workers", 100, rates)], _NOTES)


def _rate(services: Services, url: str, log: Path) -> float:
    paths = [f"/transfer/start?token={services.ticket(download_url=url).token}" for _ in range(_JOBS)]
    wanted = _lines(log) + _JOBS
    started = time.perf_counter()
    with ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(lambda index: _start(services.loader, paths[index::_CLIENTS]), range(_CLIENTS)))
    while _lines(log) < wanted:
        time.sleep(0.01)
        assert time.perf_counter() < started + _PATIENCE_SECONDS, f"{wanted - _lines(log)} callbacks are missing"
    return _JOBS / (time.perf_counter() - started)


def _start(loader: str, paths: Sequence[str]) -> None:
    parts = urlsplit(loader)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        for path in paths:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: storage\r\n\r\n".encode())
            answer = connection.recv(65536)
            assert b'"started"' in answer, answer


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n")
