"""What must be true of two hosts behind nginx, one of which is unplugged: to be run below `two_hosts.NAMESPACE`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from itertools import chain, product
from pathlib import Path
from typing import TypeVar

import httpx

from open_workshop_storage.services.storage.bucket import Bucket
from tests.e2e.under_way import LARGE, PACKED_LARGE, Fetch, Records, Transfers, Upload, assert_interrupted, reported
from tests.support.archives import SMALL_MOD, Entries, entries_of, seven_zip_of
from tests.support.client import PATIENCE_SECONDS, InterruptedBody, upload, watching
from tests.support.manager import Answer
from tests.support.services import Ticket
from tests.support.tus import TusUpload
from tests.support.two_hosts import Host, TwoHosts, running_two_hosts

_MOST_TRIES = 30
_COOKIE = {"cookie": "accessToken=a; refreshToken=r"}
_CONTENT = seven_zip_of(SMALL_MOD)
_ENOUGH_SLOTS = {"TRANSFER_UPLOAD_CONCURRENCY": _MOST_TRIES, "TRANSFER_DOWNLOAD_CONCURRENCY": _MOST_TRIES}
_JOB_TTL_SECONDS = 15
"""Longer than packed files wait here for their moves."""

_Begun = TypeVar("_Begun")


class Scenario:
    """The transfers and what is asked of them.

    Args:
        stack: Ends origins and uploads.
    """

    def __init__(self, two: TwoHosts, http: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        self.two = two
        self.http = http
        self.services = two.services
        self.stack = stack
        self.transfers = Transfers(two.services, http, stack)
        self.records = Records(two.services, two.redis.url)

    async def host_of(self, ticket: Ticket) -> Host:
        """Return the host that has a job's files, once one has."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (home := (await self.records.get(ticket)).get("home")):
                await asyncio.sleep(0.02)
        (host,) = (host for host in self.two.hosts if home.endswith(f":{host.folder}"))
        return host

    async def on_each(self, begin: Callable[[], Awaitable[tuple[Ticket, _Begun]]]) -> list[list[_Begun]]:
        """Begin transfers until each host has one; return those of each."""
        begun: list[list[_Begun]] = [[] for _ in self.two.hosts]
        for _ in range(_MOST_TRIES):
            ticket, one = await begin()
            begun[self.two.hosts.index(await self.host_of(ticket))].append(one)
            if all(begun):
                return begun
        raise AssertionError("nginx leaves one host out")

    async def assert_downloads(self, ticket: Ticket, entries: Entries) -> None:
        """Check that nginx gives a transfer's file out, to the byte."""
        answer = await self.http.get(f"{self.services.distributor}/download/{ticket.path}", headers=_COOKIE)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        assert entries_of(answer.content) == entries

    async def assert_seen(self, ticket: Ticket) -> None:
        """Check that a progress socket that is opened now shows a transfer's good end."""
        async with watching(self.services.loader, ticket.job_id, ticket.token) as watcher:
            assert (await watcher.finish())[-1]["event"] == "complete"

    async def assert_arrived(self, ticket: Ticket, entries: Entries) -> None:
        """Check that a transfer ended well, and is given out."""
        ended = (await reported(self.services, ticket))[-1]
        assert ended.claims["status"] == "success", ended.claims
        await self.assert_downloads(ticket, entries)

    async def uploaded(self) -> tuple[Ticket, Ticket]:
        """Upload a file while a progress socket is open."""
        ticket = self.services.ticket()
        async with watching(self.services.loader, ticket.job_id, ticket.token) as watcher:
            answer = await upload(self.http, self.services.loader, ticket.token, _CONTENT)
            assert answer.status_code == 200, answer.text
            assert (await watcher.finish())[-1]["event"] == "complete"
        await self.assert_arrived(ticket, SMALL_MOD)
        return ticket, ticket

    async def fetching(self) -> tuple[Ticket, Fetch]:
        """Have half a file fetched."""
        fetched = await self.transfers.fetch(PACKED_LARGE, whole=False)
        return fetched.ticket, fetched

    async def uploading(self) -> tuple[Ticket, tuple[Upload, InterruptedBody]]:
        """Send a part of a file."""
        body = InterruptedBody(_CONTENT)
        sent = self.transfers.upload(aiter(body))
        return sent.ticket, (sent, body)

    async def packed(self) -> tuple[Ticket, Ticket]:
        """Upload a file that the Manager has not had moved yet."""
        ticket = self.services.ticket()
        self.services.manager.script(ticket.job_id, Answer(move=False))
        assert (await upload(self.http, self.services.loader, ticket.token, _CONTENT)).status_code == 200
        await reported(self.services, ticket)
        return ticket, ticket

    async def resuming(self) -> tuple[Ticket, tuple[Ticket, TusUpload]]:
        """Begin a resumable upload, and be cut off in the middle of it."""
        ticket = self.services.ticket()
        tus = TusUpload(self.http, self.services.loader, ticket.token, ticket.job_id)
        assert (await tus.create(len(_CONTENT))).status_code == 201
        sending = asyncio.create_task(tus.patch(0, aiter(InterruptedBody(_CONTENT))))
        await self.records.until(ticket, bytes=10)
        sending.cancel()
        await self.records.until(ticket, owner=None)
        return ticket, (ticket, tus)

    async def resume(self, ticket: Ticket, tus: TusUpload, offset: int) -> None:
        """Send the rest of a resumable upload from the offset that is to be told."""
        asked = await tus.head()
        assert (asked.status_code, asked.headers["upload-offset"]) == (200, str(offset))
        assert (await tus.patch(offset, _CONTENT[offset:])).status_code == 204
        await self.assert_arrived(ticket, SMALL_MOD)

    async def move(self, ticket: Ticket) -> None:
        """Have a packed file moved by any host."""
        path = ticket.path.removeprefix("archive/")
        await asyncio.to_thread(self.services.manager.move, ticket.job_id, "archive", path)
        await self.assert_downloads(ticket, SMALL_MOD)


