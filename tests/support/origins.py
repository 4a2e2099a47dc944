"""Stand-in origins: a few bytes over a real socket, exactly as a test wants them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.intake.fetch import Fetcher
from open_workshop_storage.utils.net.dialing import Resolve, resolve_host
from tests.support.configs import Secrets
from tests.support.servers import HOST

CERTIFICATE = Path(__file__).with_name("origin.pem")
"""A self-signed certificate for origin.test and 127.0.0.1, with its key."""

LOOPBACK = "127.0.0.0/8,::1/128"
_SECRETS = Secrets()


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    target: str
    headers: httpx.Headers


Answer = bytes | Callable[[Request, asyncio.StreamWriter], Awaitable[bytes]]
"""The bytes to send, or what sends some of them and returns the rest."""


@dataclass
class Origin:
    """A running origin.

    Attributes:
        left: For each connection that was made, whether its client has left it.
    """

    host: str
    port: int
    scheme: str
    answer: Answer = b""
    requests: list[Request] = field(default_factory=list)
    left: list[asyncio.Event] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        return f"{self.scheme}://{self.host}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, until the client leaves."""
        left = asyncio.Event()
        self.left.append(left)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            request = Request(head[0].split(" ")[1], httpx.Headers([_header(line) for line in head[1:] if line]))
            self.requests.append(request)
            async with asyncio.TaskGroup() as tasks:
                answering = tasks.create_task(self._send(request, writer))
                await reader.read()
                answering.cancel()
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            left.set()
            writer.close()

    async def _send(self, request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(self.answer if isinstance(self.answer, bytes) else await self.answer(request, writer))
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip()


@asynccontextmanager
async def running_origin(
    answer: Answer = b"", *, host: str = HOST, port: int = 0, tls: bool = False
) -> AsyncIterator[Origin]:
    """Run an origin until the block ends, on a free port unless told which."""
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
    origin = Origin(host, 0, "https" if tls else "http", answer)
    server = await asyncio.start_server(origin.serve, host.strip("[]"), port, ssl=context)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for left in origin.left:
            await left.wait()


def reply(status: int, *headers: str, body: bytes = b"", length: int | None = None) -> bytes:
    """Return an answer; `length` is what it says of its body, if that is not the truth."""
    told = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} As Said", f"Content-Length: {told}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def always(*addresses: str) -> Resolve:
    """Return a look-up that has the same answer for every name."""

    async def resolve(host: str) -> Sequence[str]:
        return addresses

    return resolve


def fetcher(*, allowed: str = LOOPBACK, idle_seconds: float = 20, resolve: Resolve = resolve_host) -> Fetcher:
    """Return a fetcher that may reach the loopback network."""
    values = {
        "MANAGER_URL": "http://manager.test",
        "ACCESS_SERVICE_URL": "http://access.test",
        "TRANSFER_ALLOWED_NETWORKS": allowed,
        "TRANSFER_IDLE_TIMEOUT_SECONDS": idle_seconds,
        **_SECRETS.settings(),
    }
    settings = Settings.model_validate({name.lower(): value for name, value in values.items()})
    return Fetcher(settings, resolve=resolve)


async def fetched(using: Fetcher, url: str) -> bytes:
    """Return the whole body at a URL."""
    async with using.open(url) as response:
        return b"".join([chunk async for chunk in response.chunks])
