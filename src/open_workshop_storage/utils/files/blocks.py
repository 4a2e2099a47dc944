"""Reading files on the event loop without ever waiting for a disk."""

from __future__ import annotations

import asyncio
import errno
import os

from open_workshop_storage.utils.processes.threads import finished


class BlockReader:
    """Reads blocks of files, of at most so many bytes: at once what the page cache has, else in a thread.

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