async def go_on_while_a_host_is_unplugged(scenario: Scenario) -> None:
    """Begin transfers of all kinds on both hosts, unplug the first, and see how each of them ends."""
    services = scenario.services
    arrived = (await scenario.uploaded())[1]
    fetched = await scenario.on_each(scenario.fetching)
    uploads = await scenario.on_each(scenario.uploading)
    resumable = await scenario.on_each(scenario.resuming)
    packed = await scenario.on_each(scenario.packed)
    with scenario.two.hosts[0].unplugged():
        await asyncio.gather(*(scenario.move(ticket) for ticket in chain(*packed)))
        await scenario.assert_downloads(arrived, SMALL_MOD)
        for fetch in chain(*fetched):
            fetch.file.go_on.set()
        watched = asyncio.gather(*(scenario.assert_seen(fetch.ticket) for fetch in chain(*fetched)))
        for sent, body in uploads[1]:
            body.go_on.set()
            assert (await sent.answer).status_code == 200
            await scenario.assert_arrived(sent.ticket, SMALL_MOD)
        for (ticket, tus), offset in [*product(resumable[0], [0]), *product(resumable[1], [10])]:
            await scenario.resume(ticket, tus, offset)
        for sent, _ in uploads[0]:
            await assert_interrupted(services, sent.ticket)
            again = await upload(scenario.http, services.loader, sent.ticket.token, _CONTENT)
            assert again.status_code == 200, again.text
            ends = await asyncio.to_thread(services.manager.wait_for_callbacks, sent.ticket.job_id, 2)
            assert [end.claims["status"] for end in ends] == ["error", "success"]
            await scenario.assert_downloads(sent.ticket, SMALL_MOD)
        await watched
        for fetch in chain(*fetched):
            await scenario.assert_arrived(fetch.ticket, LARGE)


async def until_nothing_is_left(scenario: Scenario) -> None:
    """Return once both hosts are ready, and neither Redis, nor the bucket, nor a host has anything of a job."""

    async def left(bucket: Bucket) -> list[str]:
        found = [one.name async for one in bucket.list(f"{scenario.two.prefix}/temp")]
        found += [str(path) for host in scenario.two.hosts for path in (host.folder / "temp").glob("*")]
        with scenario.two.redis.client() as client:
            kept = (":kept_since", ":ping", ":forgotten:", ":idle:", ":metrics:", ":workers")
            found += [key for key in client.scan_iter() if not any(name in key for name in kept)]
        for host in scenario.two.hosts:
            for app, address in {"loader": host.loader, "distributor": host.distributor}.items():
                with suppress(httpx.TransportError):
                    if (await scenario.http.get(f"http://{address}/{app}/readyz")).status_code == 200:
                        continue
                found.append(f"{address} is not ready")
        return found

    async with aclosing(Bucket(scenario.two.bucket)) as bucket:
        found: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while found := await left(bucket):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(found) from None


async def main(folder: Path) -> None:
    """Run all of it.

    Args:
        folder: Takes what the servers write.
    """
    settings = {"JOB_TTL_SECONDS": _JOB_TTL_SECONDS, "CLEANUP_INTERVAL_SECONDS": 1, **_ENOUGH_SLOTS}
    with running_two_hosts(folder, **settings) as two:
        # The Manager of an upload that is tried again.
        two.services.manager.is_final = False
        async with httpx.AsyncClient(timeout=60) as http, AsyncExitStack() as stack:
            scenario = Scenario(two, http, stack)
            await scenario.on_each(scenario.uploaded)
            for _, (ticket, tus) in [await scenario.resuming() for _ in range(2)]:
                await scenario.resume(ticket, tus, 10)
            fetched = (await scenario.fetching())[1]
            fetched.file.go_on.set()
            await scenario.assert_arrived(fetched.ticket, LARGE)
            await scenario.move((await scenario.packed())[1])

            await go_on_while_a_host_is_unplugged(scenario)
            await until_nothing_is_left(scenario)
            assert not two.services.manager.refused


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
