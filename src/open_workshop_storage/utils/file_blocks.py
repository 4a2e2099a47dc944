"""Reading files on the event loop without ever waiting for a disk."""

from __future__ import annotations

import errno
import os

from open_workshop_storage.utils.threads import run_to_end


async def read_block(descriptor: int, offset: int, length: int) -> bytearray:
    """Read up to `length` bytes: at once what the page cache has, else in a thread.

    Copying from the page cache is faster than handing the read to a thread and back.

    Returns:
        At least one byte, unless the file ends at `offset`; fewer than asked for is no sign of its end.
    """
    buffer = bytearray(length)
    try:
        count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError as error:
        # EAGAIN: not cached. EOPNOTSUPP: a file system that cannot tell.
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
            raise
        count = await run_to_end(lambda stop: os.preadv(descriptor, [buffer], offset))
    del buffer[count:]
    return buffer
