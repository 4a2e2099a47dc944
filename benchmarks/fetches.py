"""Transfers from URLs beside curl."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import time
from pathlib import Path
from statistics import median

import httpx

from benchmarks.load import cpu_seconds
from benchmarks.report import Findings, interleaved, ratio
from tests.support.client import watching
from tests.support.nginx import nginx
from tests.support.services import Services, running_services

_BYTES = 1 << 30
_ROUNDS = 5
_HEADER_BYTES = 30
"""What a ZIP says of its first entry; noise there would look encrypted, and be refused."""


def measure(folder: Path) -> Findings:
    """Fetch 1 GiB from an nginx on this machine."""
    (folder / "origin").mkdir()
    # It begins like a ZIP and is none, so nothing is done with it once it is here.
    block = b"PK\3\4".ljust(_HEADER_BYTES, b"\0") + secrets.token_bytes((1 << 24) - _HEADER_BYTES)
    with (folder / "origin" / "mod.zip").open("wb") as file:
        for _ in range(_BYTES // len(block)):
            file.write(block)
    place = folder / "loader"
    place.mkdir()
    site = f"location / {{ root {folder}/origin; sendfile on; }}"
    with nginx(folder, site, upstream_port=9) as origin, running_services(place, "", ("loader",)) as services:
        url = f"{origin.url}/mod.zip"
        loader = services.servers["loader"]
        costs: dict[str, list[float]] = {"curl": [], "ours": []}

        def curl() -> float:
            os.sync()
            before, started = os.times().children_user + os.times().children_system, time.perf_counter()
            subprocess.run(["curl", "--silent", "--fail", "-o", folder / "fetched", url], check=True)
            seconds = time.perf_counter() - started
            costs["curl"].append(os.times().children_user + os.times().children_system - before)
            (folder / "fetched").unlink()
            return _BYTES / seconds / 1e6

        def ours() -> float:
            os.sync()
            before = cpu_seconds([loader])
            seconds = asyncio.run(_fetch(services, url))
            costs["ours"].append(cpu_seconds([loader]) - before)
            return _BYTES / seconds / 1e6

        speeds = interleaved(_ROUNDS, {"curl": curl, "ours": ours})
    row = ratio("URL transfer of 1 GiB: MB/s over `curl -o`", 0.6, speeds, "ours", "curl", "MB/s")
    curl_cost, our_cost = (median(costs[name]) for name in ("curl", "ours"))
    notes = f"""
A fetch is limited by the Python thread, which reads the socket itself, in pieces that httpcore asks for. For 1 GiB curl
takes {curl_cost:.2f} CPU seconds, the loader {our_cost:.2f}; nginx and the kernel take theirs on
the same two cores.
"""
    return Findings("Transfers from URLs", [row], notes)


async def _fetch(services: Services, url: str) -> float:
    """Return the seconds from the call until all bytes are there."""
    ticket = services.ticket(download_url=url)
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher, httpx.AsyncClient() as http:
        started = time.perf_counter()
        (await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token})).raise_for_status()
        await watcher.until(bytes=_BYTES)
        seconds = time.perf_counter() - started
        await watcher.finish()
    return seconds
