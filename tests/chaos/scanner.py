"""Uploads while the malware scanner is killed, hangs and comes back, under each policy for what it cannot judge.

A third of the files are clean, a third infected, and a third are over a limit of the scanner's. The seed makes the
files and the faults, though not to the millisecond.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import httpx

from tests.chaos.plan import LOADER_WORKERS
from tests.chaos.run import PromiseBroken
from tests.support.archives import seven_zip_of, zip_of
from tests.support.clamd import MARKER, MOST_BYTES, NAME, Clamd, running_clamd
from tests.support.client import upload
from tests.support.servers import redis_server
from tests.support.services import Services, Ticket, running_services

UPLOADS = 100
"""How many a run makes under each policy."""
_AT_ONCE = 6
_SCAN_SECONDS = 3
_FAULT_SECONDS = (0.5, 5.0)
_PAUSE_SECONDS = 0.5
_UPLOAD_SECONDS = 300
_LIMIT_TRIES = 3
"""How often a file is sent that the scanner refuses to look at."""
_SETTINGS: dict[str, object] = {
    "SCAN_TIMEOUT_SECONDS": _SCAN_SECONDS,
    "TRANSFER_UPLOAD_CONCURRENCY": 0,
    "TRANSFER_REPACK_CONCURRENCY": 0,
}


async def run_scanner(seed: int, folder: Path) -> str:
    """Make the uploads under each policy; return what happened, in a line for each.

    Args:
        folder: Takes all files.

    Raises:
        PromiseBroken: An upload ended otherwise than its file and the policy say.
    """
    told = [f"seed {seed}"]
    for policy in ("refuse", "wait", "pass"):
        for name in (policy, f"{policy}/redis", f"{policy}/clamd"):
            (folder / name).mkdir()
        with (
            redis_server(folder / policy / "redis") as redis,
            running_clamd(folder / policy / "clamd") as clamd,
            running_services(
                folder / policy,
                redis.url,
                ["loader"],
                None,
                LOADER_WORKERS,
                CLAMD_ADDRESS=clamd.local,
                SCAN_FAILURE=policy,
                **_SETTINGS,
            ) as services,
        ):
            services.manager.is_final = False
            told.append(await _Run(services, clamd, policy, random.Random(seed)).carry_out())
    return "\n".join(told)


class _Run:
    """The uploads under one policy."""

    def __init__(self, services: Services, clamd: Clamd, policy: str, rng: random.Random) -> None:
        self._services = services
        self._clamd = clamd
        self._policy = policy
        self._rng = rng
        self._numbers = iter(range(UPLOADS))
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._problems: list[str] = []

    async def carry_out(self) -> str:
        """Return what happened, in a line."""
        failing = asyncio.create_task(self._fail())
        async with httpx.AsyncClient(timeout=60) as http:
            await asyncio.gather(*(self._send_all(http) for _ in range(_AT_ONCE)))
        failing.cancel()
        await asyncio.wait([failing])
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self._counts.items()))
        told = f"{self._policy}: {UPLOADS} uploads: {counts}; faults: {dict(self._faults)}"
        if self._problems:
            raise PromiseBroken("\n".join([*self._problems, told]))
        return told

    async def _fail(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(*_FAULT_SECONDS))
            seconds = self._rng.uniform(*_FAULT_SECONDS)
            if self._rng.random() < 0.5:
                self._faults["killed"] += 1
                self._clamd.kill()
                try:
                    await asyncio.sleep(seconds)
                finally:
                    await asyncio.to_thread(self._clamd.start)
            else:
                self._faults["hung"] += 1
                with self._clamd.frozen():
                    await asyncio.sleep(seconds)

    async def _send_all(self, http: httpx.AsyncClient) -> None:
        for number in self._numbers:
            kind = ("clean", "infected", "over the limit")[number % 3]
            try:
                async with asyncio.timeout(_UPLOAD_SECONDS):
                    await self._send(http, kind, self._services.ticket())
            except TimeoutError:
                self._problems.append(f"upload {number}, {kind}, has not ended")

    async def _send(self, http: httpx.AsyncClient, kind: str, ticket: Ticket) -> None:
        """Send one file, again and again where it cannot be judged, and compare its end with what it has to be."""
        entries = {"mod/a.bin": self._rng.randbytes(20_000), "mod/zeros.bin": bytes(20_000)}
        entries["mod/b.bin"] = {"clean": b"", "infected": MARKER, "over the limit": bytes(MOST_BYTES + 1)}[kind]
        content = self._rng.choice((zip_of, seven_zip_of))(entries)
        answer = await upload(http, self._services.loader, ticket.token, content)
        refusals = 0
        while answer.status_code == 503 and not (kind == "over the limit" and refusals == _LIMIT_TRIES):
            refusals += 1
            self._counts["refused for now"] += 1
            await asyncio.sleep(_PAUSE_SECONDS)
            answer = await upload(http, self._services.loader, ticket.token, content)
        if answer.status_code != 503:
            await asyncio.to_thread(self._services.manager.wait_for_callbacks, ticket.job_id)
        ends = [
            (one.claims["status"], one.claims.get("malware")) for one in self._services.manager.callbacks(ticket.job_id)
        ]
        end = (answer.status_code, answer.text if answer.is_error else "", ends)
        arrived, refused = (200, "", [("success", None)]), (400, "Malware found", [("error", NAME)])
        by_kind: dict[str, list[object]] = {
            "clean": [arrived],
            "infected": [refused],
            "over the limit": [(503, "Scanner unavailable", [])],
        }
        wanted = by_kind[kind]
        if self._policy == "pass":
            # The scanner may have been away when it was the file's turn.
            wanted = [arrived, refused] if kind == "infected" else [arrived]
        is_stored = (self._services.main_dir / ticket.path).exists()
        if end not in wanted or is_stored is not (end == arrived) or (self._policy == "pass" and refusals):
            self._problems.append(f"{ticket.job_id}, {kind}: {end}, {'stored' if is_stored else 'not stored'}")
        self._counts[f"{kind} {'stored' if is_stored else 'refused'}"] += 1
