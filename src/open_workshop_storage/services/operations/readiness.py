"""Checks whether a service can do its work now (docs/API.md, "Health")."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from typing import Literal

from open_workshop_storage.core.errors import ServiceUnavailable
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.workspaces import Workspaces

Missing = Literal["redis", "storage", "7z", "disk"]
"""What a service depends on."""

_LOOK_SECONDS = 1.0
"""How long a call trusts what an earlier one found.

The storage root is looked for each time: without it, a call would make folders on the disk below its mount point.
"""


class Readiness:
    """Looks at what a service depends on.

    Args:
        store: Where jobs are; it is asked whether Redis answers.
        loads: Whether the service takes files in; one that only gives them out needs neither `7z` nor free space.
    """

    def __init__(self, files: Files, workspaces: Workspaces, store: JobStore, *, loads: bool) -> None:
        self._files = files
        self._workspaces = workspaces
        self._store = store
        self._loads = loads
        self._found_at: dict[Missing, float] = {}

    async def missing(self) -> list[Missing]:
        """Return the names of what is missing."""
        return await self._missing_of("redis", "storage", *(("7z", "disk") if self._loads else ()))

    async def require(self, *names: Missing) -> None:
        """Return if all that a call needs is available.

        Args:
            names: What the call needs besides Redis, whose absence raises with the first command.

        Raises:
            ServiceUnavailable: At least one is missing.
        """
        looked_for_after = time.monotonic() - _LOOK_SECONDS
        unsure = [name for name in names if name == "storage" or self._found_at.get(name, 0.0) <= looked_for_after]
        if unsure and await self._missing_of(*unsure):
            raise ServiceUnavailable

    async def _missing_of(self, *names: Missing) -> list[Missing]:
        looked_at = time.monotonic()
        found = await asyncio.gather(*map(self._is_there, names))
        self._found_at |= {name: looked_at for name, is_there in zip(names, found, strict=True) if is_there}
        return [name for name, is_there in zip(names, found, strict=True) if not is_there]

    async def _is_there(self, name: Missing) -> bool:
        match name:
            case "redis":
                with suppress(ServiceUnavailable):
                    await self._store.ping()
                    return True
                return False
            case "storage":
                return await self._files.is_available(for_writing=self._loads)
            case "7z":
                return await asyncio.to_thread(shutil.which, "7z") is not None
            case "disk":
                return await self._workspaces.has_space()
