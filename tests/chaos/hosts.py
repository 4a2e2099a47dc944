"""Moves into an object store by two hosts, while workers, whole hosts and the store are killed.

A few places get one file after the other, and are read all the time: a reader sees the file that was there before, or
the one that is about to be there, to the byte. The seed makes the files and the faults, though not to the millisecond.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from open_workshop_storage.client import Moved
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.utils.auth.s3_signatures import signed_url
from tests.chaos.checks import problems_with_ends
from tests.chaos.payloads import Payload
from tests.chaos.plan import PlannedTransfer
from tests.chaos.run import PromiseBroken
from tests.chaos.senders import Sender, Transfer
from tests.chaos.timeline import Timeline
from tests.support.archives import zip_of
from tests.support.hosts import Hosts, running_hosts
from tests.support.object_store import ObjectStore, running_object_store
from tests.support.processes import age_seconds, children, kill, send_signal
from tests.support.servers import redis_server

MOVES = 1000
"""How many a long run makes."""
_PLACES = 24
_HOSTS, _WORKERS = 2, 2
_FILE_BYTES = 20_000
_FAULT_SECONDS = (2.0, 6.0)
_GROWN_UP_SECONDS = 7
_FAULTS = ("worker", "worker", "worker", "host", "store")
_LEFTOVERS_SECONDS = 120
_SECONDS_FOR_ONE = 1.5
_COOKIE = {"cookie": "accessToken=a; refreshToken=r"}
_PREFIX = "chaos"
_SETTINGS = {
    "JOB_TTL_SECONDS": 8,
    "CLEANUP_INTERVAL_SECONDS": 1,
    "TRANSFER_UPLOAD_CONCURRENCY": _PLACES,
    "TRANSFER_MOVE_WAIT_SECONDS": 120,
    "S3_PREFIX": _PREFIX,
}


@dataclass
class Place:
    """Where one file takes the place of another.

    Attributes:
        here: The digest of the file that was moved here last; None if there has been none.
        coming: The digest of the one that is on its way.
    """

    mod_id: int
    here: str | None = None
    coming: str | None = None

    @property
    def path(self) -> str:
        """Its name below the storage root."""
        return f"archive/mods/{self.mod_id}/main.zip"

    def may_be(self) -> set[str | None]:
        """Return the digests of the files that a reader may find here now, None for no file."""
        return {self.here, self.coming or self.here}


@dataclass
class Run:
    """What happens in one run."""

    hosts: Hosts
    http: httpx.AsyncClient
    rng: random.Random
    timeline: Timeline = field(default_factory=Timeline)
    places: list[Place] = field(default_factory=lambda: [Place(number) for number in range(1, _PLACES + 1)])
    problems: list[str] = field(default_factory=list)
    reads: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    is_over: bool = False

    async def send(self, numbers: Iterator[int], place: Place) -> None:
        """Bring files to a place, one after the other, until the numbers end."""
        for number in numbers:
            noise = self.rng.randbytes(self.rng.randrange(_FILE_BYTES))
            # A ZIP that is packed well enough to be kept as it is.
            content = zip_of({"mod/noise.bin": noise, "mod/zeros.bin": bytes(200_000)})
            planned = PlannedTransfer(number, 0, "kept ZIP", "upload", 0, number)
            host = self.rng.randrange(_HOSTS)
            services = self.hosts.services(host)
            ticket = services.ticket(mod_id=place.mod_id)
            transfer = Transfer(planned, Payload(content, arrives=content), ticket, place.path)
            place.coming = hashlib.sha256(content).hexdigest()
            await Sender(services, self.http, self.timeline).send(transfer)
            self._judge(transfer, place)
            place.here, place.coming = place.coming, None

    def _judge(self, transfer: Transfer, place: Place) -> None:
        callbacks = self.hosts.manager.callbacks(transfer.ticket.job_id)
        problems = problems_with_ends(transfer, callbacks)
        told = {callback.claims["sha256"] for callback in callbacks if callback.claims["status"] == "success"}
        told |= {callback.move.sha256 for callback in callbacks if isinstance(callback.move, Moved)}
        if told != {place.coming}:
            problems.append(f"digests {told} are told of a file of {place.coming}")
        self.problems += [f"{transfer.name} {problem} ({transfer.ticket.job_id})" for problem in problems]

    async def read(self) -> None:
        """Read the places again and again, through the distributor, until cancelled."""
        while True:
            for place in self.places:
                before = place.may_be()
                found = await self._read(place)
                # While it was read, one file may have taken the place of another, and the next one may be on its way.
                if found != "" and found not in before | place.may_be():
                    self.problems.append(f"{place.path} is {found} at {self.timeline.now:.2f}, not one of {before}")
            await asyncio.sleep(0.01)

    async def lost(self) -> list[str]:
        """Return what is wrong with the places at the end."""
        return [f"{place.path} is lost" for place in self.places if await self._read(place) != place.here]

    async def _read(self, place: Place) -> str | None:
        """Return the digest of what is read, None if there is no file, or an empty text if that cannot be told."""
        try:
            answer = await self.http.get(f"{self.hosts.distributor.url}/download/{place.path}", headers=_COOKIE)
        except httpx.TransportError:
            self.reads["broken off"] += 1
            return ""
        self.reads[str(answer.status_code)] += 1
        return {200: hashlib.sha256(answer.content).hexdigest(), 404: None}.get(answer.status_code, "")

    async def fail(self, folder: Path, stores: list[ObjectStore], stack: AsyncExitStack) -> None:
        """Kill something every few seconds, and start it again, until all files are moved."""
        while not self.is_over:
            await asyncio.sleep(self.rng.uniform(*_FAULT_SECONDS))
            kind, host = self.rng.choice(_FAULTS), self.rng.randrange(_HOSTS)
            # The Manager's calls go by any host.
            self.hosts.manager.loader_url = self.hosts.loaders[self.rng.randrange(_HOSTS)].url
            loader = self.hosts.loaders[host].process
            if kind == "worker":
                workers = [pid for pid in children(loader.pid) if age_seconds(pid) > _GROWN_UP_SECONDS]
                send_signal(workers[:1], signal.SIGKILL)
                self.faults[kind] += len(workers[:1])
            elif kind == "host":
                kill([loader.pid, *self.hosts.loaders[host].workers()])
                self.faults[kind] += 1
            else:
                kill([stores[-1].server.process.pid])
                self.faults[kind] += 1
            self.timeline.note(f"fault: killed a {kind} of host {host}")
            if kind == "store":
                again = running_object_store(folder, port=stores[-1].server.port)
                stores.append(await asyncio.to_thread(stack.enter_context, again))
            for number, one in enumerate(self.hosts.loaders):
                # granian gives up, too, when a worker dies that it has just started.
                if one.process.poll() is not None:
                    kill(one.workers())
                    await asyncio.to_thread(self.hosts.restart, number)
            self.timeline.note("fault: all is there again")

    async def strays(self, bucket: Credentials) -> list[str]:
        """Return what is in the bucket and in the hosts' workspaces that should not be there."""
        listed = await self.http.get(signed_url(bucket.key, "GET", bucket.url(), 60, {"uploads": ""}))
        async with aclosing(Bucket(bucket)) as opened:
            keys = [found.name async for found in opened.list(_PREFIX)]
        expected = {f"{_PREFIX}/{place.path}" for place in self.places if place.here}
        workspaces = [path for folder in self.hosts.folders for path in (folder / "temp").glob("*")]
        return [*map(str, workspaces), *sorted({*keys} - expected), *listed.text.split("<UploadId>")[1:]]


