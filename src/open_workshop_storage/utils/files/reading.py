"""Opens and reads files on the event loop, by few system calls and without waiting for a disk."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct

from open_workshop_storage.utils.processes.threads import finished

# `CDLL` lets other Python threads run during a call, `PyDLL` does not.
_SYSCALL, _SHORT_SYSCALL = ctypes.CDLL(None).syscall, ctypes.PyDLL(None).syscall
_SYSCALL.restype = _SHORT_SYSCALL.restype = ctypes.c_long
# The number is the same on all architectures.
_OPENAT2 = 437
_AT_FDCWD = -100
_RESOLVE_NO_SYMLINKS = 0x04


class UnlinkedOpener:
    """Opens files of which no part of the path is a symbolic link (openat2(2), `RESOLVE_NO_SYMLINKS`).

    Args:
        flags: Those of open(2).
        on_loop: Whether it is used on the event loop only, which the call blocks in any case. The interpreter then
            stays with this thread: to get it back from one of the server's would take longer than the call.
    """

    def __init__(self, flags: int, *, on_loop: bool = False) -> None:
        # `struct open_how`: flags, mode, resolve.
        self._how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
        self._syscall = _SHORT_SYSCALL if on_loop else _SYSCALL

    def open(self, path: str) -> int | None:
        """Return a descriptor that the caller closes.

        Returns:
            `None` if a link is in the path, if the file cannot be opened, or if the system does not know or allow the
            call: Linux before 5.6, and some containers.
        """
        descriptor: int = self._syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), self._how, len(self._how))
        return None if descriptor < 0 else descriptor


class BlockReader:
    """Reads blocks of files: at once from the page cache, else in a thread.

    Copying from the page cache is faster than handing the read to a thread and back.
    """

    def __init__(self, most_bytes: int) -> None:
        # New memory for each large block would cost more than the copying: the kernel clears every page of it first.
        self._buffer = bytearray(most_bytes)

    async def read(self, descriptor: int, offset: int, length: int) -> bytes | bytearray:
        """Read up to `length` bytes.

        Returns:
            At least one byte, unless the file ends at `offset`; fewer than asked for is no sign of its end. They may
            change with the next read, so a caller that keeps them beyond an `await` has to copy them.
        """
        buffer = self._buffer if length == len(self._buffer) else bytearray(length)
        try:
            count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            # EAGAIN: not cached. EOPNOTSUPP: a file system that cannot tell.
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
            # A caller that is cancelled here closes the file.
            reading = asyncio.get_running_loop().run_in_executor(None, os.pread, descriptor, length, offset)
            return await finished(reading)
        return buffer if count == length else bytes(memoryview(buffer)[:count])
