"""What it costs to look into ZIPs, and what it saves."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import threading
import time
import zipfile
import zlib
from pathlib import Path
from urllib.parse import quote

import httpx

from benchmarks.load import download, requests_per_second
from benchmarks.report import Findings, Row, interleaved, ratio
from benchmarks.stage import stage
from open_workshop_storage.utils.archives.contents import read_contents
from tests.support.archives import zip_of

_BYTES = 20_000
_ROUNDS = 15
_ENTRIES = 100_000
_LISTINGS = 9
_FILES = 100
_ZIP = "archive/mod.zip"
_MOST_BYTES = 64 * 1024**2


def measure(folder: Path) -> Findings:
    """Compare one file of a ZIP with a file of its own, list large ZIPs, and update a mod."""
    with stage(folder) as servers:
        server = servers.distributor()
        servers.stored("archive/small.bin", _BYTES)
        files = {f"mod/{number:03}.bin": secrets.token_bytes(_BYTES) for number in range(_FILES)}
        (servers.root / _ZIP).write_bytes(zip_of(files))
        entry = f"{server.url}/contents/{_ZIP}?entry={quote('mod/050.bin', safe='')}"
        gzip = "Accept-Encoding: gzip"
        rates = interleaved(
            _ROUNDS,
            {
                "stored": lambda: requests_per_second(f"{server.url}/download/archive/small.bin", gzip),
                "entry": lambda: requests_per_second(entry, gzip),
                "inflated": lambda: requests_per_second(entry),
                "not remembered": lambda: requests_per_second(entry, gzip, 'If-None-Match: "another"'),
            },
        )
        large = folder / "large.zip"
        _write_large(large)
        first, cached, again = _listings(f"{server.url}/contents", servers.root / "archive", large)
        fetched = _update(server.url, servers.root / _ZIP, files)
    lone, beside, held_up = _reading(large)
    rows = [
        ratio("`?entry=` of 20 KB as gzip, over a stored file of that size", 0.75, rates, "entry", "stored", "req/s"),
        Row(f"listing of {_ENTRIES} entries: first, in ms", 400, first, f"{large.stat().st_size / 1e6:.0f} MB", True),
        Row("the same, cached", 10, cached, f"{again / 1e6:.1f} MB of JSON", True),
        Row(f"bytes fetched to update a mod of {_FILES} files of which one changed, over all", 0.03, fetched, "", True),
    ]
    inflated = ratio("", 0.75, rates, "inflated", "stored", "req/s")
    planned = ratio("", 0.75, rates, "not remembered", "stored", "req/s")
    notes = f"""
A file of a ZIP is looked up like a stored one (here both are in one folder), found by its name, and sent from the
middle of the ZIP as it is packed, in one message with the ten bytes before and the eight behind it. For clients that
take no gzip it is inflated in a thread: {inflated.median:.2f} of the rate of the stored file ({inflated.detail}).
Where nothing of the answer is remembered, the rate with gzip is {planned.median:.2f} of it ({planned.detail}).

A first listing is limited by Python: reading the directory of {_ENTRIES} entries takes {lone * 1000:.0f} ms of a thread
alone. Meanwhile the event loop has to wait for the interpreter now and then: {beside * 1000:.2f} ms at most between two
of its rounds, {held_up * 1000:.2f} ms without such a thread. A cached listing is limited by copying it to the socket.
"""
    return Findings("Contents of ZIPs", rows, notes)


def _write_large(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(_ENTRIES):
            name = f"mod/textures/set{number % 100:03}/tile_{number:06}.dds"
            date = (2024, 1 + number % 12, 1 + number % 28, number % 24, number % 60, number * 2 % 60)
            archive.writestr(zipfile.ZipInfo(name, date), b"x" * (number % 50))


def _listings(url: str, folder: Path, large: Path) -> tuple[list[float], list[float], int]:
    """Return the milliseconds of first and of cached listings, and the bytes of one."""
    first, cached, received = [], [], 0
    for number in range(_LISTINGS):
        shutil.copy(large, folder / f"{number}.zip")
        address = [(f"{url}/archive/{number}.zip", "")]
        received, seconds = download(address)
        first.append(seconds * 1000)
        for _ in range(3):
            cached.append(download(address)[1] * 1000)
    return first, cached, received


def _update(url: str, path: Path, files: dict[str, bytes]) -> list[float]:
    """Change one file, and return what is fetched, the listing included, over the bytes of the ZIP."""
    path.write_bytes(zip_of(files | {"mod/077.bin": secrets.token_bytes(_BYTES)}))
    fetched = 0
    with httpx.Client() as client:
        listing = client.get(f"{url}/contents/{_ZIP}")
        fetched += len(listing.content)
        for entry in json.loads(listing.content)["entries"]:
            if int(entry["crc32"], 16) != zlib.crc32(files[entry["name"]]):
                with client.stream("GET", f"{url}/contents/{_ZIP}", params={"entry": entry["name"]}) as answer:
                    fetched += sum(map(len, answer.iter_raw()))
    return [fetched / os.stat(path).st_size]


def _reading(large: Path) -> tuple[float, float, float]:
    """Return the seconds that reading takes, and the longest pauses of an event loop beside it and without it."""

    def read() -> float:
        with large.open("rb") as file:
            began = time.thread_time()
            read_contents(file, _MOST_BYTES, lambda: None)
            return time.thread_time() - began

    async def longest_pause(thread: threading.Thread) -> float:
        thread.start()
        longest = 0.0
        while thread.is_alive():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began - 0.001)
        return longest

    lone = min(read() for _ in range(3))
    beside = min(asyncio.run(longest_pause(threading.Thread(target=read))) for _ in range(3))
    held_up = min(asyncio.run(longest_pause(threading.Thread(target=time.sleep, args=[lone]))) for _ in range(3))
    return lone, beside, held_up
