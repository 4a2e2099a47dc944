"""A few connections to one service, for many callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

_IDLE_SECONDS = 2.0
"""How long a connection is kept for its next use: servers usually keep it for five seconds at least."""


class AllBusy(Exception):
    """Every connection is in use, and as many callers wait as may."""


class Connections:
    """Lends HTTP clients of one connection each, the most recently used first.

    A client with many connections looks through all of them, and all requests that wait, at each event (httpcore issue
    1035): five hundred requests at once leave the event loop no time for anything else.

    Args:
        count: How many connections there are at most.
        most_waiting: How many callers may wait for one.
    """

    def __init__(self, count: int, most_waiting: int) -> None:
        self._ssl_context = httpx.create_ssl_context()
        self._clients = {self._client() for _ in range(count)}
        self._free = [*self._clients]
        self._turns = asyncio.Semaphore(count)
        self._most_waiting = most_waiting
        self._waiting = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a client during the block, in the order of the calls; it has no time limit, and may keep cookies.

        If the block fails, a new client takes its place.

        Raises:
            AllBusy: Too many callers wait.
        """
        if self._turns.locked() and self._waiting >= self._most_waiting:
            raise AllBusy
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        client = self._free.pop()
        try:
            yield client
        except BaseException:
            # A request that is cancelled just as its answer ends leaves the client's only connection in use for ever.
            self._clients.remove(client)
            self._clients.add(fresh := self._client())
            self._give_back(fresh)
            await client.aclose()
            raise
        self._give_back(client)

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS)
        return httpx.AsyncClient(trust_env=False, timeout=None, verify=self._ssl_context, limits=limits)

    def _give_back(self, client: httpx.AsyncClient) -> None:
        self._free.append(client)
        self._turns.release()
