"""Remembers how large archives are when unpacked."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from open_workshop_storage.services.storage.files import StoredFile
from open_workshop_storage.utils.archives.central_directory import unpacked_size

_MAX_ENTRIES = 10_000


class UnpackedSizes:
    """A bounded memory of unpacked sizes, one entry for each version of a file."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[StoredFile, int | None] = OrderedDict()

    async def get(self, file: StoredFile) -> int | None:
        """Return the sum of a ZIP's unpacked sizes in bytes, or None if it is encrypted or cannot be read."""
        if file in self._sizes:
            self._sizes.move_to_end(file)
            return self._sizes[file]
        size = await asyncio.to_thread(_unpacked_size, file)
        self._sizes[file] = size
        while len(self._sizes) > _MAX_ENTRIES:
            self._sizes.popitem(last=False)
        return size


def _unpacked_size(file: StoredFile) -> int | None:
    try:
        with open(file.path, "rb") as opened:
            return unpacked_size(opened)
    except OSError:
        return None