async def run_hosts(seed: int, moves: int, folder: Path) -> str:
    """Make so many moves; return what happened, in a line.

    Args:
        folder: Takes all files.

    Raises:
        PromiseBroken: A file was half written, lost or another than it was told to be, or something is left.
    """
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        for name in ("store", "redis", "hosts"):
            (folder / name).mkdir()
        stores = [stack.enter_context(running_object_store(folder / "store"))]
        redis = stack.enter_context(redis_server(folder / "redis"))
        bucket = stores[0].bucket()
        running = running_hosts(folder / "hosts", redis.url, bucket, _HOSTS, _WORKERS, **_SETTINGS)
        hosts = stack.enter_context(running)
        hosts.manager.is_final, hosts.manager.repeats_moves = False, True
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60, limits=httpx.Limits()))
        run = Run(hosts, http, rng)
        numbers = iter(range(1, moves + 1))
        failing = asyncio.create_task(run.fail(folder / "store", stores, stack))
        reading = asyncio.create_task(run.read())
        try:
            async with asyncio.timeout(moves * _SECONDS_FOR_ONE + _LEFTOVERS_SECONDS):
                # Each place has one sender, whose files follow one another.
                await asyncio.gather(*(run.send(numbers, place) for place in run.places))
        except TimeoutError:
            run.problems.append("Not all ended in time.")
        run.is_over = True
        await failing
        began = run.timeline.now
        while left := await run.strays(bucket):
            if run.timeline.now > began + _LEFTOVERS_SECONDS:
                run.problems += [f"stray: {one}" for one in left]
                break
            await asyncio.sleep(1)
        run.problems += await run.lost()
        reading.cancel()
        told = f"seed {seed}, {moves} moves in {began:.0f} s, kills: {dict(run.faults)}, reads: {dict(run.reads)}"
        if run.problems:
            raise PromiseBroken("\n".join([*run.problems, "", told, str(run.timeline)]))
        return told
