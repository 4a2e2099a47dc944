"""Archives that are packed again, beside the bare `7z` commands that do the same."""

from __future__ import annotations

import os
import random
import re
import shutil
import statistics
import subprocess
import time
from datetime import datetime
from pathlib import Path

from benchmarks.loader_stage import send_file
from benchmarks.report import Findings, Row, interleaved, ratio
from tests.support.services import Services, running_services

_ROUNDS = 5
_FILES = 300
_LEVEL = 3
_RECEIVING = "receiving"
_PLACING = "callback and move, with its fsync"
_STEPS = {
    "uploaded": _RECEIVING,
    "extracting": "inspection",
    "repacking": "extraction, with what is checked, and the archive's fsync",
    "packed": "packing",
    "moved": _PLACING,
}
"""What comes before each line of the loader's log."""
_PACK = ["-tzip", "-mm=Deflate", f"-mx={_LEVEL}", "-mcu=on"]


def measure(folder: Path) -> Findings:
    """Send 300 MB of mixed content as `.7z` and as `.tar.gz`."""
    seven_zip, tar = seven_zip_of_a_mod(folder), folder / "mod.tar.gz"
    content = folder / "content"
    subprocess.run(["7z", "x", f"-o{content}", seven_zip], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "-C", content, "-I", "gzip -1", "-cf", tar, "."], check=True)
    shutil.rmtree(content)
    place = folder / "loader"
    place.mkdir()
    with running_services(place, "", ("loader",)) as services:
        compared = [
            _Comparison(services, folder, seven_zip, f"7z x -o{{out}} {seven_zip}"),
            _Comparison(services, folder, tar, f"7z x -so {tar} | 7z x -si -ttar -o{{out}}"),
        ]
        rows = [comparison.row() for comparison in compared]
    return Findings("Archives that are packed again", rows, "\n\n".join(one.notes() for one in compared))


def seven_zip_of_a_mod(folder: Path) -> Path:
    """Make a `.7z` of 300 MB, and return its path."""
    content, seven_zip = folder / "content", folder / "mod.7z"
    _fill(content)
    subprocess.run(["7z", "a", "-mx=1", seven_zip, "."], cwd=content, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(content)
    return seven_zip


class _Comparison:
    def __init__(self, services: Services, folder: Path, archive: Path, extract: str) -> None:
        self._services = services
        self._archive = archive
        self._out, self._packed = folder / "out", folder / "packed.zip"
        self._extract = extract.format(out=self._out)
        self._suffix = "".join(archive.suffixes)
        self._steps: dict[str, list[float]] = {}

    def row(self) -> Row:
        name = f"`{self._suffix}` of 300 MB: upload to 200, over bare `7z`"
        seconds = interleaved(_ROUNDS, {"bare": self._bare, "ours": self._ours})
        return ratio(name, 1.05, seconds, "ours", "bare", "s", at_most=True)

    def notes(self) -> str:
        """Return what takes the time."""
        seconds = {name: statistics.median(taken) for name, taken in self._steps.items()}
        bare = sum(taken for name, taken in seconds.items() if name.startswith("bare"))
        steps = "\n".join(f"| {name} | {taken:.2f} |" for name, taken in seconds.items())
        return f"""
Of `{self._suffix}`, what bare `7z` has no part in, to receive the archive and to put the ZIP in place durably, takes
{(seconds[_RECEIVING] + seconds[_PLACING]) / bare:.3f} of the bare commands' time. The rest is the same two steps, while
the disk takes in what was received and what is packed. Packing keeps both cores busy, so nothing can be hidden there.

| `{self._suffix}` | seconds |
|---|---|
{steps}
""".strip()

    def _bare(self) -> float:
        os.sync()
        started = time.perf_counter()
        subprocess.run(self._extract, shell=True, check=True, stdout=subprocess.DEVNULL)
        extracted = time.perf_counter()
        subprocess.run(["7z", "a", *_PACK, self._packed, "."], cwd=self._out, check=True, stdout=subprocess.DEVNULL)
        packed = time.perf_counter()
        shutil.rmtree(self._out)
        self._packed.unlink()
        self._take("bare `7z x`", extracted - started)
        self._take("bare `7z a`", packed - extracted)
        return packed - started

    def _ours(self) -> float:
        os.sync()
        ticket = self._services.ticket(pack_level=_LEVEL)
        url = f"{self._services.loader}/transfer/upload?token={ticket.token}&filename={self._archive.name}"
        sent = send_file(url, self._archive, self._archive.stat().st_size)
        assert sent.status == 200
        began, *ended = self._times(ticket.job_id)
        for stage, moment in ended:
            self._take(_STEPS[stage], moment - began[1])
            began = stage, moment
        (self._services.main_dir / ticket.path).unlink()
        return sent.body_seconds + sent.answer_seconds

    def _times(self, job_id: str) -> list[tuple[str, float]]:
        """Return when each stage began, as the loader's log has it, and when the file was in place."""
        line = re.compile(rf"(\S+) INFO \d+ job {job_id}: (\w+)")
        return [
            (stage, datetime.fromisoformat(moment).timestamp())
            for moment, stage in line.findall(self._services.servers["loader"].output())
            if stage != "callback"
        ]

    def _take(self, step: str, seconds: float) -> None:
        self._steps.setdefault(step, []).append(seconds)


def _fill(content: Path) -> None:
    """Write files as a mod has them: half of the bytes are textures that do not pack well, half is text."""
    chance = random.Random(2)
    words = [chance.randbytes(chance.randint(1, 6)).hex() for _ in range(5000)]
    text = " ".join(chance.choices(words, k=120_000)).encode()
    for index in range(_FILES):
        path = content / f"{index % 10}" / f"{index}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index % 2:
            path.write_bytes(chance.randbytes(1_000_000))
        else:
            start = chance.randrange(len(text) // 2)
            path.write_bytes((text[start:] + text)[:1_000_000])
