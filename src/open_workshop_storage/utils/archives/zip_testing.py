"""Tests the data of ZIPs that are so small that starting `7z` takes longer."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from open_workshop_storage.utils.archives.central_directory import DEFLATE, STORED, CentralHeader

MOST_TESTED_BYTES = 1024**2
"""Inflating more takes longer than a process."""
_RAW_WINDOW_BITS = -zlib.MAX_WBITS


def is_intact(file: BinaryIO, header: CentralHeader, data_at: int) -> bool:
    """Return whether an entry's data are known to unpack to just what its header says. Blocks.

    What is in other methods than stored and Deflate is not known.

    Args:
        data_at: Where the packed data are; they and the unpacked ones are held in memory.

    Raises:
        OSError: They cannot be read.
    """
    file.seek(data_at)
    data = file.read(header.packed_bytes)
    if header.method == DEFLATE:
        inflator = zlib.decompressobj(_RAW_WINDOW_BITS)
        try:
            data = inflator.decompress(data, header.unpacked_bytes + 1)
        except zlib.error:
            return False
        if not inflator.eof or inflator.unused_data:
            return False
    elif header.method != STORED:
        return False
    return len(data) == header.unpacked_bytes and zlib.crc32(data) == header.crc
