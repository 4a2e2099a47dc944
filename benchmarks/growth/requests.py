"""Requests that one worker has answered."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.curves import Curve
from benchmarks.load import resident_bytes
from benchmarks.stage import stage

_SIZES = (10_000, 100_000, 1_000_000)
_SECONDS = 2
_BYTES = 20_000


def measure(folder: Path) -> Sequence[Curve]:
    """Download a file and a part of it, ask for what is missing, and see what the worker holds then."""
    memory = []
    with stage(folder) as servers:
        server = servers.distributor()
        servers.stored("resource/small.bin", _BYTES)
        targets = {"small.bin": (), "small.bin?part": ("Range: bytes=0-99",), "missing.bin": ()}
        answered = 0
        for size in _SIZES:
            while answered < size:
                for target, headers in targets.items():
                    answered += _ask(f"{server.url}/download/resource/{target}", *headers)
            memory.append((size, resident_bytes(server) / 1e6))
    return [Curve("memory of a distributor", "MB", "requests", memory, 1.05)]


def _ask(url: str, *headers: str) -> int:
    """Ask for a URL for some seconds, and return how many answers came."""
    command = ["wrk", "--threads", "1", "--connections", "32", "--duration", f"{_SECONDS}s"]
    for header in headers:
        command += ["--header", header]
    report = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    return int(report.split(" requests in ")[0].split()[-1])
