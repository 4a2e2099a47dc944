"""Entries in a ZIP."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.curves import Curve
from open_workshop_storage.utils.archives.contents import read_contents
from open_workshop_storage.utils.archives.zip_inspection import inspect_zip

_SIZES = (100, 1_000, 10_000, 100_000)
_MOST_BYTES = 256 * 1024**2
_ROUNDS = 3


def measure(folder: Path) -> Sequence[Curve]:
    """Judge ZIPs of empty files, and list them."""
    judged, listed = [], []
    for size in _SIZES:
        path = folder / "entries.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(size):
                archive.writestr(f"mod/textures/set{number % 100:03}/tile_{number:06}.dds", b"")
        inspections, listings = [], []
        for _ in range(_ROUNDS):
            with path.open("rb") as file:
                began = time.thread_time()
                inspect_zip(file, 0, 0)
                inspections.append(time.thread_time() - began)
                began = time.thread_time()
                read_contents(file, _MOST_BYTES, lambda: None)
                listings.append(time.thread_time() - began)
        judged.append((size, min(inspections) / size * 1e6))
        listed.append((size, min(listings) / size * 1e6))
    return [
        Curve("judge a ZIP", "µs per entry", "entries", judged),
        Curve("list a ZIP", "µs per entry", "entries", listed),
    ]
