"""Uploads over tus beside uploads in one request, and the question where to go on."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.loader_stage import connected, send_file, send_part
from benchmarks.report import Findings, Row, interleaved, ratio
from tests.support.services import Services, Ticket, running_services
from tests.support.tus import VERSION

_GIB = 1 << 30
_PIECE_BYTES = 8 << 20
_ROUNDS = 5
_QUESTIONS = 20
_HEADERS = "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\nUpload-Offset: {}\r\n"


def measure(folder: Path) -> Findings:
    """Send 1 GiB that begins as a ZIP and has no directory, so that nothing is done with it."""
    source = folder / "source"
    block = os.urandom(1 << 24)
    with source.open("wb") as file:
        file.write(b"PK\x05\x06" + bytes(18) + block[22:])
        for _ in range(_GIB // len(block) - 1):
            file.write(block)
    place = folder / "loader"
    place.mkdir()
    with running_services(place, "", ("loader",)) as services:
        speeds = interleaved(
            _ROUNDS, {"one": lambda: _in_one(services, source), "tus": lambda: _in_pieces(services, source)}
        )
        heads = [_seconds_to_offset(services, source) for _ in range(_QUESTIONS)]
    return Findings(
        "Resumable uploads",
        [
            ratio(
                "1 GiB in PATCHes of 8 MiB over one raw upload, on the disk",
                0.9,
                speeds,
                "tus",
                "one",
                "MB/s",
            ),
            Row("HEAD after a silent cut, until it tells an offset, in s", 1, heads, at_most=True),
        ],
        """
Each PATCH is a request with a run of its own: two saves of the job's record, a slot, and a sync of its 8 MiB to the
disk, before its answer. The disk begins with each half MiB as soon as it is written, so that the sync waits for the
last one and for the file system's journal. Between an answer and the next request's first bytes the loader has nothing
to take in. The raw upload is synced once, behind its last byte, which is counted here too.
""",
    )


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


def _seconds_to_offset(services: Services, source: Path) -> float:
    """Return how long the question takes that ends a request whose client is gone without a word."""
    ticket = services.ticket()
    url = _begun(services, ticket, _PIECE_BYTES)
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        head = f"PATCH {parts.path}?{parts.query} HTTP/1.1\r\nHost: storage\r\nContent-Length: {_PIECE_BYTES}\r\n"
        connection.sendall(f"{head}{_HEADERS.format(0)}\r\n".encode() + source.read_bytes()[: 1 << 20])
        time.sleep(0.2)
        began = time.perf_counter()
        answer = httpx.head(url, verify=False)
        seconds = time.perf_counter() - began
    assert answer.headers["upload-offset"] == str(1 << 20), answer.headers
    assert httpx.delete(url, headers=VERSION, verify=False).status_code == 204
    return seconds


def _begun(services: Services, ticket: Ticket, length: int) -> str:
    answer = httpx.post(
        f"{services.loader}/transfer/tus/",
        params={"token": ticket.token},
        headers={**VERSION, "Upload-Length": str(length)},
        verify=False,
    )
    assert answer.status_code == 201, answer.text
    return services.loader + answer.headers["location"]
