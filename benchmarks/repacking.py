"""Archives that are packed again, beside the bare `7z` commands that do the same."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.loader_stage import send_file
from benchmarks.report import Findings, Row, interleaved, ratio
from tests.support.services import Services, running_services

_ROUNDS = 3
_FILES = 300
_LEVEL = 3
_PACK = ["-tzip", "-mm=Deflate", f"-mx={_LEVEL}", "-mcu=on"]


def measure(folder: Path) -> Findings:
    """Send 300 MB of mixed content as `.7z` and as `.tar.gz`."""
    content = folder / "content"
    _fill(content)
    seven_zip, tar = folder / "mod.7z", folder / "mod.tar.gz"
    subprocess.run(["7z", "a", "-mx=1", seven_zip, "."], cwd=content, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "-C", content, "-I", "gzip -1", "-cf", tar, "."], check=True)
    shutil.rmtree(content)
    place = folder / "loader"
    place.mkdir()
    with running_services(place, "", ("loader",)) as services:
        rows = [
            _compare(services, folder, seven_zip, f"7z x -o{{out}} {seven_zip}"),
            _compare(services, folder, tar, f"7z x -so {tar} | 7z x -si -ttar -o{{out}}"),
        ]
    return Findings("Archives that are packed again", rows, "")


def _compare(services: Services, folder: Path, archive: Path, extract: str) -> Row:
    def bare() -> float:
        out, packed = folder / "out", folder / "packed.zip"
        started = time.perf_counter()
        subprocess.run(extract.format(out=out), shell=True, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["7z", "a", *_PACK, packed, "."], cwd=out, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        shutil.rmtree(out)
        packed.unlink()
        return seconds

    def ours() -> float:
        ticket = services.ticket(pack_level=_LEVEL)
        url = f"{services.loader}/transfer/upload?token={ticket.token}&filename={archive.name}"
        sent = send_file(url, archive, archive.stat().st_size)
        assert sent.status == 200
        return sent.body_seconds + sent.answer_seconds

    measures: dict[str, Callable[[], float]] = {"bare": bare, "ours": ours}
    seconds = interleaved(_ROUNDS, measures)
    suffix = "".join(archive.suffixes)
    return ratio(
        f"`{suffix}` of 300 MB: upload to 200, over bare `7z`", 1.05, seconds, "ours", "bare", "s", at_most=True
    )


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
