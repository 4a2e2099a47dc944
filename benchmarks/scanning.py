"""What a scan adds to a transfer besides the scanner's own work."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

from benchmarks.loader_stage import send_file
from benchmarks.repacking import seven_zip_of_a_mod
from benchmarks.report import Findings, Row, interleaved
from open_workshop_storage.utils.net.clamd import Clean, parse_address, scan
from tests.support.clamd import Clamd, running_clamd
from tests.support.services import Services, running_services

_ROUNDS = 5
_SCAN_SECONDS = 120
_LIMITS = ("MaxFileSize 2000M", "MaxScanSize 2000M", "StreamMaxLength 2000M", "DisableCache yes")
_NOTES = """
The scanner reads the packed file by its open descriptor, after the repack slot is given back. Its own time is that of
the same question for the file that was stored, asked right after, without the scanner's memory of what is clean.
"""


def measure(folder: Path) -> Findings:
    """Send 300 MB as `.7z` to a loader with a scanner and to one without."""
    for name in ("clamd", "with", "without"):
        (folder / name).mkdir()
    archive = seven_zip_of_a_mod(folder)
    with (
        running_clamd(folder / "clamd", *_LIMITS) as clamd,
        running_services(folder / "with", "", ("loader",), None, CLAMD_ADDRESS=clamd.local) as scanned,
        running_services(folder / "without", "", ("loader",)) as plain,
    ):
        own: list[float] = []
        seconds = interleaved(
            _ROUNDS,
            {"with": partial(_seconds, scanned, archive, clamd, own), "without": partial(_seconds, plain, archive)},
        )
    ratios = [
        (ours - scanner) / bare for ours, scanner, bare in zip(seconds["with"], own, seconds["without"], strict=True)
    ]
    detail = f"clamd's own time: {min(own):.2f} – {max(own):.2f} s"
    name = "`.7z` of 300 MB with a scan, clamd's own time taken off, over without"
    return Findings("Scans for malware", [Row(name, 1.02, ratios, detail, at_most=True)], _NOTES)


def _seconds(services: Services, archive: Path, clamd: Clamd | None = None, own: list[float] | None = None) -> float:
    ticket = services.ticket(pack_level=3)
    url = f"{services.loader}/transfer/upload?token={ticket.token}&filename={archive.name}"
    sent = send_file(url, archive, archive.stat().st_size)
    assert sent.status == 200
    stored = services.main_dir / ticket.path
    if clamd is not None and own is not None:
        with stored.open("rb") as file:
            began = time.perf_counter()
            assert asyncio.run(scan(parse_address(clamd.local), file, _SCAN_SECONDS)) == Clean()
            own.append(time.perf_counter() - began)
    stored.unlink()
    return sent.body_seconds + sent.answer_seconds
