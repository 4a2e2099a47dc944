"""The doctor's checks of Redis: is it reachable, durable, and does it let its user do what the services do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.operations.findings import (
    PATIENCE_SECONDS,
    Finding,
    clock_findings,
    fault,
    ok,
    reason_of,
    warning,
)
from open_workshop_storage.stores.redis_client import redis_client

_ADVICE = 'give its user the rights of docs/DEPLOYMENT.md, "2. Redis"'
_WRITE = "return redis.call('SET', KEYS[1], redis.call('TIME')[1], 'PX', 10000)"


async def examine_redis(settings: Settings) -> list[Finding]:
    """Check the Redis that the settings name."""
    if not settings.redis_url:
        text = "REDIS_URL is empty: run the loader with one worker; a restart forgets transfers that are under way"
        return [warning("Redis", text)]
    redis = redis_client(settings.redis_url)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            findings = await _rights(redis, f"{settings.redis_prefix}:doctor")
            asked = time.time()
            seconds, microseconds = await redis.time()
            findings += clock_findings("Redis", seconds + microseconds / 1e6 - asked)
            return findings + await _state(redis) or [ok("Redis", "writes each change to its disk")]
    except (AuthenticationError, ResponseError) as error:
        return [fault("Redis", f"refuses ({error}); correct user, password and database in REDIS_URL, or {_ADVICE}")]
    except (RedisError, OSError) as error:
        return [fault("Redis", f"no answer ({reason_of(error)}); start it, or correct REDIS_URL")]
    finally:
        await redis.aclose()


async def _rights(redis: Redis, name: str) -> list[Finding]:
    """Try a write, a message and a subscription, under a name below `REDIS_PREFIX`."""
    pubsub = redis.pubsub()
    tries: dict[str, Awaitable[Any]] = {
        "write a key by a script": redis.eval(_WRITE, 1, name),
        "publish": redis.publish(name, ""),
        "subscribe": pubsub.subscribe(name),
    }
    findings = []
    for right, attempt in tries.items():
        try:
            await attempt
            if right == "subscribe":
                await pubsub.get_message(timeout=PATIENCE_SECONDS)
        except NoPermissionError:
            findings.append(fault("Redis", f"its user may not {right} ({name}); {_ADVICE}"))
        except OutOfMemoryError:
            findings.append(
                fault("Redis", "is full, and refuses changes; raise `maxmemory`, or remove what else is there")
            )
        except ReadOnlyError:
            findings.append(fault("Redis", "is a replica, which cannot be written; name its master in REDIS_URL"))
    await pubsub.aclose()  # type: ignore[no-untyped-call]
    return findings


async def _state(redis: Redis) -> list[Finding]:
    try:
        info = await redis.info()
    except NoPermissionError:
        return [warning("Redis", f"its user may not ask INFO, so whether jobs survive a crash is not known; {_ADVICE}")]
    findings = []
    if "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")):
        findings.append(fault("Redis", "could not write to its disk, and may refuse changes; make room there"))
    if not info.get("aof_enabled"):
        findings.append(warning("Redis", "loses the latest jobs when it dies; set `appendonly yes`"))
    if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        findings.append(fault("Redis", "may throw jobs away when it is full; set `maxmemory-policy noeviction`"))
    return findings
