"""One pub/sub connection of one worker, which says when it is subscribed and comes back when it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

_logger = logging.getLogger(__name__)

_SILENCE_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
_RECONNECT_SECONDS = 0.5


class RedisChannels:
    """Subscriptions of this worker, over one connection.

    Args:
        redis: As `redis_client` makes it, so that it does not retry by itself: a connection that broke has lost
            messages, and this class has to know of it.
        always: Channels that every worker listens to; they keep the connection in use.
        on_message: Called with channel and payload of each message.
        on_return: Called after a break, once all channels are subscribed again; one that raises `OSError` counts as
            another break.
    """

    def __init__(
        self,
        redis: Redis,
        always: Sequence[str],
        on_message: Callable[[str, str], None],
        on_return: Callable[[], Awaitable[None]],
    ) -> None:
        self._redis = redis
        self._always = always
        self._on_message = on_message
        self._on_return = on_return
        self._pubsub: PubSub | None = None
        # Counted at once, so that a caller that is cancelled while it waits for Redis leaves nothing behind.
        self._users: dict[str, int] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._subscribed: set[str] = set()
        # SUBSCRIBE and UNSUBSCRIBE of one channel must reach Redis in the order in which they were asked for.
        self._order = asyncio.Lock()

    async def subscribe(self, channel: str) -> None:
        """Return when messages of the channel reach this worker; wait if Redis is away."""
        self._users[channel] = self._users.get(channel, 0) + 1
        confirmed = self._confirmed.setdefault(channel, asyncio.Event())
        async with self._order:
            if channel not in self._subscribed:
                self._subscribed.add(channel)
                await self._send("SUBSCRIBE", channel)
        await confirmed.wait()

    async def unsubscribe(self, channel: str) -> None:
        """End one use of a channel, which `subscribe` began; the last one ends the subscription."""
        self._users[channel] -= 1
        async with self._order:
            if self._users.get(channel) == 0:
                del self._users[channel], self._confirmed[channel]
                self._subscribed.discard(channel)
                await self._send("UNSUBSCRIBE", channel)

    async def _send(self, command: str, channel: str) -> None:
        if self._pubsub is not None:
            try:
                await self._pubsub.execute_command(command, channel)
            except (RedisError, OSError):
                # The reader meets the same break, and subscribes to all channels afresh.
                pass

    async def run(self) -> None:
        """Read messages until cancelled."""
        returned = away = False
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    async with self._order:
                        used = set(self._users)
                        async with asyncio.timeout(_CONNECT_SECONDS):
                            await pubsub.subscribe(*self._always, *used)
                        self._subscribed, self._pubsub = used, pubsub
                    if away:
                        _logger.info("Redis is back")
                    away = False
                    await self._read(pubsub, returned)
            except (RedisError, OSError) as error:
                if not away:
                    _logger.warning("Redis subscription broke: %s", type(error).__name__)
                returned = away = True
            finally:
                self._pubsub = None
                for confirmed in self._confirmed.values():
                    confirmed.clear()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _read(self, pubsub: PubSub, returned: bool) -> None:
        missing = set(self._subscribed) if returned else set()
        is_pinged = False
        while True:
            # It may try to connect again, and wait for that without a limit.
            async with asyncio.timeout(_SILENCE_SECONDS + _CONNECT_SECONDS):
                message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
            if message is None:
                # redis-py sends pings on such a connection but never misses the answer.
                if is_pinged:
                    raise ConnectionError("no answer to a ping")
                await pubsub.ping()
                is_pinged = True
                continue
            is_pinged = False
            if message["type"] == "message":
                self._on_message(message["channel"], message["data"])
            elif message["type"] == "subscribe":
                if message["channel"] in self._confirmed:
                    self._confirmed[message["channel"]].set()
                missing.discard(message["channel"])
                if returned and not missing:
                    returned = False
                    await self._on_return()
