"""One connection to Redis, over which all commands of a worker go at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError, ResponseError

_SILENCE_SECONDS = 1.0
"""After so long without an answer that is due, later commands go over another connection."""


class RedisLine:
    """Sends commands as they come; Redis answers in the order in which it is asked.

    redis-py lends each command a connection of its own, which takes more CPU time than all else about the command.

    Args:
        pool: Makes the connection, and another one when that has broken or is silent.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._packer = HiredisRespSerializer()
        self._connecting = asyncio.Lock()
        self._connected: _Connected | None = None
        self._reading: set[asyncio.Task[None]] = set()

    async def ask(self, command: Sequence[str | int | float]) -> Any:
        """Send a command and return its answer. Redis may carry it out even if the caller is cancelled.

        Raises:
            ResponseError: Redis refuses the command.
            ConnectionError: There is no connection, or it broke before the answer came.
            OSError: There is no connection.
        """
        packed: list[bytes] = self._packer.pack(*command)  # type: ignore[arg-type]
        if self._connected is None or not self._connected.is_usable:
            async with self._connecting:
                if self._connected is None or not self._connected.is_usable:
                    await self._connect()
        assert self._connected is not None
        return await self._connected.ask(packed)

    async def _connect(self) -> None:
        if self._connected is not None:
            self._connected.leave()
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        self._connected = _Connected(self._pool, connection)
        self._reading.add(self._connected.reading)
        self._connected.reading.add_done_callback(self._reading.discard)

    async def aclose(self) -> None:
        """Break the connection; callers that still wait get no answer."""
        reading = list(self._reading)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


class _Connected:
    """A connection, and the callers that wait for its next answers.

    Attributes:
        reading: Hands answers to callers until the connection breaks, or is left and has answered all.
    """

    def __init__(self, pool: ConnectionPool, connection: AbstractConnection) -> None:
        self._is_left = False
        self._pool = pool
        self._connection = connection
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._waits_since = 0.0
        self._has_ended = False
        self.reading = asyncio.create_task(self._read())

    @property
    def is_usable(self) -> bool:
        # redis-py would connect again by itself, while earlier callers still wait for their answers.
        writer = self._connection._writer
        return writer is not None and not writer.is_closing() and not self._has_ended and not self._is_silent

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
        self._connection._writer.writelines(packed)  # type: ignore[union-attr]
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
        is_closed = not self._connection.is_connected
        if not self._has_ended and (is_closed or self._is_silent and all(each.done() for each in self._waiting)):
            self.reading.cancel()

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
