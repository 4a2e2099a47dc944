"""Remembers how large archives are when unpacked."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cachetools import LRUCache

from open_workshop_storage.services.storage.files import Files, StoredFile
from open_workshop_storage.utils.archives.central_directory import unpacked_size

_MOST_FILES = 10_000


class UnpackedSizes:
    """A bounded memory of unpacked sizes, one entry for each version of a file."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._sizes: LRUCache[StoredFile, int | None] = LRUCache(_MOST_FILES)

    async def get(self, file: StoredFile) -> int | None:
        """Return the sum of a ZIP's unpacked sizes in bytes, or None if it is encrypted or cannot be read."""
        try:
            return self._sizes[file]
        except KeyError:
            async with self._files.local_copy(file) as path:
                size = self._sizes[file] = await asyncio.to_thread(_unpacked_size, path)
            return size


def _unpacked_size(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            return unpacked_size(file)
    except OSError:
        return None
