"""What others notice while the loader normalises photographs."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.report import Findings, Row
from tests.support.services import Services, running_services

_ROUNDS = 5
_PHOTO_SIZE = (4000, 3000)
_PAUSE_SECONDS = 0.002


def measure(folder: Path) -> Findings:
    """Ask for the loader's health all the time while it normalises a photo of 12 megapixels."""
    photo = folder / "photo.jpg"
    Image.effect_noise((1000, 750), 90).resize(_PHOTO_SIZE).convert("RGB").save(photo, quality=90)
    with running_services(folder, apps=("loader",)) as services:
        values = [_longest_delay(services, photo) for _ in range(_ROUNDS)]
    row = Row("12-megapixel photo: longest answer to others in ms", 50, values, at_most=True)
    return Findings("Photographs", [row], "")


def _longest_delay(services: Services, photo: Path) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", services.servers["loader"].port, timeout=30)
    longest = 0.0
    with _uploading(services, photo) as upload:
        while upload.is_alive():
            started = time.perf_counter()
            connection.request("GET", "/loader/healthz")
            connection.getresponse().read()
            longest = max(longest, time.perf_counter() - started)
            time.sleep(_PAUSE_SECONDS)
    connection.close()
    return longest * 1000


@contextmanager
def _uploading(services: Services, photo: Path) -> Iterator[threading.Thread]:
    form = {
        "token": services.secrets.upload_file,
        "type": "resource",
        "path": "photos/12.webp",
        "file_kind": "img",
    }

    def upload() -> None:
        with photo.open("rb") as file:
            answer = httpx.post(f"{services.loader}/upload", data=form, files={"file": file}, timeout=60, verify=False)
        answer.raise_for_status()

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
