"""Batches of BlurHashes, beside bare Pillow."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.report import Findings, interleaved, ratio
from benchmarks.stage import stage

_IMAGES = 100
_ROUNDS = 5
_NOTES = """
A cold batch is limited by decoding, on all cores; the reference does nothing else, in as many threads. A warm one is
limited by looking each file up and by JSON.
"""


def measure(folder: Path) -> Findings:
    """Compare a batch that is not cached with decoding its images, and with the same batch cached."""
    with stage(folder) as servers:
        images = _store_images(servers.root / "resource" / "covers")
        body = {"paths": [f"/download/resource/covers/{image.name}" for image in images]}
        with httpx.Client(base_url=servers.distributor().url, timeout=60) as client:

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

            times = interleaved(
                _ROUNDS,
                {"cold": cold, "bare": lambda: _decode(images), "warm": lambda: min(batch() for _ in range(10))},
                alternating=False,
            )
    speeds = {name: [_IMAGES / seconds for seconds in values] for name, values in times.items()}
    rows = [
        ratio("100 cold BlurHashes: time over bare decoding", 1.25, times, "cold", "bare", "s", at_most=True),
        ratio("100 warm BlurHashes: images/s over cold", 100, speeds, "warm", "cold", "images/s"),
    ]
    return Findings("BlurHashes", rows, _NOTES)


def _store_images(folder: Path) -> list[Path]:
    folder.mkdir()
    images = [folder / f"{index}.webp" for index in range(_IMAGES)]
    # Blurred noise is about as hard to decode as a photograph.
    Image.effect_noise((320, 180), 90).resize((1280, 720)).convert("RGB").save(images[0])
    for image in images[1:]:
        shutil.copy(images[0], image)
    return images


def _decode(images: Sequence[Path]) -> float:
    def load(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    started = time.perf_counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(load, images))
    return time.perf_counter() - started
