"""Calls of Redis that end in time, whose failures are ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ReadOnlyError, RedisError

from open_workshop_storage.core.errors import ServiceUnavailable

_PATIENCE_SECONDS = 5.0
_Answer = TypeVar("_Answer")


class RedisCalls:
    """Asks Redis with a limit on time. Both methods raise `ServiceUnavailable` if there is no good answer.

    Args:
        redis: As `redis_client` makes it.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts: dict[str, AsyncScript] = {}

    async def ask(self, answer: Awaitable[_Answer]) -> _Answer:
        """Return what one or several commands answer."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await answer
        except ReadOnlyError as error:
            # The address may lead to another master by now; open connections still lead to this one.
            await self._redis.connection_pool.disconnect()
            raise ServiceUnavailable from error
        except (RedisError, OSError) as error:
            raise ServiceUnavailable from error

    async def script(self, text: str, keys: Sequence[str], *args: str | int | float) -> Any:
        """Run a Lua script and return its answer."""
        script = self._scripts.get(text)
        if script is None:
            script = self._scripts[text] = self._redis.register_script(text)
        return await self.ask(script(keys=keys, args=args))
