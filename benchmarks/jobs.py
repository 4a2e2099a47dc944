"""How many small transfers the loader gets through."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load import cpu_seconds
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
CPU time is the limit: both cores are full, and 200 jobs a second would leave each 10 ms on two of them, for the client
and nginx, as origin and as Manager, too. Of what each job takes, most is the workers' event loops, in many small parts:
most for questions to Redis, then for the request, the fetch and the callback.

A job asks Redis 6 times: it is put in line, taken with its slot, said to be downloading, said to be downloaded with the
slot given back, ended with its report, and the report is settled. One worker is woken for it.

No process is started for a small sound ZIP, and it waits for no slot: the child that judges its headers tests its data.
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
            used = cpu_seconds(servers := (services.servers["loader"], redis))
            rates = [_rate(services, f"{other.url}/mod.zip", log) for _ in range(_ROUNDS)]
            used = cpu_seconds(servers) - used
    rows = [
        Row("jobs per second, start to callback, three workers", 200, rates),
        Row("CPU time of a job, loader and Redis, in ms", 10, [used / (_ROUNDS * _JOBS) * 1000], at_most=True),
    ]
    return Findings("Small transfers", rows, _NOTES)


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
