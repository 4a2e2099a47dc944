"""Makes the job store that the settings name."""

from __future__ import annotations

from redis.asyncio import Redis

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.stores.redis import RedisJobStore

_DAY_SECONDS = 86400.0


def job_store(settings: Settings, redis: Redis | None) -> JobStore:
    """Return the store in Redis, or one in memory without it."""
    if redis is None:
        return MemoryJobStore(settings.slot_limits)
    idle = max(settings.job_ttl_seconds, settings.transfer_resume_seconds)
    keep = idle + settings.callback_retry_window_seconds + _DAY_SECONDS
    return RedisJobStore(redis, settings.redis_prefix, keep, settings.slot_limits)
