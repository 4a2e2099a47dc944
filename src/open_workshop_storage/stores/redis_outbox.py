"""The callbacks that wait in Redis."""

from __future__ import annotations

from open_workshop_storage.core.callback import Callback
from open_workshop_storage.stores.redis_client import RedisCalls
from open_workshop_storage.stores.redis_keys import RedisKeys

# The worker that gets a callback here is the only one to hear of it until the lease runs out again.
_CLAIM = """
local claimed = redis.call('ZRANGE', names.due, '-inf', now, 'BYSCORE', 'LIMIT', 0, args.limit)
for _, jti in ipairs(claimed) do
    redis.call('ZADD', names.due, now + lease, jti)
end
return #claimed > 0 and redis.call('HMGET', names.outbox, unpack(claimed)) or {}
"""

_HOLD = """
redis.call('ZADD', names.due, 'XX', now + lease, args.jti)
"""

_RETRY = """
if tonumber(redis.call('HGET', names.job .. args.job_id, 'attempt') or 0) > tonumber(args.attempt) then
    return
end
redis.call('HSET', names.outbox, args.jti, args.callback)
redis.call('ZADD', names.since, 'NX', now, args.jti)
redis.call('ZADD', names.due, now + args.delay, args.jti)
"""

_SETTLE = """
drop_callback(args.jti)
"""

# One that is due sooner than a hold lasts may be held.
_HURRY = """
local due = redis.call('ZSCORE', names.due, args.jti)
if not due then
    return false
end
if due - now > lease then
    redis.call('ZADD', names.due, now, args.jti)
    return 0
end
return math.max(due - now, 0)
"""

_PENDING = """
local oldest = redis.call('ZRANGE', names.since, 0, 0, 'WITHSCORES')
return {redis.call('ZCARD', names.since), oldest[2] and now - tonumber(oldest[2]) or 0}
"""


class RedisOutbox:
    """Fulfils `core.store.Outbox`, which documents the methods; `scripts.SAVE` puts callbacks in."""

    def __init__(self, calls: RedisCalls, keys: RedisKeys) -> None:
        self._calls = calls
        self._keys = keys

    async def claim(self, limit: int) -> list[Callback]:
        texts = await self._calls.script(_CLAIM, limit=limit)
        return [Callback.model_validate_json(text) for text in texts if text]

    async def hold(self, callback: Callback) -> None:
        await self._calls.script(_HOLD, jti=callback.jti)

    async def retry(self, callback: Callback, delay: float) -> None:
        await self._calls.script(
            _RETRY,
            jti=callback.jti,
            delay=int(delay * 1000),
            callback=callback.model_dump_json(),
            job_id=callback.job_id,
            attempt=callback.attempt,
        )

    async def settle(self, callback: Callback) -> None:
        await self._calls.script(_SETTLE, jti=callback.jti)

    async def hurry(self, jti: str) -> float | None:
        due_in_ms = await self._calls.script(_HURRY, jti=jti)
        return None if due_in_ms is None else due_in_ms / 1000

    async def contains(self, jti: str) -> bool:
        return await self._calls.ask(self._calls.redis.hexists(self._keys.outbox, jti))

    async def pending(self) -> tuple[int, float]:
        count, oldest_ms = await self._calls.script(_PENDING)
        return count, oldest_ms / 1000
