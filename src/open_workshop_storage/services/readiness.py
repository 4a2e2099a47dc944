"""Says whether a service can do its work now (wire contract, section 1)."""

from __future__ import annotations

import asyncio
import os
import shutil

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore


class Readiness:
    """Looks at what a service depends on.

    Args:
        store: The job store of a loader; `None` for the distributor, which has none.
    """

    def __init__(self, settings: Settings, store: JobStore | None) -> None:
        self._settings = settings
        self._store = store

    async def missing(self) -> list[str]:
        """Return the names of what is missing, of `redis`, `storage`, `7z` and `disk`."""
        redis = [] if self._store is None or await self._redis_answers(self._store) else ["redis"]
        return redis + await asyncio.to_thread(self._missing_here)

    async def require_storage(self) -> None:
        """Return if files can be taken in.

        Raises:
            ServiceUnavailable: The storage root, or `7z`, is missing.
        """
        if {"storage", "7z"}.intersection(await asyncio.to_thread(self._missing_here)):
            raise ServiceUnavailable

    async def _redis_answers(self, store: JobStore) -> bool:
        try:
            await store.ping()
        except ServiceUnavailable:
            return False
        return True

    def _missing_here(self) -> list[str]:
        root, is_loader = self._settings.main_dir, self._store is not None
        if not root.is_dir() or (is_loader and not os.access(root, os.W_OK | os.X_OK)):
            return ["storage"] + (["7z"] if is_loader and shutil.which("7z") is None else [])
        missing = []
        if is_loader:
            if shutil.which("7z") is None:
                missing.append("7z")
            if shutil.disk_usage(root).free < self._settings.storage_reserve_bytes:
                missing.append("disk")
        return missing
