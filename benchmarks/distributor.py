"""The distributor beside nginx, beside a bare ASGI app, and beside bare Pillow."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.load import cpu_seconds, download, requests_per_second, resident_bytes, slow_readers
from benchmarks.report import Row
from benchmarks.stage import IMAGES, LARGE_BYTES, Stage
from tests.support.servers import Server

SMALL = "/download/resource/small/7.webp"
PROTECTED = "/download/archive/mods/7/main.zip"
LARGE = "/download/resource/large.bin"
ROUNDS = 7
LARGE_ROUNDS = 5

_GIB = 1 << 30
_PARTS = 16
_PART_BYTES = 64 * 1024 * 1024
_SLOW_READERS = 200
_SETTLING_SECONDS = 4

Measure = Callable[[], float]


def small_files(stage: Stage) -> list[Row]:
    """Requests per second for files of 20 KB."""
    etag = httpx.head(stage.plain.url + SMALL).headers["etag"]
    cookie = "Cookie: accessToken=" + "x" * 300
    rates = _interleaved(
        ROUNDS,
        {
            "bare": lambda: requests_per_second(stage.bare.url + SMALL),
            "direct": lambda: requests_per_second(stage.plain.url + SMALL),
            "nginx": lambda: requests_per_second(stage.front.url + SMALL),
            "304": lambda: requests_per_second(stage.plain.url + SMALL, f"If-None-Match: {etag}"),
            "asked": lambda: requests_per_second(stage.plain.url + PROTECTED, cookie),
            "remembered": lambda: requests_per_second(stage.remembering.url + PROTECTED, cookie),
        },
    )
    unit = "req/s"
    return [
        _ratio("20 KB, over a bare ASGI app", 0.75, rates, "direct", "bare", unit),
        _ratio("20 KB through nginx and `X-Accel-Redirect`, over direct", 0.9, rates, "nginx", "direct", unit),
        _ratio("304, over 200 of 20 KB", 1.3, rates, "304", "direct", unit),
        _ratio("protected 20 KB, over unprotected", 0.2, rates, "asked", "direct", unit),
        _ratio("protected 20 KB, permission remembered, over unprotected", 0.85, rates, "remembered", "direct", unit),
    ]


def large_files(stage: Stage) -> list[Row]:
    """CPU seconds per GiB, and throughput, of files and parts of a gigabyte."""
    whole = [""] * 4
    parts = [f"bytes={index * _PART_BYTES}-{(index + 1) * _PART_BYTES - 1}" for index in range(_PARTS)]
    rates: dict[str, list[float]] = {}

    def taking(name: str, server: Server, wanted: Sequence[str], *paid: Server) -> Measure:
        def measure() -> float:
            before = cpu_seconds(paid or [server])
            received, seconds = download([(server.url + LARGE, part) for part in wanted])
            rates.setdefault(name, []).append(received / seconds / _GIB)
            return (cpu_seconds(paid or [server]) - before) / (received / _GIB)

        return measure

    costs = _interleaved(
        LARGE_ROUNDS,
        {
            "whole": taking("whole", stage.plain, whole),
            "nginx": taking("nginx", stage.reference, whole),
            "Python": taking("Python", stage.front, whole, stage.behind),
            "parts": taking("parts", stage.plain, parts),
            "nginx's parts": taking("nginx's parts", stage.reference, parts),
        },
    )
    unit = "CPU s/GiB"
    return [
        _ratio("1 GiB, 4 connections: CPU over nginx", 1.5, costs, "whole", "nginx", unit, at_most=True),
        _ratio("16 ranges of 64 MiB: CPU over nginx", 2.2, costs, "parts", "nginx's parts", unit, at_most=True),
        _ratio("16 ranges of 64 MiB: throughput over nginx", 0.75, rates, "parts", "nginx's parts", "GiB/s"),
        Row("1 GiB through `X-Accel-Redirect`: Python's CPU seconds", 0.01, costs["Python"], at_most=True),
    ]


def blurhashes(stage: Stage) -> list[Row]:
    """Time for batches of BlurHashes."""
    folder = stage.root / "resource" / "covers"
    images = [folder / f"{index}.webp" for index in range(IMAGES)]
    body = {"paths": [f"/download/resource/covers/{image.name}" for image in images]}

    with httpx.Client(base_url=stage.plain.url, timeout=60) as client:

        def batch() -> float:
            started = time.perf_counter()
            items = client.post("/blurhashes", json=body).raise_for_status().json()["items"]
            seconds = time.perf_counter() - started
            assert all(item["blurhash"] and item["width"] == 1280 for item in items)
            return seconds

        def cold() -> float:
            for image in images:
                os.utime(image)
            return batch()

        times = _interleaved(
            LARGE_ROUNDS,
            {"cold": cold, "bare": lambda: _decode(images), "warm": lambda: min(batch() for _ in range(10))},
            alternating=False,
        )
    speeds = {name: [IMAGES / seconds for seconds in values] for name, values in times.items()}
    return [
        _ratio("100 cold BlurHashes: time over bare decoding", 1.25, times, "cold", "bare", "s", at_most=True),
        _ratio("100 warm BlurHashes: images/s over cold", 100, speeds, "warm", "cold", "images/s"),
    ]


def memory(stage: Stage) -> list[Row]:
    """Memory that clients hold which do not read."""
    rows = []
    for name, wanted in (("whole files", ""), ("ranges", f"bytes=1-{LARGE_BYTES - 1}")):
        before = resident_bytes(stage.plain)
        with slow_readers(stage.plain.url + LARGE, wanted, _SLOW_READERS):
            time.sleep(_SETTLING_SECONDS)
            growth = (resident_bytes(stage.plain) - before) / 1e6
        rows.append(Row(f"200 slow readers of {name}: growth in MB", 100, [growth], at_most=True))
        time.sleep(1)
    return rows


def _decode(images: Sequence[Path]) -> float:
    def load(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    started = time.perf_counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(load, images))
    return time.perf_counter() - started


def _interleaved(rounds: int, measures: Mapping[str, Measure], *, alternating: bool = True) -> dict[str, list[float]]:
    """Measure all in each round, in turns forwards and backwards, so that what disturbs one disturbs all."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures)
        for name in reversed(names) if alternating and number % 2 else names:
            values[name].append(measures[name]())
    return values


def _ratio(
    name: str,
    goal: float,
    values: Mapping[str, Sequence[float]],
    ours: str,
    reference: str,
    unit: str,
    *,
    at_most: bool = False,
) -> Row:
    ratios = [value / base for value, base in zip(values[ours], values[reference], strict=True)]
    medians = [statistics.median(values[key]) for key in (ours, reference)]
    detail = " / ".join(f"{median:,.0f}" if median >= 100 else f"{median:.3g}" for median in medians)
    return Row(name, goal, ratios, f"{detail} {unit}", at_most)
