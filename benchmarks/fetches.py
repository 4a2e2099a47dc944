"""Transfers from URLs beside curl."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import time
from pathlib import Path

import httpx

from benchmarks.report import Findings, interleaved, ratio
from tests.support.client import watching
from tests.support.nginx import nginx
from tests.support.services import Services, running_services

_BYTES = 1 << 30
_ROUNDS = 5


def measure(folder: Path) -> Findings:
    """Fetch 1 GiB from an nginx on this machine."""
    (folder / "origin").mkdir()
    # It begins like a ZIP and is none, so nothing is done with it once it is here.
    block = b"PK\3\4" + secrets.token_bytes((1 << 24) - 4)
    with (folder / "origin" / "mod.zip").open("wb") as file:
        for _ in range(_BYTES // len(block)):
            file.write(block)
    place = folder / "loader"
    place.mkdir()
    site = f"location / {{ root {folder}/origin; sendfile on; }}"
    with nginx(folder, site, upstream_port=9) as origin, running_services(place, "", ("loader",)) as services:
        url = f"{origin.url}/mod.zip"

        def curl() -> float:
            started = time.perf_counter()
            subprocess.run(["curl", "--silent", "--fail", "-o", folder / "fetched", url], check=True)
            seconds = time.perf_counter() - started
            (folder / "fetched").unlink()
            return _BYTES / seconds / 1e6

        def ours() -> float:
            return _BYTES / asyncio.run(_fetch(services, url)) / 1e6

        speeds = interleaved(_ROUNDS, {"curl": curl, "ours": ours})
    row = ratio("URL transfer of 1 GiB: MB/s over `curl -o`", 0.6, speeds, "ours", "curl", "MB/s")
    return Findings("Transfers from URLs", [row], "")


async def _fetch(services: Services, url: str) -> float:
    """Return the seconds from the call until all bytes are there."""
    ticket = services.ticket(download_url=url)
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher, httpx.AsyncClient() as http:
        started = time.perf_counter()
        (await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token})).raise_for_status()
        await watcher.until(bytes=_BYTES)
        seconds = time.perf_counter() - started
        await watcher.finish()
    await asyncio.to_thread(os.sync)
    return seconds
