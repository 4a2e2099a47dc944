"""BlurHashes of stored images, asked for by download address (docs/API.md, "POST `/blurhashes`")."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis

from open_workshop_storage.core.errors import ServiceUnavailable, StorageError
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.observability.metrics import BLURHASHES
from open_workshop_storage.services.images.cache import (
    NO_IMAGE,
    Blurhash,
    FileVersion,
    RecentBlurhashes,
    SharedBlurhashes,
)
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.storage.files import Storage
from open_workshop_storage.utils.processes.single_flight import SingleFlight

_DOWNLOAD_PATH = re.compile(r"/?download/([^/]+)/(.+)", re.DOTALL)


class Blurhashes:
    """Computes BlurHashes, each once for each version of a file.

    Args:
        redis: Shared by all workers as a cache; `None` to remember BlurHashes in this process only.
    """

    def __init__(self, storage: Storage, images: Images, settings: Settings, redis: Redis | None) -> None:
        self._storage = storage
        self._images = images
        # A large batch keeps all cores busy, and other requests get their turns in between.
        self._max_at_once = 2 * len(os.sched_getaffinity(0))
        self._recent = RecentBlurhashes(settings.blurhash_cache_size)
        self._shared = (
            None
            if redis is None
            else SharedBlurhashes(redis, settings.redis_prefix, settings.blurhash_cache_ttl_seconds)
        )
        self._flights: SingleFlight[FileVersion, Blurhash] = SingleFlight()

    async def compute(self, paths: Sequence[str]) -> list[Blurhash]:
        """Return the BlurHashes of the images at these addresses, in the same order.

        Args:
            paths: Full URLs or relative ones, whose path part is `[/]download/<type>/<path>`. An address of no image,
                or of a protected file, gets `NO_IMAGE`.

        Raises:
            ServiceUnavailable: The storage root is missing.
        """
        versions = await asyncio.to_thread(self._find_all, set(paths))
        wanted = {version for version in versions.values() if version is not None}
        known = {version: blurhash for version in wanted if (blurhash := self._recent.get(version)) is not None}
        BLURHASHES.add(len(known), {"source": "memory"})
        if len(known) < len(wanted):
            known |= await self._obtain(wanted - known.keys())
        found = (versions[path] for path in paths)
        return [NO_IMAGE if version is None else known[version] for version in found]

    def _find_all(self, paths: Collection[str]) -> dict[str, FileVersion | None]:
        return {path: self._find(path) for path in paths}

    def _find(self, path: str) -> FileVersion | None:
        address = _type_and_path(path)
        if address is None:
            return None
        try:
            file = self._storage.find(*address)
        except ServiceUnavailable:
            if not self._storage.main_dir.is_dir():
                raise
            return None
        except StorageError:
            return None
        return FileVersion(file.path, file.mtime_ns, file.size) if file.mod_id is None else None

    async def _obtain(self, versions: Collection[FileVersion]) -> dict[FileVersion, Blurhash]:
        shared = {} if self._shared is None else await self._shared.get(versions)
        for version, blurhash in shared.items():
            self._recent.put(version, blurhash)
        computed = await self._compute_all([version for version in versions if version not in shared])
        BLURHASHES.add(len(shared), {"source": "redis"})
        BLURHASHES.add(len(computed), {"source": "computed"})
        if self._shared is not None and computed:
            await self._shared.put(computed)
        return shared | computed

    async def _compute_all(self, versions: Collection[FileVersion]) -> dict[FileVersion, Blurhash]:
        turns = asyncio.Semaphore(self._max_at_once)

        async def compute(version: FileVersion) -> Blurhash:
            async with turns:
                return await self._flights.run(version, partial(self._compute, version))

        async with asyncio.TaskGroup() as group:
            tasks = {version: group.create_task(compute(version)) for version in versions}
        return {version: task.result() for version, task in tasks.items()}

    async def _compute(self, version: FileVersion) -> Blurhash:
        blurhash = self._recent.get(version)
        if blurhash is None:
            try:
                blurhash = Blurhash(*await self._images.blurhash(Path(version.path)))
            except StorageError:
                blurhash = NO_IMAGE
            self._recent.put(version, blurhash)
        return blurhash


def _type_and_path(url: str) -> tuple[str, str] | None:
    """Return the storage type and the path that a download address names, if it is one."""
    try:
        path = unquote(urlsplit(url).path, errors="strict")
    except ValueError:
        return None
    match = _DOWNLOAD_PATH.fullmatch(path)
    return (match[1], match[2]) if match else None
