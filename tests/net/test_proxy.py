"""The proxy that tests send uploads through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.client import PATIENCE_SECONDS
from tests.support.proxy import Fault, Proxy, running_proxy

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 4096


class Origin:
    """A server that counts what it gets, and answers with the count once the client is done."""

    def __init__(self) -> None:
        self.received = 0
        self.ends: asyncio.Queue[str] = asyncio.Queue()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while block := await reader.read(65536):
                self.received += len(block)
            writer.write(str(self.received).encode())
            await writer.drain()
            self.ends.put_nowait("closed")
        except ConnectionError:
            self.ends.put_nowait("reset")
        finally:
            writer.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Proxy, Origin]]:
    origin = Origin()
    server = await asyncio.start_server(origin.handle, "127.0.0.1", 0)
    async with server, running_proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy, origin


async def send(proxy: Proxy) -> bytes:
    """Send the body and return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.write(BODY)
            await writer.drain()
            writer.write_eof()
            return await reader.read()
    finally:
        writer.close()


async def test_a_connection_without_a_plan_is_passed_on_whole() -> None:
    async with proxied() as (proxy, _):
        assert await send(proxy) == str(len(BODY)).encode()
        assert proxy.passed_bytes == [len(BODY)]


@pytest.mark.parametrize(("fault", "end"), [(Fault.CUT, "closed"), (Fault.RESET, "reset")])
async def test_a_planned_fault_comes_after_so_many_bytes_and_once(fault: Fault, end: str) -> None:
    async with proxied() as (proxy, origin):
        proxy.plan(fault, 100_000)
        try:
            assert await send(proxy) == b""
        except ConnectionError:
            pass
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await origin.ends.get() == end
        assert proxy.passed_bytes == [100_000]
        # Bytes may be lost with a reset, never more than those passed on.
        assert origin.received <= 100_000
        origin.received = 0
        assert await send(proxy) == str(len(BODY)).encode()


async def test_a_stalled_connection_stays_open_and_silent() -> None:
    async with proxied() as (proxy, origin):
        proxy.plan(Fault.STALL, 100_000)
        sending = asyncio.create_task(send(proxy))
        while origin.received < 100_000:
            await asyncio.sleep(0.01)
        done, _ = await asyncio.wait([sending], timeout=0.2)
        assert not done and origin.ends.empty() and proxy.passed_bytes == [100_000]
        sending.cancel()
        await asyncio.wait([sending])
