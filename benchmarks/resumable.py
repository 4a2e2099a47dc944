"""Uploads over tus beside uploads in one request, and the question where to go on."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import struct
import sys
import termios
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from benchmarks.loader_stage import connected, send_file, send_part
from benchmarks.report import Findings, Row, interleaved, ratio
from tests.support.servers import redis_server
from tests.support.services import Services, Ticket, running_services
from tests.support.tus import VERSION

_GIB = 1 << 30
_PIECE_BYTES = 8 << 20
_ROUNDS = 5
_CUTS = 20
_BLOCK_BYTES = 1 << 18
_HEADERS = "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\nUpload-Offset: {}\r\n"


class Cut(NamedTuple):
    """What a cut costs.

    Attributes:
        seconds: How long HEAD takes to tell where to go on.
        again: Bytes that the loader's kernel had acknowledged, and that do not count.
    """

    seconds: float
    again: int


def measure(folder: Path) -> Findings:
    """Send 1 GiB that begins as a ZIP and has no directory, so that nothing is done with it."""
    source = folder / "source"
    block = os.urandom(1 << 24)
    with source.open("wb") as file:
        file.write(b"PK\x05\x06" + bytes(18) + block[22:])
        for _ in range(_GIB // len(block) - 1):
            file.write(block)
    with redis_server(folder) as redis:
        rows = [*_rows(folder / "memory", source, ""), *_rows(folder / "redis", source, redis.url)]
    return Findings(
        "Resumable uploads",
        rows,
        """
Each PATCH is a request with a run of its own: the job's record is saved twice with the slot, and 8 MiB are synced to
the disk, before its answer. The record is not read if the worker has paused the upload within the last second. The
first bytes come in beside the first save. The disk begins with each half MiB as soon as it is written, so that the sync
waits for the last one and for the file system's journal. Between an answer and the next request's first bytes the
loader has nothing to take in. The raw upload is synced once, behind its last byte, which is counted here too.

The disk does not hold PATCHes up, but the work for each on the event loop does: one of 1 KiB takes 1.5 ms of processor
time in all with jobs in memory, and 3.0 with Redis. A FastAPI app under the same server that does nothing but judge the
token, ask Redis twice, and write and sync each PATCH with the loader's `receive`, reached 0.89 of the loader's raw
uploads (7 turns of 512 MiB on two cores), and 0.98 before FastAPI's routes, where the loader answers PATCHes too.

Connections are cut at random moments while a client sends as fast as the loader takes it: a third are reset, a third
are closed, and a third fall silent. What waits in the client's kernel has not reached the loader, and is not counted.
""",
    )


def _rows(place: Path, source: Path, redis_url: str) -> list[Row]:
    place.mkdir()
    with running_services(place, redis_url, ("loader",), redis_workers=3) as services:
        speeds = interleaved(
            _ROUNDS, {"one": lambda: _in_one(services, source), "tus": lambda: _in_pieces(services, source)}
        )
        chance = random.Random(1)
        cuts = {
            how: [_cut(services, source, how, chance) for _ in range(_CUTS)] for how in ("reset", "closed", "silent")
        }
        store = services.store
    again = [cut.again / (1 << 20) for some in cuts.values() for cut in some]
    name = f"1 GiB in PATCHes of 8 MiB over one raw upload, on the disk; jobs in {store}"
    return [
        ratio(name, 0.9, speeds, "tus", "one", "MB/s"),
        Row(f"MiB that reached the loader and are sent again after a cut; jobs in {store}", 1, again, at_most=True),
        Row(
            f"HEAD after a silent cut, until it tells an offset, in s; jobs in {store}",
            1,
            [cut.seconds for cut in cuts["silent"]],
            at_most=True,
        ),
    ]


def _in_one(services: Services, source: Path) -> float:
    ticket = services.ticket()
    url = f"{services.loader}/transfer/upload?token={ticket.token}&filename=noise"
    os.sync()
    began = time.perf_counter()
    assert send_file(url, source, _GIB).status == 400
    os.sync()
    return _GIB / (time.perf_counter() - began) / 1e6


def _in_pieces(services: Services, source: Path) -> float:
    ticket = services.ticket()
    url = _begun(services, ticket, _GIB)
    os.sync()
    began = time.perf_counter()
    # As browsers do, all requests go over one connection.
    with connected(url) as connection:
        for offset in range(0, _GIB, _PIECE_BYTES):
            sent = send_part(connection, url, source, _PIECE_BYTES, "PATCH", offset, _HEADERS.format(offset))
            assert sent.status == (204 if offset + _PIECE_BYTES < _GIB else 400), sent.status
    return _GIB / (time.perf_counter() - began) / 1e6


def _cut(services: Services, source: Path, how: str, chance: random.Random) -> Cut:
    """Send as fast as the loader takes it, cut the connection at some moment, and ask where to go on."""
    url = _begun(services, services.ticket(), _GIB)
    parts = urlsplit(url)
    head = f"PATCH {parts.path}?{parts.query} HTTP/1.1\r\nHost: storage\r\nContent-Length: {_GIB}\r\n"
    with connected(url) as connection, source.open("rb") as file:
        connection.sendall(f"{head}{_HEADERS.format(0)}\r\n".encode())
        sent = 0
        until = time.perf_counter() + chance.uniform(0.02, 0.4)
        while time.perf_counter() < until:
            sent += os.sendfile(connection.fileno(), file.fileno(), sent, _BLOCK_BYTES)
        waiting = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
        reached = sent - int.from_bytes(waiting, sys.byteorder)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "silent":
            connection.close()
        began = time.perf_counter()
        answer = httpx.head(url, verify=False)
        seconds = time.perf_counter() - began
    assert httpx.delete(url, headers=VERSION, verify=False).status_code == 204
    return Cut(seconds, max(0, reached - int(answer.headers["upload-offset"])))


def _begun(services: Services, ticket: Ticket, length: int) -> str:
    answer = httpx.post(
        f"{services.loader}/transfer/tus/",
        params={"token": ticket.token},
        headers={**VERSION, "Upload-Length": str(length)},
        verify=False,
    )
    assert answer.status_code == 201, answer.text
    return services.loader + answer.headers["location"]
