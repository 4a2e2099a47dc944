"""Tells how large archives are when unpacked."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cachetools import LRUCache

from open_workshop_storage.services.storage.files import Files, StoredFile
from open_workshop_storage.utils.archives.central_directory import unpacked_size
from open_workshop_storage.utils.processes.single_flight import SingleFlight

_MOST_FILES = 10_000
_READERS = 2


class UnpackedSizes:
    """A bounded memory of unpacked sizes, one entry for each version of a file.

    What is kept with a file is believed; otherwise its directory is read, once for all requests at the same time, and
    in few threads, since a long directory holds the interpreter up.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._sizes: LRUCache[StoredFile, int | None] = LRUCache(_MOST_FILES)
        self._flights: SingleFlight[StoredFile, int | None] = SingleFlight()
        self._readers = asyncio.Semaphore(_READERS)

    async def get(self, file: StoredFile) -> int | None:
        """Return the sum of a ZIP's unpacked sizes in bytes, or None if it is encrypted or cannot be read."""
        try:
            return self._sizes[file]
        except KeyError:
            size = self._sizes[file] = await self._flights.run(file, lambda: self._find_out(file))
            return size

    async def _find_out(self, file: StoredFile) -> int | None:
        facts = await self._files.facts(file)
        if facts is not None:
            return facts.unpacked_bytes
        async with self._readers, self._files.local_copy(file) as path:
            return await asyncio.to_thread(_unpacked_size, path)


def _unpacked_size(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            return unpacked_size(file)
    except OSError:
        return None
