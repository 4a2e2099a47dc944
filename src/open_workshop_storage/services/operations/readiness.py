"""Says whether a service can do its work now (docs/API.md, "Health")."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Literal

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.services.storage.disk import has_space

Missing = Literal["redis", "storage", "7z", "disk"]
"""What a service may have to wait for."""


class Readiness:
    """Looks at what a service depends on.

    Args:
        store: What asks Redis, if there is one.
        loads: Whether the service takes files in, and so needs more than to read them.
    """

    def __init__(self, settings: Settings, store: JobStore, *, loads: bool) -> None:
        self._settings = settings
        self._store = store
        self._loads = loads

    async def missing(self) -> list[Missing]:
        """Return the names of what is missing."""
        redis: list[Missing] = [] if await self._redis_answers() else ["redis"]
        return redis + await asyncio.to_thread(self._missing_here)

    async def require(self, *names: Missing) -> None:
        """Return if what a call needs is there.

        Args:
            names: What it needs; Redis tells by itself.

        Raises:
            ServiceUnavailable: Some of it is missing.
        """
        if set(names).intersection(await asyncio.to_thread(self._missing_here)):
            raise ServiceUnavailable

    async def _redis_answers(self) -> bool:
        try:
            await self._store.ping()
        except ServiceUnavailable:
            return False
        return True

    def _missing_here(self) -> list[Missing]:
        root = self._settings.main_dir
        if not self._loads:
            return [] if root.is_dir() else ["storage"]
        missing: list[Missing] = [] if root.is_dir() and os.access(root, os.W_OK | os.X_OK) else ["storage"]
        if shutil.which("7z") is None:
            missing.append("7z")
        if root.is_dir() and not has_space(root, 0, self._settings.storage_reserve_bytes):
            missing.append("disk")
        return missing
