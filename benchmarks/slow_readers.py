"""Memory that clients hold which do not read."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.load import resident_bytes, slow_readers
from benchmarks.report import Findings, Row
from benchmarks.stage import stage

_GIB = 1 << 30
_READERS = 200
_SETTLING_SECONDS = 4
_NOTES = """
What granian takes ahead of clients is the limit: its writer collects 400 KiB, and five more blocks wait. `BlockSender`
bounds the large blocks of all clients together, and gives small ones to the rest.
"""


def measure(folder: Path) -> Findings:
    """Hold downloads of a gigabyte open without reading, each kind against a distributor of its own."""
    rows = []
    with stage(folder) as servers:
        servers.stored("resource/large.bin", _GIB)
        for name, wanted in (("whole files", ""), ("ranges", f"bytes=1-{_GIB - 1}")):
            server = servers.distributor()
            before = resident_bytes(server)
            with slow_readers(f"{server.url}/download/resource/large.bin", wanted, _READERS):
                time.sleep(_SETTLING_SECONDS)
                growth = (resident_bytes(server) - before) / 1e6
            rows.append(Row(f"{_READERS} slow readers of {name}: growth in MB", 100, [growth], at_most=True))
    return Findings("Slow readers", rows, _NOTES)
