"""What is remembered of stored archives: how large they are when unpacked, and what is in ZIPs."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from cachetools import LRUCache

from open_workshop_storage.core.errors import ServiceUnavailable, UnsupportedFormat
from open_workshop_storage.services.storage.files import MOST_READ_BYTES, Files, OpenedFile, StoredFile
from open_workshop_storage.utils.archives.contents import ZipContents, read_contents, unpacked_size
from open_workshop_storage.utils.archives.faults import ArchiveFault, UnpackedTooLarge
from open_workshop_storage.utils.processes.python_children import ChildFailed, PythonChildren
from open_workshop_storage.utils.processes.single_flight import SingleFlight
from open_workshop_storage.utils.processes.threads import run_to_end, run_until_stopped

MOST_CONTENTS_BYTES = 64 * 1024**2
"""What may be remembered of one ZIP, and of all together: enough for 200,000 entries with long names."""

_MOST_USED_BYTES = 4 * MOST_CONTENTS_BYTES
_ENTRY_BYTES = 1024
_READERS = 2
# The directory, what is looked at to find it, and a comment.
_MOST_BYTES_READ = MOST_CONTENTS_BYTES + 4 * MOST_READ_BYTES

_MOST_SIZES = 10_000
"""How many sizes a worker remembers; all together take 3 MB."""
# No file system holds more; what a child returns is as untrusted as the file.
_MOST_UNPACKED_BYTES = 2**63

_CHILDREN = 2
_CHILD_MEMORY_BYTES = 512 * 1024**2
# The longest directory of a ZIP that is read took 8 s; most take milliseconds.
_CPU_SECONDS, _CHILD_SECONDS = 20.0, 60.0


class UnpackedSizes:
    """A bounded memory of unpacked sizes, one entry for each version of a file.

    What is kept with a file is believed; otherwise its directory is read in a child process with limits, once for all
    requests at the same time.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._sizes: LRUCache[bytes, int | None] = LRUCache(_MOST_SIZES)
        self._flights: SingleFlight[StoredFile, int | None] = SingleFlight()
        self._children = PythonChildren(_CHILDREN, _CHILD_MEMORY_BYTES, ())

    async def get(self, file: StoredFile) -> int | None:
        """Return the sum of the unpacked sizes in a ZIP or a 7z archive in bytes.

        Returns:
            None if the archive is encrypted, or cannot be read within the limits.
        """
        key = file.key
        try:
            return self._sizes[key]
        except KeyError:
            size = self._sizes[key] = await self._flights.run(file, lambda: self._find_out(file))
            return size

    async def aclose(self) -> None:
        """End the child processes."""
        await self._children.aclose()

    async def _find_out(self, file: StoredFile) -> int | None:
        facts = await self._files.facts(file)
        if facts is not None and facts.unpacked_bytes is not None:
            return facts.unpacked_bytes
        try:
            async with self._files.local_copy(file, ends_only=True) as path:
                with await run_to_end(path.open, "rb") as opened:
                    size = await self._children.call(
                        unpacked_size, files=[opened], seconds=_CHILD_SECONDS, cpu_seconds=_CPU_SECONDS
                    )
        except (ChildFailed, OSError):
            return None
        return size if isinstance(size, int) and 0 <= size < _MOST_UNPACKED_BYTES else None


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
        """Go to a position, and return it."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._opened.file.size}
        self._position = starts[whence] + offset
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
