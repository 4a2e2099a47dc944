"""The Redis client that the job store and the caches of one process share, and calls that end in time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any, TypeVar

from opentelemetry.trace import SpanKind
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.connection import HiredisRespSerializer
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError, NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.observability.tracing import span
from open_workshop_storage.stores.redis_sentinel import SentinelPool
from open_workshop_storage.utils.net.redis_urls import is_sentinel_url, parse_sentinel_url

_CONNECT_SECONDS = 5.0
_MOST_CONNECTIONS = 32
_PATIENCE_SECONDS = 5.0
_SILENCE_SECONDS = 1.0
"""After so long without a connection, or an answer that is due, later commands go over another connection."""
_Answer = TypeVar("_Answer")


class SharedClient(Redis):
    """Sends all commands but pipelines as they come over one connection; Redis answers in their order.

    redis-py lends each command a connection of its own, which takes more CPU time than all else about the command.
    Each command is a span of the trace that it belongs to, without the command's keys and values.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._packer = HiredisRespSerializer()
        self._connecting = asyncio.Lock()
        self._connection: _SharedConnection | None = None
        self._open: set[_SharedConnection] = set()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return its answer. Redis may carry it out even if the caller is cancelled.

        Raises:
            ResponseError: Redis refuses the command.
            ConnectionError: There is no connection, or it broke before the answer came.
            OSError: There is no connection.
        """
        name = str(args[0])
        with span(f"redis {name}", {"db.system.name": "redis", "db.operation.name": name}, SpanKind.CLIENT):
            try:
                packed: list[bytes] = self._packer.pack(*args)
                while self._connection is None or not self._connection.is_usable:
                    await self._connect()
                answer = await self._connection.ask(packed)
            except NoScriptError as error:
                unknown = error
            else:
                options.pop("keys", None)  # Only redis-py's cache, which we do not use, takes it.
                convert = self.response_callbacks.get(name)
                return answer if convert is None else convert(answer, **options)
        # Nothing failed: the script is sent next.
        raise unknown

    async def _connect(self) -> None:
        """Connect, or wait while another caller does; one that takes long lets the next try."""
        connecting = self._connecting
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await connecting.acquire()
        except TimeoutError:
            if self._connecting is connecting:
                self._connecting = asyncio.Lock()
            return
        try:
            if self._connection is None or not self._connection.is_usable:
                connection = await self.connection_pool.get_connection()  # type: ignore[no-untyped-call]
                if self._connection is not None:
                    self._connection.leave()
                self._connection = made = _SharedConnection(self.connection_pool, connection)
                self._open.add(made)
                made.reading.add_done_callback(lambda reading: self._open.discard(made))
        finally:
            connecting.release()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections; callers that still wait get no answer."""
        for connection in self._open:
            connection.abort()
        await asyncio.gather(*(connection.reading for connection in self._open), return_exceptions=True)
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
    return SharedClient.from_pool(pool)


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
        # An answer that is not UTF-8 would end the connection for all callers that wait on it.
        "encoding_errors": "surrogateescape",
    }


class RedisCalls:
    """Asks Redis with a limit on time. Both methods raise `ServiceUnavailable` if there is no good answer.

    Args:
        redis: As `redis_client` makes it.
        functions: What all scripts begin with, in Lua.
    """

    def __init__(self, redis: Redis, functions: str) -> None:
        self.redis = redis
        self._functions = functions
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

    async def script(self, text: str, *listed: str | int | float, **named: str | int | float | None) -> Any:
        """Run a Lua script, which names its keys itself, and return its answer.

        Args:
            listed: What the script finds in `ARGV` from `listed` on.
            named: What it finds in `args`, as texts; `None` is nil.
        """
        script = self._scripts.get(text)
        if script is None:
            script = self._scripts[text] = self.redis.register_script(self._functions + text)
        pairs = [text for name, value in named.items() if value is not None for text in (name, value)]
        return await self.ask(script(args=[len(pairs), *pairs, *listed]))


class _SharedConnection:
    """A connection, and the callers that wait for its next answers.

    Attributes:
        reading: Hands answers to callers until the connection breaks, or is left and has answered all.
    """

    def __init__(self, pool: ConnectionPool, connection: AbstractConnection) -> None:
        self._is_left = False
        self._pool = pool
        self._connection = connection
        assert connection._writer is not None
        # redis-py forgets it when it closes the connection.
        self._writer = connection._writer
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._waits_since = 0.0
        self._has_ended = False
        self.reading = asyncio.create_task(self._read())

    @property
    def is_usable(self) -> bool:
        return not (self._has_ended or self._writer.is_closing() or self._is_silent)

    @property
    def _is_silent(self) -> bool:
        return bool(self._waiting) and asyncio.get_running_loop().time() >= self._waits_since + _SILENCE_SECONDS

    async def ask(self, packed: list[bytes]) -> Any:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._waits_since = loop.time()
        answer = loop.create_future()
        self._waiting.append(answer)
        # redis-py would wait until the socket takes more, and close it if that caller is cancelled, for all others too.
        self._writer.writelines(packed)
        try:
            return await answer
        except asyncio.CancelledError:
            self._end_if_in_vain()
            raise

    def leave(self) -> None:
        """Take no more commands; the last answer is the end."""
        self._is_left = True
        self._end_if_in_vain()

    def _end_if_in_vain(self) -> None:
        # The host may be gone, which TCP finds out after a quarter of an hour. A socket that was closed without having
        # sent all stays as long.
        is_waited_for = not all(each.done() for each in self._waiting)
        if self._writer.is_closing() or not is_waited_for and (self._is_left or self._is_silent):
            self.abort()

    def abort(self) -> None:
        """Break the connection, which ends the reading."""
        if not self._has_ended:
            self._writer.transport.abort()

    async def _read(self) -> None:
        error: Exception = ConnectionError("the connection was closed")
        try:
            while self._waiting or not self._is_left:
                try:
                    self._settle(await self._connection.read_response())
                except ResponseError as refusal:
                    self._settle(refusal)
        except Exception as broken:
            error = broken
        finally:
            self._has_ended = True
            while self._waiting:
                self._settle(error)
            await self._pool.release(self._connection)

    def _settle(self, answer: Any) -> None:
        self._waits_since = asyncio.get_running_loop().time()
        waiting = self._waiting.popleft()
        if waiting.done():
            return  # Its caller waits no more.
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)
