"""Raw uploads beside a bare ASGI app, and beside the test that `7z` does of the same file."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks.load import cpu_seconds
from benchmarks.loader_stage import Sent, send_file, sink
from benchmarks.report import Findings, Row, interleaved, ratio
from tests.archives.zips import Entry, zip_from
from tests.support.processes import children
from tests.support.servers import PROJECT, Server
from tests.support.services import Services, running_services
from tests.support.standing_disk import standing_disk

_GIB = 1 << 30
_ROUNDS = 7
_UPLOADS_A_TURN = 2
_TEST_ROUNDS = 3
_BLOCKS = 1000
_AT_ONCE = 4
_END_BYTES = 1000
_CHUNK_BYTES = 408 * 1024
_PAUSE_SECONDS = 0.002
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STALLING_UPLOADS = 12
_STALLING_BYTES = 20_000_000
_STALL_SECONDS = 0.5
_STALLS = 8


def measure(folder: Path) -> Findings:
    """Send a ZIP of about 1 GiB, which is kept as it is."""
    source = folder / "mod.zip"
    source.write_bytes(_large_zip())
    with (
        sink(folder) as bare,
        running_services(_empty(folder / "loader"), "", ("loader",)) as services,
        _loader_without_digests(_empty(folder / "without")) as without,
    ):
        ingest = _Ingest(source, folder / "sunk", bare, {"ours": services, "without digest": without})
        uploads = {name: partial(ingest.to_loader, name) for name in ("ours", "without digest")}
        speeds = interleaved(_ROUNDS, {"sink": ingest.to_sink, **uploads})
        pauses: list[float] = []
        tests = {"ours": lambda: _kept(services, source, pauses), "7z t": lambda: _tested(source)}
        seconds = interleaved(_TEST_ROUNDS, tests)
        growth = _growth_during_uploads(services, source)
    # Only root may mount a disk.
    stalled = [_longest_answer_beside_a_standing_disk(folder, source)] if os.geteuid() == 0 else []
    stalled_row = Row("longest answer to others beside a disk that stands still, in ms", 50, stalled, at_most=True)
    return Findings(
        "Uploads",
        [
            ratio("raw upload of 1 GiB: MB/s over a bare ASGI app that writes", 0.9, speeds, "ours", "sink", "MB/s"),
            ratio("the same with its digest over without: MB/s", 0.97, speeds, "ours", "without digest", "MB/s"),
            Row("longest pause of the event loop during them, in ms", 50, pauses, at_most=True),
            *([stalled_row] if stalled else []),
            Row(f"growth during {_AT_ONCE} such uploads at once, in MB", 64, [growth], at_most=True),
            ratio("kept ZIP of 1 GiB: last byte to 200, over `7z t`", 1.15, seconds, "ours", "7z t", "s", at_most=True),
        ],
        ingest.notes(),
    )


class _Ingest:
    """Sends bodies to the bare app and to the loader, each turn onto a disk that has nothing left to write."""

    def __init__(self, source: Path, sunk: Path, bare: Server, loaders: Mapping[str, Services]) -> None:
        self._source = source
        # Without its end the file is no ZIP, so nothing is done with it.
        self._size = source.stat().st_size - _END_BYTES
        self._sunk = sunk
        self._bare = bare
        self._loaders = loaders
        self._costs: dict[str, list[float]] = {name: [] for name in ("sink", *loaders)}

    def to_sink(self) -> float:
        def send() -> Sent:
            sent = send_file(f"{self._bare.url}/", self._source, self._size)
            self._sunk.unlink()
            return sent

        return self._turn("sink", self._bare, send)

    def to_loader(self, name: str) -> float:
        def send() -> Sent:
            sent = _upload(self._loaders[name], self._source, self._size)
            assert sent.status == 400
            return sent

        return self._turn(name, self._loaders[name].servers["loader"], send)

    def _turn(self, name: str, server: Server, send: Callable[[], Sent]) -> float:
        """Return the MB/s of some uploads one after the other."""
        seconds = 0.0
        for _ in range(_UPLOADS_A_TURN):
            os.sync()
            before = cpu_seconds([server])
            seconds += send().body_seconds
            self._costs[name].append((cpu_seconds([server]) - before) / self._size * _GIB)
        return _UPLOADS_A_TURN * self._size / seconds / 1e6

    def notes(self) -> str:
        """Return what limits it."""
        sink_cost, our_cost = (median(self._costs[name]) for name in ("sink", "ours"))
        written = median(_seconds_to_write(self._sunk, self._size) for _ in range(_ROUNDS))
        return f"""
