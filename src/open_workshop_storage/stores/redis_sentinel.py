"""Connections to the primary that sentinels name, whichever it is at the moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import Connection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from open_workshop_storage.utils.net.redis_urls import SentinelUrl

_logger = logging.getLogger(__name__)

# The host of a primary that is gone may have had a sentinel too, perhaps the first that is asked.
_SENTINEL_SECONDS = 1.0
_FOLLOW_SECONDS = 1.0


class SentinelClient(Redis):
    """A client of one sentinel, which has a second to answer."""

    def __repr__(self) -> str:
        # redis-py names the sentinels that failed in its errors.
        return "{host}:{port}".format(**self.connection_pool.connection_kwargs)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return its answer."""
        try:
            async with asyncio.timeout(_SENTINEL_SECONDS):
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise RedisTimeoutError("no answer") from error


def replica_client(url: SentinelUrl, usual: Mapping[str, Any], host: str, port: int) -> Redis:
    """Return a client of one data server, reached as the primary is. Nothing is connected yet."""
    kind = SSLConnection if url.uses_tls else Connection
    return Redis.from_pool(ConnectionPool(kind, host=host, port=port, **{**usual, **url.options}))


def sentinel_clients(url: SentinelUrl, usual: Mapping[str, Any]) -> list[Redis]:
    """Return a client for each sentinel. Nothing is connected yet.

    Args:
        usual: Options of all connections, which those of the URL override.
    """
    kind = SSLConnection if url.uses_tls else Connection
    options = {**usual, **url.sentinel_options}
    pools = [ConnectionPool(kind, host=host, port=port, **options) for host, port in url.sentinels]
    return [SentinelClient.from_pool(pool) for pool in pools]


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary; callers wait while all are in use.

    Each new connection begins with a question to the sentinels.

    Args:
        usual: Options of all connections, to the sentinels too.
        own: Options of the pool, and of connections to the primary.
    """

    def __init__(self, url: SentinelUrl, usual: Mapping[str, Any], **own: Any) -> None:
        manager = Sentinel([])  # type: ignore[no-untyped-call]
        manager.sentinels = sentinel_clients(url, usual)
        options = {**usual, **own, **url.options}
        super().__init__(url.primary, manager, ssl=url.uses_tls, **options)  # type: ignore[no-untyped-call]

    async def get_master_address(self) -> tuple[str, int]:
        """Return where the primary is; drop all connections to the one before.

        Raises:
            ConnectionError: No sentinel knows one that is up.
        """
        # redis-py puts the one that answers first by swapping two places of its list, which other callers may have
        # changed since: one sentinel then stands twice, and another is forgotten without being closed.
        asked = copy(self.sentinel_manager)
        asked.sentinels = [*asked.sentinels]
        address: tuple[str, int] = await asked.discover_master(self.service_name)
        self.sentinel_manager.sentinels.sort(key=lambda client: client is not asked.sentinels[0])
        if address != self.master_address:
            self.master_address = address
            _logger.info("the sentinels name %s:%d as the primary of Redis", *address)
            # redis-py keeps those in use, on which callers would wait in vain for a host that is gone.
            for connection in [*self._available_connections, *self._in_use_connections]:
                await connection.disconnect(nowait=True)
        return address

    async def follow(self) -> None:
        """Ask the sentinels again and again until cancelled.

        A primary that is only cut off from them, or replaced on purpose, goes on answering for some seconds, and what
        it takes in then is lost.
        """
        while True:
            with suppress(RedisError, OSError):
                await self.get_master_address()
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def aclose(self) -> None:
        """Close all connections, those to the sentinels too."""
        await super().aclose()
        await self.sentinel_manager.aclose()
