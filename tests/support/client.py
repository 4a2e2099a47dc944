"""What browsers and the Manager do, in a few calls."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

PATIENCE_SECONDS = 60
"""After this long without an answer a test has failed."""

Message = dict[str, Any]


async def eventually(is_true: Callable[[], object]) -> None:
    """Return when something has become true.

    Raises:
        TimeoutError: It did not within `PATIENCE_SECONDS`.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_true():
            await asyncio.sleep(0.01)


@dataclass
class Watcher:
    """An open progress socket.

    Attributes:
        messages: What has been read so far; the first one is the snapshot.
        close_code: The server's close code, once all messages have been read.
    """

    connection: ClientConnection
    messages: list[Message] = field(default_factory=list)
    close_code: int | None = None

    async def next(self) -> Message:
        """Wait for one message and return it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            self.messages.append(json.loads(await self.connection.recv()))
        return self.messages[-1]

    async def until(self, **wanted: object) -> Message:
        """Wait for a message that has all these values, and return it."""
        while True:
            message = await self.next()
            if wanted.items() <= message.items():
                return message

    async def finish(self) -> list[Message]:
        """Read until the server closes, and return all messages."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for text in self.connection:
                self.messages.append(json.loads(text))
        self.close_code = self.connection.close_code
        return self.messages


@asynccontextmanager
async def watching(loader_url: str, job_id: str, token: str | None) -> AsyncIterator[Watcher]:
    """Hold a progress socket whose snapshot has been read.

    Raises:
        websockets.exceptions.InvalidStatus: The server refused it.
    """
    url = f"{loader_url.replace('http', 'ws', 1)}/transfer/ws/{job_id}"
    # No limit on the queue: a test that reads late must not slow the server down.
    async with connect(url if token is None else f"{url}?token={token}", max_queue=None) as connection:
        watcher = Watcher(connection)
        await watcher.next()
        yield watcher


async def upload(
    http: httpx.AsyncClient,
    loader_url: str,
    token: str,
    body: bytes | AsyncIterator[bytes],
    name: str = "mod.zip",
    **query: str,
) -> httpx.Response:
    """Send a raw body to `/transfer/upload`; an iterator is sent in chunks, without `Content-Length`."""
    params = {"token": token, "filename": name, **query}
    return await http.post(f"{loader_url}/transfer/upload", params=params, content=body, timeout=PATIENCE_SECONDS)


class InterruptedBody:
    """A body that stops after its first bytes until it is told to go on."""

    def __init__(self, content: bytes, first_bytes: int = 10) -> None:
        self.go_on = asyncio.Event()
        self._content = content
        self._first_bytes = first_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content[: self._first_bytes]
        await self.go_on.wait()
        yield self._content[self._first_bytes :]


@dataclass(frozen=True)
class RawAnswer:
    """An HTTP/1.1 answer as it came over the socket; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


async def raw_request(base_url: str, request: bytes) -> RawAnswer:
    """Send bytes that no HTTP library would send, and read until the server closes or the body is complete."""
    url = httpx.URL(base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
    finally:
        writer.close()
    return RawAnswer(int(head[0].split()[1]), headers, body)


async def statuses(base_url: str, sent: bytes) -> list[int]:
    """Send whatever bytes over one connection, and return the status of each answer once the server has closed it."""
    url = httpx.URL(base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(sent)
        answers = bytearray()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionResetError):
                while part := await reader.read(65536):
                    answers += part
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", bytes(answers))]
