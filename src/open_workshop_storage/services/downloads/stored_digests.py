"""Tells the digests of stored files."""

from __future__ import annotations

from cachetools import LRUCache

from open_workshop_storage.services.storage.files import Files, StoredFile

_MOST_FILES = 4096
_USUAL_NAME_CHARACTERS = 255
"""Files of longer names are not remembered, so that all together take 4 MB."""


class Digests:
    """A bounded memory of the digests that are kept with files, one entry for each version of a file.

    A file without a digest may get one, so that is not remembered.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: LRUCache[StoredFile, str] = LRUCache(_MOST_FILES)

    async def get(self, file: StoredFile) -> str | None:
        """Return a file's SHA-256 as hex digits; None if it is not known."""
        try:
            return self._known[file]
        except KeyError:
            pass
        facts = await self._files.facts(file)
        if facts is None or facts.sha256 is None:
            return None
        if len(file.name) <= _USUAL_NAME_CHARACTERS:
            self._known[file] = facts.sha256
        return facts.sha256
