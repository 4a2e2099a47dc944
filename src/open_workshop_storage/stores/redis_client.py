"""The Redis client that the job store and the caches of one process share."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

_CONNECT_SECONDS = 5.0


def redis_client(url: str) -> Redis:
    """Return a client that decodes answers. Nothing is connected yet.

    Whoever uses it sets a time limit of its own.
    """
    return Redis.from_url(
        url,
        decode_responses=True,
        # With it, redis-py calls `asyncio.wait_for`, which before Python 3.12 may lose a cancellation.
        socket_timeout=None,
        socket_connect_timeout=_CONNECT_SECONDS,
        # Whoever asks knows better whether to ask again: a request answers 503, a running job waits.
        retry=Retry(NoBackoff(), 0),
        # With them on, redis-py does not look whether a connection of its pool broke since its last use.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
