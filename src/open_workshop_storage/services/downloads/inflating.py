"""Inflates an entry of a stored ZIP as it is sent."""

from __future__ import annotations

import asyncio
import errno
import zlib
from concurrent.futures import ThreadPoolExecutor

from open_workshop_storage.services.storage.files import MOST_READ_BYTES, OpenedFile
from open_workshop_storage.utils.archives.faults import CorruptData

_PACKED_BYTES = 64 * 1024
_RAW_WINDOW_BITS = -zlib.MAX_WBITS
_TOO_SHORT = "an entry holds less than its directory says"


class InflatedEntry:
    """The bytes of a Deflate entry, read from the first to the last; an implementation of the block sender's `Source`.

    Not one byte more than announced comes out, and the last ones only if all of them are what the directory says.

    Args:
        opened: The ZIP.
        data: Where the packed data are in it.
        size: How many bytes they are to become.
        crc: The CRC-32 that those are to have.
        threads: Inflate the blocks.
    """

    def __init__(self, opened: OpenedFile, data: range, size: int, crc: int, threads: ThreadPoolExecutor) -> None:
        self._opened = opened
        self._position, self._end = data.start, data.stop
        self._left_bytes = size
        self._wanted_crc = crc
        self._threads = threads
        self._inflator = zlib.decompressobj(_RAW_WINDOW_BITS)
        self._packed = self._ahead = b""
        self._crc = 0

    async def begin(self) -> None:
        """Inflate the first bytes, so that what is wrong with them is known before an answer begins.

        Raises:
            CorruptData, OSError: As for `read`.
        """
        self._ahead = await self._next(MOST_READ_BYTES)

    async def read(self, offset: int, length: int) -> bytes:
        """Return the next `length` bytes, or fewer.

        Args:
            offset: Where the last read ended.

        Raises:
            CorruptData: The data are not what the directory says.
            OSError: The ZIP cannot be read.
        """
        if not self._ahead:
            return await self._next(length)
        block, self._ahead = self._ahead[:length], self._ahead[length:]
        return block

    async def _next(self, length: int) -> bytes:
        length = min(length, self._left_bytes)
        blocks: list[bytes] = []
        while length:
            block = await self._inflated(length)
            if not block and self._inflator.eof:
                raise CorruptData(_TOO_SHORT)
            blocks.append(block)
            length -= len(block)
            self._left_bytes -= len(block)
        if not self._left_bytes:
            while not self._inflator.eof:
                if await self._inflated(1):
                    raise CorruptData("an entry holds more than its directory says")
            if self._position < self._end or self._inflator.unused_data or self._crc != self._wanted_crc:
                raise CorruptData("an entry is not what its directory says")
        return b"".join(blocks)

    async def _inflated(self, most_bytes: int) -> bytes:
        """Return at most so many further bytes; none if what was looked at made none, or at the end."""
        had_packed = bool(self._packed) or self._position < self._end
        if not self._packed and had_packed:
            # Another read may change what this one returns.
            wanted = min(self._end - self._position, _PACKED_BYTES)
            self._packed = bytes(await self._opened.read(self._position, wanted))
            if not self._packed:
                raise OSError(errno.EIO, "the file became shorter while it was sent")
            self._position += len(self._packed)
        block = await asyncio.get_running_loop().run_in_executor(self._threads, self._inflate, most_bytes)
        # Without more packed data, zlib may still hold some that it has inflated.
        if not block and not had_packed and not self._inflator.eof:
            raise CorruptData(_TOO_SHORT)
        return block

    def _inflate(self, most_bytes: int) -> bytes:
        try:
            block = self._inflator.decompress(self._packed, most_bytes)
        except zlib.error:
            raise CorruptData("an entry that cannot be inflated") from None
        self._packed = self._inflator.unconsumed_tail
        self._crc = zlib.crc32(block, self._crc)
        return block
