"""BlurHashes of stored images, by the addresses that they are downloaded from (docs/API.md, "POST `/blurhashes`").

They are remembered, one for each version of a file: in this process, and in Redis for all workers.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

from cachetools import TLRUCache
from redis.asyncio import Redis
from redis.exceptions import RedisError

from open_workshop_storage.core.errors import ServiceUnavailable, StorageError
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.metrics import BLURHASHES
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.storage.files import Address, Files, StoredFile
from open_workshop_storage.stores.redis_keys import RedisKeys
from open_workshop_storage.utils.processes.single_flight import SingleFlight
from open_workshop_storage.utils.processes.task_groups import work_on_each

_DOWNLOAD_PATH = re.compile(r"/?download/([^/]+)/(.+)", re.DOTALL)
_NOWHERE: Address = ("", "")
# A name of 4095 bytes, all of it encoded, and a host. `urlsplit` keeps the last 128 URLs, however long they are; so
# they take 17 MB at most.
_MAX_URL_CHARACTERS = 16 * 1024
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


class Blurhashes:
    """Computes BlurHashes, each once for each version of a file.

    Args:
        redis: Shared by all workers as a cache; `None` to remember BlurHashes in this process only.
    """

    def __init__(self, files: Files, images: Images, settings: Settings, redis: Redis | None) -> None:
        self._files = files
        self._images = images
        # A large batch keeps all cores busy, and other requests get their turns in between.
        self._max_at_once = 2 * len(os.sched_getaffinity(0))
        # By files' keys. An entry takes 500 bytes at most.
        self._recent: TLRUCache[bytes, Blurhash] = TLRUCache(settings.blurhash_cache_size, _expires, time.monotonic)
        self._shared: SharedBlurhashes | None = None
        if redis is not None:
            self._shared = SharedBlurhashes(redis, settings.redis_prefix, settings.blurhash_cache_ttl_seconds)
        self._flights: SingleFlight[StoredFile, Blurhash] = SingleFlight()

    async def compute(self, paths: Sequence[str]) -> list[Blurhash]:
        """Return the BlurHashes of the images at these addresses, in the same order.

        Args:
            paths: Full URLs or relative ones, whose path part is `[/]download/<type>/<path>`. An address of no image,
                or of a protected file, gets `NO_IMAGE`.

        Raises:
            ServiceUnavailable: The store is away.
        """
        # A thousand long addresses take a while to read.
        addresses = await asyncio.to_thread(_addresses, set(paths))
        found = await self._files.find_all(set(addresses.values()))
        files = {address: file for address, file in found.items() if file.mod_id is None}
        wanted = set(files.values())
        known = {file: blurhash for file in wanted if (blurhash := self._recent.get(file.key)) is not None}
        BLURHASHES.add(len(known), {"source": "memory"})
        if len(known) < len(wanted):
            known |= await self._obtain(wanted - known.keys())
        at_addresses = (files.get(addresses.get(path, _NOWHERE)) for path in paths)
        return [NO_IMAGE if file is None else known[file] for file in at_addresses]

    async def _obtain(self, files: Collection[StoredFile]) -> dict[StoredFile, Blurhash]:
        shared = {} if self._shared is None else await self._shared.get(files)
        for file, blurhash in shared.items():
            self._remember(file, blurhash)
        computed = await self._compute_all([file for file in files if file not in shared])
        BLURHASHES.add(len(shared), {"source": "redis"})
        BLURHASHES.add(len(computed), {"source": "computed"})
        if self._shared is not None and computed:
            await self._shared.put(computed)
        return shared | computed

    async def _compute_all(self, files: Collection[StoredFile]) -> dict[StoredFile, Blurhash]:
        async def compute(file: StoredFile) -> Blurhash:
            return await self._flights.run(file, partial(self._compute, file))

        return dict(zip(files, await work_on_each(compute, files, self._max_at_once)))

    async def _compute(self, file: StoredFile) -> Blurhash:
        blurhash = self._recent.get(file.key)
        if blurhash is None:
            try:
                async with self._files.local_copy(file) as path:
                    blurhash = Blurhash(*await self._images.blurhash(path))
            except ServiceUnavailable:
                # It may be one, and what is remembered stays so.
                raise
            except StorageError:
                blurhash = NO_IMAGE
            self._remember(file, blurhash)
        return blurhash

    def _remember(self, file: StoredFile, blurhash: Blurhash) -> None:
        # With `BLURHASH_CACHE_SIZE = 0` there is no room for any.
        with suppress(ValueError):
            self._recent[file.key] = blurhash


def _addresses(urls: Collection[str]) -> dict[str, Address]:
    return {url: address for url in urls if (address := _type_and_path(url)) is not None}


def _type_and_path(url: str) -> Address | None:
    """Return the storage type and the path that a download address names, if it is one."""
    if len(url) > _MAX_URL_CHARACTERS:
        return None
    try:
        path = unquote(urlsplit(url).path, errors="strict")
    except ValueError:
        return None
    match = _DOWNLOAD_PATH.fullmatch(path)
    return (match[1], match[2]) if match else None


def _expires(key: bytes, blurhash: Blurhash, now: float) -> float:
    return now + _NEGATIVE_SECONDS if blurhash == NO_IMAGE else math.inf


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
