"""A file that is read while it is still being written."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from open_workshop_storage.utils.files.durable_files import Stopped

_TURN_SECONDS, _REST_SECONDS = 0.001, 0.009


class GrowingFile:
    """Lets one thread read a file as far as others have written it.

    A read sleeps until all that it asks for is there, or the file has ended. Its thread is woken for that only, however
    often the file grows meanwhile. As long as it grows, that thread works a tenth of the time at most, so that it never
    keeps the interpreter from those whom the file comes from.

    Args:
        path: Where the file is; it need not be there before something of it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._wanted = 0
        self._written = 0
        self._ended = False
        self._stopped = False
        self._over = threading.Event()
        self._rested_at = 0.0
        self._position = 0
        self._descriptor = -1

    @property
    def written(self) -> int:
        """How many bytes there are so far."""
        return self._written

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._ended

    def grow(self, written: int) -> None:
        """Tell that so many bytes have been written, from the start of the file; may be called in any thread."""
        with self._changed:
            self._written = written
            if written >= self._wanted:
                self._changed.notify()

    def end(self) -> None:
        """Tell that the file is complete; may be called in any thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._over.set()

    def stop(self) -> None:
        """Have all reads raise from now on; may be called in any thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._over.set()

    def read(self, size: int) -> bytes:
        """Return this many bytes, or what is left of them before the end. Blocks.

        Raises:
            Stopped: `stop` was called.
            OSError: The file cannot be read.
        """
        if not self._over.is_set():
            self._rest()
        if self._written < self._position + size:
            self._wait_for(self._position + size)
        if self._stopped:
            raise Stopped
        size = min(size, self._written - self._position)
        if size <= 0:
            return b""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY)
        found = os.pread(self._descriptor, size, self._position)
        self._position += len(found)
        return found

    def _wait_for(self, size: int) -> None:
        with self._changed:
            self._wanted = size
            self._changed.wait_for(lambda: self._stopped or self._ended or self._written >= size)

    def _rest(self) -> None:
        if time.thread_time() - self._rested_at > _TURN_SECONDS:
            self._over.wait(_REST_SECONDS)
            self._rested_at = time.thread_time()

    def seekable(self) -> bool:
        """Return that it is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place that need not be written yet, from the start or from the present one; return it."""
        assert whence in (os.SEEK_SET, os.SEEK_CUR)
        self._position = offset if whence == os.SEEK_SET else self._position + offset
        return self._position

    def close(self) -> None:
        """Close the file, once nothing reads it any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
