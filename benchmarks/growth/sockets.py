"""Progress sockets in one worker."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.curves import Curve
from benchmarks.load import resident_bytes
from benchmarks.loader_stage import sink
from benchmarks.progress import loader, open_bodies, watching
from benchmarks.sockets import open_sockets
from tests.support.services import Services, Ticket

_SIZES = (100, 1_000, 5_000)
_FIRST = 50
"""The first sockets cost what all share."""
_EVENTS = 20
_MOST_MS = 150 / 5_000
_MOST_KB = 10
_EVENT_SECONDS = 0.5
_SETTLING_SECONDS = 2.0
_PIECE = bytes(1000)


def measure(folder: Path) -> Sequence[Curve]:
    """Hold more and more sockets on one job, and on as many jobs, and see when the last one of the job knows."""
    on_one, on_many, memory = [], [], []
    for size in _SIZES:
        with loader(folder / f"{size}", TRANSFER_MAX_SOCKETS=0) as services:
            server = services.servers["loader"]
            ticket = services.ticket()
            _slowest(services, ticket, [ticket] * _FIRST, 2)
            before = resident_bytes(server)
            wait, held = _slowest(services, ticket := services.ticket(), [ticket] * size, _EVENTS)
            on_one.append((size, wait / size))
            memory.append((size, (held - before) / (size - _FIRST) / 1000 - _memory_of_bare(folder, size)))
            others = [services.ticket() for _ in range(size - 1)]
            on_many.append((size, _slowest(services, ticket := services.ticket(), [ticket, *others], _EVENTS)[0]))
    return [
        Curve("news to all sockets of a job, p99", "ms per socket", "sockets on one job", on_one, most=_MOST_MS),
        Curve("news to the one socket of a job, p99", "ms", "sockets on as many jobs", on_many),
        Curve("memory of a socket over a bare app's", "KB", "sockets on one job", memory, most=_MOST_KB),
    ]


def _memory_of_bare(folder: Path, size: int) -> float:
    """Return what a socket costs an app that only holds it, in KB."""
    with sink(folder) as bare:
        held = []
        for count in (_FIRST, size):
            with open_sockets([f"{bare.url}/?x"] * count):
                time.sleep(_SETTLING_SECONDS)
                held.append(resident_bytes(bare))
    return (held[1] - held[0]) / (size - _FIRST) / 1000


def _slowest(services: Services, ticket: Ticket, watched: Sequence[Ticket], events: int) -> tuple[float, int]:
    """Send a body piece by piece.

    Args:
        ticket: Of the job whose body it is.
        watched: The jobs of the sockets.

    Returns:
        The milliseconds until the last socket of the job knew of a piece, p99, and the worker's bytes before the first.
    """
    sent: dict[int, float] = {}
    with watching(services, watched) as held, open_bodies(services, [ticket]) as (body,):
        held.read_until(time.perf_counter() + _SETTLING_SECONDS)
        memory = resident_bytes(services.servers["loader"])
        for index in range(1, events + 1):
            moment = time.perf_counter()
            body.sendall(_PIECE)
            sent[index * len(_PIECE)] = moment
            held.read_until(moment + _EVENT_SECONDS)
        # A busy machine tells of the last piece later.
        held.read_until(time.perf_counter() + _SETTLING_SECONDS)
    last = dict.fromkeys(sent, 0.0)
    for one, watched_ticket in zip(held.received, watched, strict=True):
        if watched_ticket is not ticket:
            continue
        told = [(moment, message["bytes"]) for moment, message in one.messages()]
        for count in sent:
            # A message may tell of several pieces.
            last[count] = max(last[count], next(moment for moment, known in told if known >= count))
    waits = sorted((last[count] - moment) * 1000 for count, moment in sent.items())
    return waits[math.ceil(0.99 * len(waits)) - 1], memory
