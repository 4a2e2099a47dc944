"""The Redis client that the job store and the caches of one process share, and calls that end in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from opentelemetry.trace import SpanKind
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.driver_info import DriverInfo
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.observability.tracing import span
from open_workshop_storage.stores.redis_line import RedisLine
from open_workshop_storage.stores.redis_sentinel import SentinelPool
from open_workshop_storage.utils.net.redis_urls import is_sentinel_url, parse_sentinel_url

_CONNECT_SECONDS = 5.0
_MOST_CONNECTIONS = 32
_PATIENCE_SECONDS = 5.0
_Answer = TypeVar("_Answer")


class _Client(Redis):
    """Sends all commands but pipelines over one connection.

    Each is a span of the trace that it belongs to, without the command's keys and values.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line = RedisLine(self.connection_pool)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return its answer."""
        name = str(args[0])
        with span(f"redis {name}", {"db.system.name": "redis", "db.operation.name": name}, SpanKind.CLIENT):
            try:
                answer = await self._line.ask(args)
            except NoScriptError as error:
                unknown = error
            else:
                options.pop("keys", None)  # Only redis-py's cache, which we do not use, takes it.
                convert = self.response_callbacks.get(name)
                return answer if convert is None else convert(answer, **options)
        # Nothing failed: the script is sent next.
        raise unknown

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await self._line.aclose()
        await super().aclose(close_connection_pool)


def redis_client(url: str) -> Redis:
    """Return a client of the Redis of a `REDIS_URL`, or of the primary that its sentinels name.

    It decodes answers, and its callers set time limits of their own. Nothing is connected yet.
    """
    # The usual pool fails callers while a hundred connections are in use; with this one they wait.
    own: dict[str, Any] = {"max_connections": _MOST_CONNECTIONS, "timeout": None}
    pool: ConnectionPool
    if is_sentinel_url(url):
        pool = SentinelPool(parse_sentinel_url(url), usual_options(), **own)
    else:
        pool = BlockingConnectionPool.from_url(url, **usual_options(), **own)
    return _Client.from_pool(pool)


def usual_options() -> dict[str, Any]:
    """Return the options of all connections to data servers and sentinels."""
    return {
        # With it, redis-py calls `asyncio.wait_for`, which before Python 3.12 may lose a cancellation.
        "socket_timeout": None,
        "socket_connect_timeout": _CONNECT_SECONDS,
        # The caller knows whether to ask again: a request answers 503, a running job waits.
        "retry": Retry(NoBackoff(), 0),
        # Without it, each new connection reads redis-py's version from the disk.
        "driver_info": DriverInfo(),
        # With them on, redis-py does not look whether a connection of its pool broke since its last use.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "decode_responses": True,
    }


class RedisCalls:
    """Asks Redis with a limit on time. Both methods raise `ServiceUnavailable` if there is no good answer.

    Args:
        redis: As `redis_client` makes it.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._scripts: dict[str, AsyncScript] = {}

    async def ask(self, answer: Awaitable[_Answer]) -> _Answer:
        """Return what one or several commands answer."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await answer
        except ReadOnlyError as error:
            # The address may lead to another master by now; open connections still lead to this one.
            await self.redis.connection_pool.disconnect()
            raise ServiceUnavailable from error
        except (RedisError, OSError) as error:
            raise ServiceUnavailable from error

    async def script(self, text: str, keys: Sequence[str], *args: str | int | float) -> Any:
        """Run a Lua script and return its answer."""
        script = self._scripts.get(text)
        if script is None:
            script = self._scripts[text] = self.redis.register_script(text)
        return await self.ask(script(keys=keys, args=args))
