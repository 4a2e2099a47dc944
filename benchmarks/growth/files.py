"""Files in the store: what each costs in CPU time, which a slow disk does not change."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.curves import Curve
from open_workshop_storage.services.operations.whole_store import give_digests
from open_workshop_storage.services.storage.local import LocalFiles

_SIZES = (1_000, 10_000, 100_000)
_LOOK_UPS = 2_000
_CLEANUPS = 20
_CONTENT = b"a file of a mod"


def measure(folder: Path) -> Sequence[Curve]:
    """Fill a store with mods of one file each, and look through it."""
    return asyncio.run(_measure(folder))


async def _measure(folder: Path) -> Sequence[Curve]:
    for name in ("archive/mods", "resource", "avatar", "temp"):
        (folder / name).mkdir(parents=True)
    files = LocalFiles(folder)
    found, listed, cleaned, digested = [], [], [], []
    stored = 0
    for size in _SIZES:
        for number in range(stored, size):
            place = folder / "archive" / "mods" / str(number)
            place.mkdir()
            (place / "main.zip").write_bytes(_CONTENT)
        chosen = [f"mods/{random.randrange(size)}/main.zip" for _ in range(_LOOK_UPS)]
        began = time.process_time()
        for path in chosen:
            await files.find("archive", path)
        found.append((size, (time.process_time() - began) / _LOOK_UPS * 1e6))
        began = time.process_time()
        async for _ in files.every_file():
            pass
        listed.append((size, (time.process_time() - began) / size * 1e6))
        began = time.process_time()
        for _ in range(_CLEANUPS):
            await files.remove_leftovers(0)
        cleaned.append((size, (time.process_time() - began) / _CLEANUPS * 1e3))
        began = time.process_time()
        async for _ in give_digests(files):
            pass
        digested.append((size, (time.process_time() - began) / (size - stored) * 1e6))
        stored = size
    return [
        Curve("look a file up", "µs", "files", found),
        Curve("list the store", "µs per file", "files", listed),
        Curve("clean up beside them", "ms", "files", cleaned),
        Curve("give digests", "µs per new file", "files", digested),
    ]