Bodies are limited by the two cores: the client, granian's thread that reads the socket, and the Python thread share
them, and ours hands each half MiB to a thread that writes. For 1 GiB the bare app takes {sink_cost:.2f} CPU seconds,
the loader {our_cost:.2f}; to write the same chunks to a file, without a server, takes
{written:.2f} seconds. The disk is no limit, since nothing is left to write when an upload begins, and the fsync comes
later, beside the test of the ZIP. An upload takes less than a second, and two in a row differ by a third, so each turn
is {_UPLOADS_A_TURN} of them. That thread hashes a body while this takes a quarter of the time; of these, which
come as fast as the cores are, it hashes the beginning, and the rest is hashed beside the test of a ZIP.

Beside a disk that stands still, `readyz` is asked, which needs a thread, while {_STALLING_UPLOADS} uploads wait for a
disk that stops for {_STALL_SECONDS} seconds at a time. Each upload writes in a thread of its own. The time of a kept
ZIP after its last byte is that of its test.
"""


@contextmanager
def _loader_without_digests(folder: Path) -> Iterator[Services]:
    """Run a loader that hashes nothing of what comes in, until the block ends."""
    (folder / "sitecustomize.py").write_text(
        "from open_workshop_storage.utils.files.digests import FileDigest\n"
        "FileDigest.add = lambda self, blocks: None\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join((str(folder), str(PROJECT / "src")))}
    with running_services(folder, "", ("loader",), environment) as services:
        yield services


def _seconds_to_write(path: Path, size: int) -> float:
    chunk = random.Random(4).randbytes(_CHUNK_BYTES)
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(chunk)):
            file.write(chunk)
    seconds = time.perf_counter() - started
    path.unlink()
    os.sync()
    return seconds


def _kept(services: Services, source: Path, pauses: list[float]) -> float:
    os.sync()
    with _waits_for(services.loader, "/loader/healthz") as waits:
        sent = _upload(services, source, source.stat().st_size)
    assert sent.status == 200
    pauses.append(max(wait for moment, wait in waits if moment < sent.last_byte) * 1000)
    return sent.answer_seconds


def _tested(source: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["7z", "t", "-tzip", source], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _longest_answer_beside_a_standing_disk(folder: Path, source: Path) -> float:
    """Return the milliseconds of the longest answer during uploads to a disk that stops again and again."""
    place = _empty(folder / "stalling")
    with (
        standing_disk(folder / "disk") as disk,
        running_services(
            place, "", ("loader",), MAIN_DIR=str(disk.folder), TRANSFER_UPLOAD_CONCURRENCY=_STALLING_UPLOADS
        ) as services,
        ThreadPoolExecutor(_STALLING_UPLOADS) as pool,
    ):
        with _waits_for(services.loader, "/loader/readyz") as waits:
            uploads = [pool.submit(_upload, services, source, _STALLING_BYTES) for _ in range(_STALLING_UPLOADS)]
            for _ in range(_STALLS):
                with disk.standing_still():
                    time.sleep(_STALL_SECONDS)
        assert {upload.result().status for upload in uploads} == {400}
    return max(wait for _, wait in waits) * 1000


def _upload(services: Services, source: Path, size: int) -> Sent:
    ticket = services.ticket()
    return send_file(f"{services.loader}/transfer/upload?token={ticket.token}&filename=mod.zip", source, size)


@contextmanager
def _waits_for(url: str, path: str) -> Iterator[list[tuple[float, float]]]:
    """Ask a server for something, again and again, until the block ends.

    Yields:
        When each answer came, by `time.perf_counter`, and how many seconds it took; there for all after the block.
    """
    waits: list[tuple[float, float]] = []
    done = threading.Event()
    parts = urlsplit(url)

    def ask() -> None:
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            while not done.wait(_PAUSE_SECONDS):
                asked = time.perf_counter()
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: storage\r\n\r\n".encode())
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


def _growth_during_uploads(services: Services, source: Path) -> float:
    """Return by how many MB the loader grows during uploads that are refused once they are there."""
    size = source.stat().st_size - _END_BYTES
    server = services.servers["loader"]
    before = highest = _worker_bytes(server)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        uploads = [pool.submit(_upload, services, source, size) for _ in range(_AT_ONCE)]
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
