"""Raw uploads beside a bare ASGI app, and beside the test that `7z` does of the same file."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.loader_stage import Sent, send_file, sink
from benchmarks.report import Findings, Row, interleaved, ratio
from tests.archives.zips import Entry, zip_from
from tests.support.processes import children
from tests.support.servers import Server
from tests.support.services import Services, running_services

_GIB = 1 << 30
_ROUNDS = 3
_BLOCKS = 1000
_AT_ONCE = 4
_PAUSE_SECONDS = 0.002
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def measure(folder: Path) -> Findings:
    """Send a ZIP of about 1 GiB, which is kept as it is."""
    source = folder / "mod.zip"
    source.write_bytes(_large_zip())
    size = source.stat().st_size
    with sink(folder) as bare, running_services(_empty(folder / "loader"), "", ("loader",)) as services:
        pauses: list[float] = []
        speeds: dict[str, list[float]] = {"sink": [], "ours": []}

        def to_sink() -> float:
            sent = send_file(f"{bare.url}/", source, size)
            (folder / "sunk").unlink()
            os.sync()
            speeds["sink"].append(size / sent.body_seconds / 1e6)
            return sent.answer_seconds

        def to_loader() -> float:
            with _waits_for_the_loop(services.loader) as waits:
                sent = _upload(services, source, size)
            assert sent.status == 200
            os.sync()
            pauses.append(max(wait for moment, wait in waits if moment < sent.last_byte) * 1000)
            speeds["ours"].append(size / sent.body_seconds / 1e6)
            return sent.answer_seconds

        def seven_zip() -> float:
            started = time.perf_counter()
            subprocess.run(["7z", "t", "-tzip", source], check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - started

        seconds = interleaved(_ROUNDS, {"sink": to_sink, "ours": to_loader, "7z t": seven_zip})
        growth = _growth_during_uploads(services, source, size)
    return Findings(
        "Uploads",
        [
            ratio("raw upload of 1 GiB: MB/s over a bare ASGI app that writes", 0.9, speeds, "ours", "sink", "MB/s"),
            Row("longest pause of the event loop meanwhile, in ms", 50, pauses, at_most=True),
            Row(f"growth during {_AT_ONCE} such uploads at once, in MB", 64, [growth], at_most=True),
            ratio("kept ZIP of 1 GiB: last byte to 200, over `7z t`", 1.15, seconds, "ours", "7z t", "s", at_most=True),
        ],
        "",
    )


def _upload(services: Services, source: Path, size: int) -> Sent:
    ticket = services.ticket()
    return send_file(f"{services.loader}/transfer/upload?token={ticket.token}&filename=mod.zip", source, size)


@contextmanager
def _waits_for_the_loop(loader: str) -> Iterator[list[tuple[float, float]]]:
    """Ask for the cheapest answer there is, again and again, until the block ends.

    Yields:
        When each answer came, by `time.perf_counter`, and how many seconds it took; there for all after the block.
    """
    waits: list[tuple[float, float]] = []
    done = threading.Event()
    parts = urlsplit(loader)

    def ask() -> None:
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            while not done.wait(_PAUSE_SECONDS):
                asked = time.perf_counter()
                connection.sendall(b"GET /loader/healthz HTTP/1.1\r\nHost: storage\r\n\r\n")
                connection.recv(4096)
                answered = time.perf_counter()
                waits.append((answered, answered - asked))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield waits
        finally:
            done.set()
            asking.result()


def _growth_during_uploads(services: Services, source: Path, size: int) -> float:
    """Return by how many MB the loader grows during uploads that are refused once they are there."""
    server = services.servers["loader"]
    before = highest = _worker_bytes(server)
    # Without its end the file is no ZIP, so nothing is done with it.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        uploads = [pool.submit(_upload, services, source, size - 1000) for _ in range(_AT_ONCE)]
        while not all(upload.done() for upload in uploads):
            highest = max(highest, _worker_bytes(server))
            time.sleep(0.02)
    assert {upload.result().status for upload in uploads} == {400}
    return (highest - before) / 1e6


def _worker_bytes(server: Server) -> int:
    """Return the memory of the workers themselves, without the commands that they run."""
    pids = children(server.process.pid)
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES for pid in pids)


def _large_zip() -> bytes:
    """Return a ZIP of about 1 GiB, half of it noise and half of it text."""
    noise = random.Random(1)
    content = b"".join(noise.randbytes(32768) + noise.randbytes(16384).hex().encode() for _ in range(_BLOCKS))
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = compressor.compress(content) + compressor.flush()
    return zip_from(
        [Entry(b"mod/%d.bin" % index, content, packed_as=packed) for index in range(_GIB // len(packed) + 1)]
    )


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder
