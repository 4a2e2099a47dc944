"""The callbacks that wait in Redis."""

from __future__ import annotations

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.core.store import LEASE_SECONDS
from open_workshop_storage.stores.redis_client import RedisCalls
from open_workshop_storage.stores.redis_keys import RedisKeys
from open_workshop_storage.stores.redis_scripts import NOW

_LEASE_MS = int(LEASE_SECONDS * 1000)

# The worker that gets a callback here is the only one to hear of it until the lease runs out again.
_CLAIM = NOW + """
local names = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, jti in ipairs(names) do
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), jti)
end
return #names > 0 and redis.call('HMGET', KEYS[2], unpack(names)) or {}
"""

_HOLD = NOW + """
return redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[2]), ARGV[1])
"""

_RETRY = NOW + """
if tonumber(redis.call('HGET', KEYS[4], 'attempt') or 0) > tonumber(ARGV[4]) then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[3], 'NX', now, ARGV[1])
return redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
"""

_SETTLE = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
"""

# One that is due sooner than a hold lasts may be held.
_HURRY = NOW + """
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due then
    return false
end
if due - now > tonumber(ARGV[2]) then
    redis.call('ZADD', KEYS[1], now, ARGV[1])
    return 0
end
return math.max(due - now, 0)
"""

_PENDING = NOW + """
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {redis.call('ZCARD', KEYS[1]), oldest[2] and now - tonumber(oldest[2]) or 0}
"""


class RedisOutbox:
    """Fulfils `core.store.Outbox`, each method by Redis's clock and in one step; `scripts.SAVE` puts callbacks in."""

    def __init__(self, calls: RedisCalls, keys: RedisKeys) -> None:
        self._calls = calls
        self._job = keys.job
        self._outbox, self._due, self._since = keys.outbox, keys.due, keys.since

    async def claim(self, limit: int) -> list[Callback]:
        """Return due callbacks, and make them due again after `LEASE_SECONDS`."""
        texts = await self._calls.script(_CLAIM, [self._due, self._outbox], limit, _LEASE_MS)
        return [Callback.model_validate_json(text) for text in texts if text]

    async def hold(self, callback: Callback) -> None:
        """Make a callback due after `LEASE_SECONDS`, if it still waits."""
        await self._calls.script(_HOLD, [self._due], callback.jti, _LEASE_MS)

    async def retry(self, callback: Callback, delay: float) -> None:
        """Keep a callback's record, due in so many seconds, unless a later attempt at its job began."""
        keys = [self._outbox, self._due, self._since, self._job + callback.job_id]
        values = callback.jti, int(delay * 1000), callback.model_dump_json(), callback.attempt
        await self._calls.script(_RETRY, keys, *values)

    async def settle(self, callback: Callback) -> None:
        """Take a callback out."""
        await self._calls.script(_SETTLE, [self._outbox, self._due, self._since], callback.jti)

    async def hurry(self, jti: str) -> float | None:
        """Make a callback due now, unless it may be under delivery; return the seconds until it is due."""
        due_in_ms = await self._calls.script(_HURRY, [self._due], jti, _LEASE_MS)
        return None if due_in_ms is None else due_in_ms / 1000

    async def contains(self, jti: str) -> bool:
        """Return whether the report of this name waits."""
        return await self._calls.ask(self._calls.redis.hexists(self._outbox, jti))

    async def pending(self) -> tuple[int, float]:
        """Return the number of callbacks, and the age of the oldest in seconds."""
        count, oldest_ms = await self._calls.script(_PENDING, [self._since])
        return count, oldest_ms / 1000
