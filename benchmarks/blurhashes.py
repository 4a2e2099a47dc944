"""Batches of BlurHashes, beside bare Pillow."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.report import Findings, interleaved, ratio
from benchmarks.stage import stage
from tests.support.images import blurhash

_IMAGES = 100
_ROUNDS = 5
_PROFILED_CALLS = 50


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
        works = {"decoding": lambda: _load(images[0]), "hashing": lambda: blurhash(images[0])}
        profile = interleaved(_PROFILED_CALLS, {name: partial(_milliseconds, work) for name, work in works.items()})
    decoding, hashing = min(profile["decoding"]), min(profile["hashing"])
    speeds = {name: [_IMAGES / seconds for seconds in values] for name, values in times.items()}
    rows = [
        ratio("100 cold BlurHashes: time over bare decoding", 1.25, times, "cold", "bare", "s", at_most=True),
        ratio("100 warm BlurHashes: images/s over cold", 100, speeds, "warm", "cold", "images/s"),
    ]
    notes = f"""
A cold batch is limited by decoding, on all cores; the reference does nothing else, in as many threads. Decoding one
image takes {decoding:.1f} ms of a core, and with scaling it down and the library's hash it takes {hashing:.1f} ms: a
batch that cost nothing else would take {hashing / decoding:.2f} of bare decoding. What is left is handing each image
to a child process. A warm batch is limited by looking each file up and by JSON.
"""
    return Findings("BlurHashes", rows, notes)


def _store_images(folder: Path) -> list[Path]:
    folder.mkdir()
    images = [folder / f"{index}.webp" for index in range(_IMAGES)]
    # Blurred noise is about as hard to decode as a photograph.
    Image.effect_noise((320, 180), 90).resize((1280, 720)).convert("RGB").save(images[0])
    for image in images[1:]:
        shutil.copy(images[0], image)
    return images


def _load(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000


def _decode(images: Sequence[Path]) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(_load, images))
    return time.perf_counter() - started
