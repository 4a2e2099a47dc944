"""Remembers BlurHashes, one for each version of a file: in this process, and in Redis for all workers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cachetools import TLRUCache
from redis.asyncio import Redis
from redis.exceptions import RedisError

from open_workshop_storage.services.storage.files import StoredFile
from open_workshop_storage.stores.redis_keys import RedisKeys

_NEGATIVE_SECONDS = 60.0
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Blurhash:
    """An image's BlurHash, and its size in pixels; all are None if the file is no image."""

    blurhash: str | None
    width: int | None
    height: int | None


NO_IMAGE = Blurhash(None, None, None)
"""A file that is no image. It is remembered for a minute only."""


def recent_blurhashes(size: int) -> TLRUCache[bytes, Blurhash]:
    """Return a memory, by files' keys, of so many entries that keeps what was used last; one of none raises ValueError.

    An entry takes 500 bytes at most.
    """

    def expires(key: bytes, blurhash: Blurhash, now: float) -> float:
        return now + _NEGATIVE_SECONDS if blurhash == NO_IMAGE else math.inf

    return TLRUCache(size, expires, time.monotonic)


class SharedBlurhashes:
    """What all workers remember together. While Redis is away, or slow, it remembers nothing.

    Args:
        redis: A client that decodes answers.
    """

    def __init__(self, redis: Redis, prefix: str, ttl_seconds: float) -> None:
        self._redis = redis
        self._keys = RedisKeys(prefix)
        self._ttl_seconds = ttl_seconds

    async def get(self, files: Collection[StoredFile]) -> dict[StoredFile, Blurhash]:
        """Return what is known of these files, in one round trip."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                values = await self._redis.mget([self._key(file) for file in files])
        except (RedisError, OSError):
            return {}
        found = zip(files, map(_read, values), strict=True)
        return {file: blurhash for file, blurhash in found if blurhash is not None}

    async def put(self, blurhashes: Mapping[StoredFile, Blurhash]) -> None:
        """Remember what is known of these files, in one round trip."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self._redis.pipeline(transaction=False) as pipeline:
                for file, blurhash in blurhashes.items():
                    seconds = _NEGATIVE_SECONDS if blurhash == NO_IMAGE else self._ttl_seconds
                    pipeline.set(self._key(file), _written(blurhash), px=math.ceil(seconds * 1000))
                await pipeline.execute()
        except (RedisError, OSError):
            pass

    def _key(self, file: StoredFile) -> str:
        return self._keys.blurhash + file.key.hex()


def _written(blurhash: Blurhash) -> str:
    return "" if blurhash == NO_IMAGE else f"{blurhash.blurhash} {blurhash.width} {blurhash.height}"


def _read(value: object) -> Blurhash | None:
    if not isinstance(value, str):
        return None
    if value == "":
        return NO_IMAGE
    blurhash, width, height = value.split(" ")
    return Blurhash(blurhash, int(width), int(height))
