"""Remembers BlurHashes, one for each version of a file: in this process, and in Redis for all workers."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

_NEGATIVE_SECONDS = 60.0
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Blurhash:
    """An image's BlurHash and size; all are None if the file is no image.

    Attributes:
        blurhash: Its BlurHash.
        width: Pixels.
        height: Pixels.
    """

    blurhash: str | None
    width: int | None
    height: int | None


NO_IMAGE = Blurhash(None, None, None)
"""A file that is no image. It is remembered for a minute only."""


class FileVersion(NamedTuple):
    """A version of a file: its real path, its last change in nanoseconds, its size in bytes."""

    path: str
    mtime_ns: int
    size: int


class RecentBlurhashes:
    """A memory that keeps what was used last.

    Args:
        size: How many entries it keeps.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[FileVersion, tuple[Blurhash, float]] = OrderedDict()

    def get(self, version: FileVersion) -> Blurhash | None:
        """Return what is known of a file, or `None` if nothing is."""
        blurhash, expires = self._entries.get(version, (None, 0.0))
        if blurhash is None:
            return None
        if expires <= time.monotonic():
            del self._entries[version]
            return None
        self._entries.move_to_end(version)
        return blurhash

    def put(self, version: FileVersion, blurhash: Blurhash) -> None:
        """Remember what is known of a file."""
        expires = time.monotonic() + _NEGATIVE_SECONDS if blurhash == NO_IMAGE else math.inf
        self._entries[version] = blurhash, expires
        self._entries.move_to_end(version)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)


class SharedBlurhashes:
    """What all workers remember together. While Redis is away, or slow, it remembers nothing.

    Args:
        redis: A client that decodes answers.
        prefix: `REDIS_PREFIX`; the keys are `<prefix>:blurhash:<digest of the file's version>`.
        ttl_seconds: How long an entry stays.
    """

    def __init__(self, redis: Redis, prefix: str, ttl_seconds: float) -> None:
        self._redis = redis
        self._prefix = prefix
        self._ttl_seconds = ttl_seconds

    async def get(self, versions: Collection[FileVersion]) -> dict[FileVersion, Blurhash]:
        """Return what is known of these files, in one round trip."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                values = await self._redis.mget([self._key(version) for version in versions])
        except (RedisError, OSError):
            return {}
        found = zip(versions, map(_read, values), strict=True)
        return {version: blurhash for version, blurhash in found if blurhash is not None}

    async def put(self, blurhashes: Mapping[FileVersion, Blurhash]) -> None:
        """Remember what is known of these files, in one round trip."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self._redis.pipeline(transaction=False) as pipeline:
                for version, blurhash in blurhashes.items():
                    seconds = _NEGATIVE_SECONDS if blurhash == NO_IMAGE else self._ttl_seconds
                    pipeline.set(self._key(version), _written(blurhash), px=math.ceil(seconds * 1000))
                await pipeline.execute()
        except (RedisError, OSError):
            pass

    def _key(self, version: FileVersion) -> str:
        content = "\0".join(map(str, version)).encode(errors="surrogateescape")
        return f"{self._prefix}:blurhash:{hashlib.blake2b(content, digest_size=16).hexdigest()}"


def _written(blurhash: Blurhash) -> str:
    return "" if blurhash == NO_IMAGE else f"{blurhash.blurhash} {blurhash.width} {blurhash.height}"


def _read(value: object) -> Blurhash | None:
    if not isinstance(value, str):
        return None
    if value == "":
        return NO_IMAGE
    blurhash, width, height = value.split(" ")
    return Blurhash(blurhash, int(width), int(height))
