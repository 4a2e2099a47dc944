"""Knows what is in the stored ZIPs that were asked for, as far as memory allows."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from cachetools import LRUCache

from open_workshop_storage.core.errors import ServiceUnavailable, UnsupportedFormat
from open_workshop_storage.services.storage.files import MOST_READ_BYTES, OpenedFile, StoredFile
from open_workshop_storage.utils.archives.faults import ArchiveFault, UnpackedTooLarge
from open_workshop_storage.utils.archives.zip_contents import ZipContents, read_contents
from open_workshop_storage.utils.processes.single_flight import SingleFlight
from open_workshop_storage.utils.processes.threads import run_until_stopped

MOST_CONTENTS_BYTES = 64 * 1024**2
"""What may be remembered of one ZIP, and of all together: enough for 200,000 entries with long names."""

_MOST_USED_BYTES = 4 * MOST_CONTENTS_BYTES
_ENTRY_BYTES = 1024
_READERS = 2
# The directory, what is looked at to find it, and a comment.
_MOST_BYTES_READ = MOST_CONTENTS_BYTES + 4 * MOST_READ_BYTES


class ZipDirectories:
    """A bounded memory of the contents of ZIPs, one entry for each version of a file.

    A directory is read in a thread of this process: no C code of a library, no pattern and nothing that takes more
    than linear time sees it, and the bytes that are read and kept are bounded. So the longest one takes seconds of the
    thread, which stops when its client leaves.
    """

    def __init__(self) -> None:
        self._known: LRUCache[bytes, ZipContents | None] = LRUCache(MOST_CONTENTS_BYTES, _memory_bytes)
        # What is forgotten here may still be sent to slow clients.
        self._used: WeakSet[ZipContents] = WeakSet()
        self._flights: SingleFlight[StoredFile, ZipContents | None] = SingleFlight()
        self._turns = asyncio.Semaphore(_READERS)

    def known(self, file: StoredFile) -> ZipContents | None:
        """Return what is in a stored ZIP, if it is remembered."""
        return self._known.get(file.key)

    async def of(self, opened: OpenedFile) -> ZipContents:
        """Return what is in a stored ZIP.

        Raises:
            UnsupportedFormat: It is none, encrypted, unsafe or broken, or has more entries than can be remembered.
            ServiceUnavailable: Slow clients hold too much of other ZIPs.
            OSError: It cannot be read.
        """
        file = opened.file
        try:
            contents = self._known[file.key]
        except KeyError:
            contents = await self._flights.run(file, lambda: self._read(opened))
        if contents is None:
            raise UnsupportedFormat
        return contents

    async def _read(self, opened: OpenedFile) -> ZipContents | None:
        async with self._turns:
            if sum(map(_memory_bytes, self._used)) > _MOST_USED_BYTES:
                raise ServiceUnavailable
            loop = asyncio.get_running_loop()
            try:
                contents = await run_until_stopped(partial(_read_in_thread, opened, loop))
                self._used.add(contents)
            except ArchiveFault:
                contents = None
        self._known[opened.file.key] = contents
        return contents


class _Stopped(Exception):
    """Nothing waits for the contents any more."""


class _BlockingFile(io.RawIOBase):
    """An opened file as readers take it that run in a thread.

    Args:
        loop: Where the file was opened.
        look_up: Called before each read; what it raises ends the reader's work.
    """

    def __init__(self, opened: OpenedFile, loop: asyncio.AbstractEventLoop, look_up: Callable[[], None]) -> None:
        self._opened = opened
        self._loop = loop
        self._look_up = look_up
        self._position = 0
        self._left_bytes = _MOST_BYTES_READ

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position from the start or from the end, and return it."""
        self._position = offset + (self._opened.file.size if whence == io.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        """Read some bytes into a buffer and return how many; 0 at the end.

        Raises:
            UnpackedTooLarge: More were read than any directory takes.
            OSError: They cannot be read.
        """
        self._look_up()
        block = asyncio.run_coroutine_threadsafe(self._copy(min(len(target), MOST_READ_BYTES)), self._loop).result()
        self._position += len(block)
        self._left_bytes -= len(block)
        if self._left_bytes < 0:
            raise UnpackedTooLarge("a directory that is hard to find")
        target[: len(block)] = block
        return len(block)

    async def _copy(self, length: int) -> bytes:
        return bytes(await self._opened.read(self._position, length))


def _read_in_thread(opened: OpenedFile, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> ZipContents:
    def look_up() -> None:
        if stop.is_set():
            raise _Stopped

    file = io.BufferedReader(_BlockingFile(opened, loop, look_up), MOST_READ_BYTES)
    return read_contents(file, MOST_CONTENTS_BYTES, look_up)


def _memory_bytes(contents: ZipContents | None) -> int:
    return _ENTRY_BYTES + (0 if contents is None else contents.memory_bytes)
