"""A few connections for many callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from open_workshop_storage.utils.net.connections import AllBusy, Connections

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
