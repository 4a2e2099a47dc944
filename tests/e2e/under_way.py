"""Transfers that are kept half done, for tests of processes that die during them."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from open_workshop_storage.stores.redis_client import redis_client
from tests.support.archives import Entries, entries_of, zip_of
from tests.support.client import PATIENCE_SECONDS, upload
from tests.support.images import saved
from tests.support.manager import Callback
from tests.support.origins import Origin, Request, reply, running_origin
from tests.support.services import Services, Ticket

LARGE: Entries = {"mod/zeros.bin": bytes(4_000_000), "mod/noise.bin": random.Random(3).randbytes(5_000_000)}
"""Larger, when packed, than what is written to the disk at once."""
_POLL_SECONDS = 0.02


class FileOrigin:
    """Serves one file; at first only the first half of it, until it is told to go on.

    Args:
        etag: What it names the file's version by; without it, it serves no ranges either.
        whole: Serve all of it from the beginning.
    """

    def __init__(self, content: bytes, etag: str | None, *, whole: bool) -> None:
        self.go_on = asyncio.Event()
        self.half_sent = asyncio.Event()
        self._content = content
        self._etag = etag
        self._whole = whole

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> bytes:
        size = len(self._content)
        headers = [] if self._etag is None else [f"ETag: {self._etag}"]
        wanted = request.headers.get("range")
        if wanted is not None and self._etag is not None and request.headers.get("if-range") == self._etag:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers.append(f"Content-Range: bytes {first}-{size - 1}/{size}")
            return reply(206, *headers, body=self._content[first:])
        if self._whole or self.half_sent.is_set():
            return reply(200, *headers, body=self._content)
        writer.write(reply(200, *headers, body=self._content[: size // 2], length=size))
        await writer.drain()
        self.half_sent.set()
        await self.go_on.wait()
        return self._content[size // 2 :]


@dataclass(frozen=True)
class Fetch:
    """A transfer from a URL of its own."""

    ticket: Ticket
    origin: Origin
    file: FileOrigin


@dataclass(frozen=True)
class Upload:
    """A raw upload that may still be going on."""

    ticket: Ticket
    answer: asyncio.Task[httpx.Response]


class Transfers:
    """Begins transfers.

    Args:
        stack: Ends origins and uploads.
    """

    def __init__(self, services: Services, http: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        self._services = services
        self._http = http
        self._stack = stack
        self._uploads: list[asyncio.Task[httpx.Response]] = []
        stack.push_async_callback(self._end)

    async def _end(self) -> None:
        for answer in self._uploads:
            answer.cancel()
        await asyncio.gather(*self._uploads, return_exceptions=True)

    async def fetch(self, content: bytes, etag: str | None = None, *, whole: bool = True) -> Fetch:
        """Start a transfer from a URL; unless the origin sends all of it, return when half of it is on its way."""
        file = FileOrigin(content, etag, whole=whole)
        origin = await self._stack.enter_async_context(running_origin(file))
        ticket = self._services.ticket(download_url=f"{origin.url}/mod")
        answer = await self._http.get(f"{self._services.loader}/transfer/start", params={"token": ticket.token})
        assert answer.json()["status"] == "started"
        if not whole:
            await file.half_sent.wait()
        return Fetch(ticket, origin, file)

    def upload(self, body: bytes | AsyncIterator[bytes], **claims: object) -> Upload:
        """Begin an upload."""
        ticket = self._services.ticket(**claims)
        sending = upload(self._http, self._services.loader, ticket.token, body)
        self._uploads.append(asyncio.create_task(sending))
        return Upload(ticket, self._uploads[-1])

    def upload_image(self, side: int) -> Upload:
        """Begin to upload a picture that takes its time to compress, if it has many pixels a side."""
        picture = Image.frombytes("RGB", (side, side), random.Random(5).randbytes(side * side * 3))
        path = f"covers/{secrets.token_hex(8)}.webp"
        return self.upload(saved(picture, "BMP"), transfer_kind="img", storage_type="resource", target_path=path)


class Records:
    """What Redis holds of the services' jobs."""

    def __init__(self, services: Services, redis_url: str) -> None:
        self._prefix = f"test-{services.main_dir.parent.name}"
        self._url = redis_url

    async def get(self, ticket: Ticket) -> dict[str, Any]:
        """Return a job's record; an empty one if there is none."""
        # A new connection each time, since Redis may have gone away after the last one.
        async with redis_client(self._url) as client:
            values = await client.hmget(f"{self._prefix}:job:{ticket.job_id}", ["data"])
        record: dict[str, Any] = json.loads(values[0] or "{}")
        return record

    async def until(self, ticket: Ticket, **wanted: object) -> dict[str, Any]:
        """Wait for a record that has all these values, and return it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not wanted.items() <= (record := await self.get(ticket)).items():
                await asyncio.sleep(_POLL_SECONDS)
        return record


async def reported(services: Services, ticket: Ticket, count: int = 1) -> list[Callback]:
    """Wait for so many reports of one end, and return them."""
    callbacks = await asyncio.to_thread(services.manager.wait_for_callbacks, ticket.job_id, count)
    assert len({callback.claims["jti"] for callback in callbacks}) == 1, "one end has one name"
    return callbacks


async def assert_arrived(services: Services, ticket: Ticket, entries: Entries) -> None:
    """Check that a transfer ended well, once, and that its file is in its place to the byte."""
    (callback,) = await reported(services, ticket)
    assert callback.claims["status"] == "success", callback.claims
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == entries


async def assert_interrupted(services: Services, ticket: Ticket) -> None:
    """Check that an upload ended as one that was broken off, and that the Manager knows."""
    (callback,) = await reported(services, ticket)
    assert (callback.claims["status"], callback.claims["reason"]) == ("error", "exception")


PACKED_LARGE = zip_of(LARGE)
