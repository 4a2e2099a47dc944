"""PNGs made by hand, with whatever chunks a test wants."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

MAGIC = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3


def chunk(kind: bytes, data: bytes, *, sound: bool = True) -> bytes:
    """Return a chunk, with a wrong checksum if it is not sound."""
    checksum = zlib.crc32(kind + data) if sound else zlib.crc32(kind + data) ^ 1
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(
    width: int,
    depth: int,
    colour: int,
    rows: Sequence[bytes],
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
) -> bytes:
    """Return a PNG of these packed rows, with chunks before and after its data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return MAGIC + header + b"".join(before) + data + b"".join(after) + chunk(b"IEND", b"")


def plain(*before: bytes, after: Sequence[bytes] = ()) -> bytes:
    """Return a PNG of 9×9 pixels of the colour (200, 100, 100)."""
    return png(9, 8, RGB, [bytes((200, 100, 100)) * 9] * 9, before, after)
