"""What happens at a hundred times today's load, and more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.growth import archives, callbacks, files, requests, sockets, starts, uploads, waiting, workers
from benchmarks.growth.curves import Curve, picture
from benchmarks.report import Findings

PICTURE = Path(__file__).parent.with_name("growth.svg")

_PARTS: dict[str, Callable[[Path], Sequence[Curve]]] = {
    "waiting": waiting.measure,
    "starts": starts.measure,
    "callbacks": callbacks.measure,
    "uploads": uploads.measure,
    "sockets": sockets.measure,
    "files": files.measure,
    "archives": archives.measure,
    "workers": workers.measure,
    "requests": requests.measure,
}
_NOTES = """
Each figure is taken at growing sizes, and is to stay what it was at the smallest one: the median is the last over the
first.

![Each figure over its size](growth.svg)

- *Callbacks*: a worker has 4 under way at most, and begins none within 8 ms of another, so that requests get their turn
  between them. nginx is the Manager, and answers at once. Once measured beside other work, with a restart: of 100,000
  each went out once, in nine and a half minutes, over 8 connections at most.
- *Uploads whose client waits* for a slot to be packed ask for it every five seconds, one script each, so that 1,000
  of them make 200 scripts a second. Each holds a connection and its whole file; their places are not renewed together.
- *Sockets*: without `TRANSFER_MAX_SOCKETS`, which has a worker hold 1,500, and close more with 1013.
- *Files*: CPU time. Once measured beside other work: among 1,000,000 files, one was looked up in 20 µs, the store
  listed in 49 µs a file, and cleaned up beside in 0.5 ms, as among 1,000. To fill and list such a store takes minutes.
"""


def measure(folder: Path) -> Findings:
    """Measure all parts, and draw their curves."""
    curves: list[Curve] = []
    for name, part in _PARTS.items():
        place = folder / name
        place.mkdir()
        began = time.monotonic()
        curves += part(place)
        print(f"growth, {name}: {time.monotonic() - began:.0f} s", flush=True)
    PICTURE.write_text(picture(curves))
    return Findings("Growth", [row for curve in curves for row in curve.rows()], _NOTES)
