"""Progress: how soon it reaches all sockets, and what they cost."""

from __future__ import annotations

import math
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load import cpu_seconds, resident_bytes
from benchmarks.loader_stage import sink
from benchmarks.report import Findings, Row
from benchmarks.sockets import Sockets, open_sockets
from tests.support.servers import redis_server
from tests.support.services import Services, Ticket, running_services

_SOCKETS = 1000
_EVENTS = 100
# Longer than the shortest time between two messages, so that each piece of the body is told at once.
_EVENT_SECONDS = 0.3
_ROUNDS = 3
_SETTLING_SECONDS = 1.0
_JOBS = 500
_RATE = 4
_BUSY_SECONDS = 8
_PIECE = bytes(1000)
_NOTES = """
Each of the 500 bodies gets a piece every 250 ms, but two messages of a job are 260 ms apart, so that none comes sooner
than the contract allows: at most 1,923 messages per second can come. Each is one script in Redis, which stores the
record and publishes the event to the worker that holds the socket.
"""


def measure(folder: Path) -> Findings:
    """Watch one job a thousand times, and five hundred jobs once each."""
    rows = []
    with loader(folder / "one") as services:
        rows += _spread(services, "one worker", 20, 60)
    with _redis_loader(folder / "three") as services:
        rows += _spread(services, "three workers through Redis", 30, 100)
    rows.append(_idle_memory(folder))
    with _redis_loader(folder / "busy", TRANSFER_UPLOAD_CONCURRENCY=0) as services:
        rows.append(_cpu_of_many_jobs(services))
    return Findings("Progress", rows, _NOTES)


@contextmanager
def loader(folder: Path, redis_url: str = "", **settings: object) -> Iterator[Services]:
    folder.mkdir(exist_ok=True)
    # The uploads that are broken off in the end are not reported, and all sockets may watch one job.
    settings = {"MANAGER_URL": "http://127.0.0.1:9", "TRANSFER_MAX_SOCKETS_PER_JOB": 0, **settings}
    with running_services(folder, redis_url, ("loader",), None, 3, **settings) as services:
        yield services


@contextmanager
def _redis_loader(folder: Path, **settings: object) -> Iterator[Services]:
    folder.mkdir()
    with redis_server(folder) as redis, loader(folder, redis.url, **settings) as services:
        yield services


def _spread(services: Services, name: str, goal: float, worst_goal: float) -> list[Row]:
    """Send a body piece by piece, and see when the last socket knows of each piece."""
    ticket = services.ticket()
    sent: dict[int, float] = {}
    with watching(services, [ticket] * _SOCKETS) as sockets, open_bodies(services, [ticket]) as (body,):
        sockets.read_until(time.perf_counter() + _SETTLING_SECONDS)
        for index in range(1, _EVENTS + 1):
            moment = time.perf_counter()
            body.sendall(_PIECE)
            sent[index * len(_PIECE)] = moment
            sockets.read_until(moment + _EVENT_SECONDS)
    last = dict.fromkeys(sent, 0.0)
    lost = _EVENTS * _SOCKETS
    disordered = 0
    for one in sockets.received:
        told = [(moment, message["bytes"]) for moment, message in one.messages() if message["bytes"] in sent]
        disordered += [count for _, count in told] != sorted(count for _, count in told)
        for moment, count in told:
            lost -= 1
            last[count] = max(last[count], moment)
    waits = sorted((last[count] - moment) * 1000 for count, moment in sent.items())
    worst = waits[math.ceil(0.99 * len(waits)) - 1]
    return [
        Row(f"{_SOCKETS} sockets, {name}: ms until the last one knows, p50", goal, waits, at_most=True),
        Row("the same, p99", worst_goal, [worst], at_most=True),
        Row(f"the same: lost or out of order, of {_EVENTS * _SOCKETS} messages", 0, [lost + disordered], at_most=True),
    ]


def _idle_memory(folder: Path) -> Row:
    """Compare what a thousand idle sockets cost a loader and a bare app, each started afresh for each round."""
    differences, details = [], []
    for number in range(_ROUNDS):
        with sink(folder) as bare:
            of_bare = _growth([f"{bare.url}/?x"] * _SOCKETS, lambda: resident_bytes(bare))
        with loader(folder / f"idle-{number}") as services:
            ticket = services.ticket()
            server = services.servers["loader"]
            of_ours = _growth([_url(services, ticket)] * _SOCKETS, lambda: resident_bytes(server))
        differences.append((of_ours - of_bare) / _SOCKETS / 1000)
        details.append((of_ours, of_bare))
    ours, reference = (statistics.median(values) / _SOCKETS / 1000 for values in zip(*details, strict=True))
    name = "idle socket: memory over a bare app's, in KB"
    return Row(name, 10, differences, f"{ours:.0f} / {reference:.0f} KB", at_most=True)


def _growth(urls: Sequence[str], memory: Callable[[], int]) -> int:
    # The first ones cost what all share.
    with open_sockets(urls[:50]):
        time.sleep(_SETTLING_SECONDS)
    before = memory()
    with open_sockets(urls) as sockets:
        sockets.read_until(time.perf_counter() + _SETTLING_SECONDS)
        return memory() - before


def _cpu_of_many_jobs(services: Services) -> Row:
    tickets = [services.ticket() for _ in range(_JOBS)]
    server = services.servers["loader"]
    with watching(services, tickets) as sockets, open_bodies(services, tickets) as bodies:
        sockets.read_until(time.perf_counter() + _SETTLING_SECONDS)
        before, started = cpu_seconds([server]), time.perf_counter()
        for turn in range(_BUSY_SECONDS * _RATE):
            for index, body in enumerate(bodies):
                body.sendall(_PIECE)
                if index % 10 == 0:
                    sockets.read_until(started + (turn + index / _JOBS) / _RATE)
        seconds = time.perf_counter() - started
        used = cpu_seconds([server]) - before
        counts = [sum(moment > started for moment, _ in one.messages()) for one in sockets.received]
        assert min(counts) > _BUSY_SECONDS, "some uploads do not run"
        messages = sum(counts)
    detail = f"{messages / seconds:,.0f} messages/s"
    return Row(f"{_JOBS} jobs with one socket each at {_RATE} Hz: cores", 1, [used / seconds], detail, at_most=True)


def _url(services: Services, ticket: Ticket) -> str:
    return f"{services.loader}/transfer/ws/{ticket.job_id}?token={ticket.token}"


@contextmanager
def watching(services: Services, tickets: Sequence[Ticket]) -> Iterator[Sockets]:
    with open_sockets([_url(services, ticket) for ticket in tickets]) as sockets:
        yield sockets


@contextmanager
def open_bodies(services: Services, tickets: Sequence[Ticket]) -> Iterator[list[socket.socket]]:
    """Begin uploads whose bodies the caller sends."""
    parts = urlsplit(services.loader)
    with ExitStack() as stack:
        connections = []
        for ticket in tickets:
            connection = stack.enter_context(socket.create_connection((parts.hostname, parts.port)))
            head = f"POST /transfer/upload?token={ticket.token} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            connection.sendall(head.encode())
            connections.append(connection)
        yield connections
