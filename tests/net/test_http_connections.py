"""A few connections for many callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import pytest

from open_workshop_storage.utils.net.http_connections import AllBusy, Connections
from tests.support.client import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    async with aclosing(Connections(2, most_waiting=1)) as connections:
        yield connections


async def test_the_connection_that_was_used_last_is_used_next(connections: Connections) -> None:
    async with connections.one() as first:
        async with connections.one() as second:
            assert second is not first
    async with connections.one() as again:
        assert again is first


async def test_one_caller_more_waits_and_the_next_is_refused(connections: Connections) -> None:
    async def use() -> None:
        async with connections.one():
            pass

    async with connections.one(), connections.one():
        waiting = asyncio.create_task(use())
        await asyncio.sleep(0)
        with pytest.raises(AllBusy):
            await use()
    await waiting
    await use()


async def test_a_caller_that_gives_up_leaves_its_place(connections: Connections) -> None:
    async def use() -> None:
        async with connections.one():
            pass

    async with connections.one(), connections.one():
        for _ in range(3):
            waiting = asyncio.create_task(use())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
    await use()


async def test_a_caller_that_is_cancelled_at_any_moment_leaves_a_connection_that_works() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def ask() -> str:
        async with connections.one() as http:
            return (await http.get(f"http://127.0.0.1:{port}/")).text

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, aclosing(Connections(1, 0)) as connections:
        port = server.sockets[0].getsockname()[1]
        for moments in range(60):
            asking = asyncio.create_task(ask())
            for _ in range(moments):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await ask() == "ok"
