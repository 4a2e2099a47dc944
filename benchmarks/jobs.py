"""How many small transfers the loader gets through."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks.load import cpu_seconds
from benchmarks.report import Findings, Row
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.manager import CALLBACK_PATH
from tests.support.nginx import nginx
from tests.support.servers import Server, redis_server
from tests.support.services import Services, running_services

_JOBS = 300
_ROUNDS = 3
_CLIENTS = 8
_PATIENCE_SECONDS = 60
_CORES = 2
_NOTES = """
CPU time is the limit: both cores are full, and 200 jobs a second would leave each 10 ms on two of them, for all
processes. The client takes {client:.2f} ms of a job, nginx, as origin and as Manager, {nginx:.2f}, Redis {redis:.2f}
and the loader {loader:.2f}: if the loader took nothing, there would be {floor:,.0f} jobs a second.

In the loader most goes to the workers' event loops, in many small parts: the callback and the fetch, about a sixth
each, then questions to Redis and the request, about an eighth each, and log lines, a twelfth.

A job asks Redis 6 times, over the one connection that a worker has: it is put in line, taken with its slot, said to
be downloading, said to be downloaded with the slot given back, ended with its report, and the report is settled. One
worker is woken for it.

No process is started for a small sound ZIP, and it waits for no slot: the child that judges its headers tests its
data, and what was hashed as it came is not read again.
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
            parts = {"loader": services.servers["loader"], "nginx": other, "redis": redis}
            rates, used = [], []
            for _ in range(_ROUNDS):
                before = _used(parts)
                rates.append(_rate(services, f"{other.url}/mod.zip", log))
                used.append({part: (now - before[part]) * 1000 / _JOBS for part, now in _used(parts).items()})
    typical = {part: median(of_round[part] for of_round in used) for part in used[0]}
    rows = [
        Row("jobs per second, start to callback, three workers", 200, rates),
        Row(
            "CPU time of a job, loader and Redis, in ms",
            10,
            [of_round["loader"] + of_round["redis"] for of_round in used],
            at_most=True,
        ),
    ]
    without_loader = sum(typical.values()) - typical["loader"]
    return Findings("Small transfers", rows, _NOTES.format(**typical, floor=_CORES * 1000 / without_loader))


def _used(parts: Mapping[str, Server]) -> dict[str, float]:
    return {part: cpu_seconds([server]) for part, server in parts.items()} | {"client": time.process_time()}


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
