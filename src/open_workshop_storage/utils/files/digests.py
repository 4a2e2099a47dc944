"""SHA-256 of files, as 64 lower-case hex digits."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from open_workshop_storage.utils.files.durable_files import Stopped

_BLOCK_BYTES = 512 * 1024
_LARGEST_SHARE = 0.25
# The first blocks of a body have often arrived before we read, and come at once.
_FREE_BYTES = 16 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    """Return whether a text has the form of a digest."""
    return _SHA256.fullmatch(text) is not None


class FileDigest:
    """The digest of a file, computed while its bytes are written, and from the file for the rest.

    Hashing takes a core about a second for each GiB. A sender on a network leaves time for that; a faster one would
    send a third less. So hashing stops when it has taken a quarter of the body's time. The rest is read from the
    complete file, while other programs read it too.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._began = 0.0
        self._seconds = 0.0
        self._is_behind = False

    def add(self, blocks: Sequence[bytes]) -> None:
        """Hash the next bytes of the file, from its start on, or leave them to `finish` if there is no time. Blocks."""
        if self._is_behind:
            return
        began = time.monotonic()
        self._began = self._began or began
        for block in blocks:
            self._hash.update(block)
            self._bytes += len(block)
        now = time.monotonic()
        self._seconds += now - began
        self._is_behind = self._bytes > _FREE_BYTES and self._seconds > (now - self._began) * _LARGEST_SHARE

    def of(self, size: int) -> str | None:
        """Return the digest of a file of so many bytes if all of them have been added, else `None`."""
        return self._hash.hexdigest() if self._bytes == size else None

    def finish(self, path: Path, stop: threading.Event) -> str:
        """Return the digest of the complete file. Blocks.

        Args:
            path: Where the file is; the bytes that have not been added are read.
            stop: Ends the reading when set.

        Raises:
            Stopped: The event was set before the file's end.
            OSError: It cannot be read.
        """
        block = memoryview(bytearray(_BLOCK_BYTES))
        with path.open("rb", buffering=0) as file:
            file.seek(self._bytes)
            while count := file.readinto(block):
                self._hash.update(block[:count])
                self._bytes += count
                if stop.is_set():
                    raise Stopped
        return self._hash.hexdigest()
