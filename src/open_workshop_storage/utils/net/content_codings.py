"""Undoes content codings of an origin's answer (RFC 9110, section 8.4)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

GZIP_CODINGS = frozenset({"gzip", "x-gzip"})

_GZIP_WINDOW_BITS = 31
_PACKED_BYTES = 16 * 1024
_UNPACKED_BYTES = 256 * 1024
_MAX_EXCESS_BYTES = 1024 * 1024
"""How much larger the packed data may be than the unpacked, besides one percent: gzip adds 0.05 % to noise."""


async def gunzipped(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Undo gzip, of one member or several, at most 256 KiB at a time.

    Raises:
        zlib.error: The data is no gzip, is cut off, or hardly anything comes of it.
    """
    member = zlib.decompressobj(_GZIP_WINDOW_BITS)
    begun = False
    excess: float = -_MAX_EXCESS_BYTES
    async for packed in _slices(chunks):
        excess += len(packed)
        while packed or begun:
            unpacked = member.decompress(packed, _UNPACKED_BYTES)
            packed = member.unconsumed_tail or member.unused_data
            begun = not member.eof
            excess -= len(unpacked) * 1.01
            if unpacked:
                yield unpacked
            if member.eof:
                member = zlib.decompressobj(_GZIP_WINDOW_BITS)
            elif not packed and len(unpacked) < _UNPACKED_BYTES:
                break
        if excess > 0:
            raise zlib.error("empty members without end")
    if begun:
        raise zlib.error("cut off")


async def _slices(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut chunks up: one chunk may hold thousands of gzip members, and each member copies the rest of its chunk."""
    async for chunk in chunks:
        for start in range(0, len(chunk), _PACKED_BYTES):
            yield chunk[start : start + _PACKED_BYTES]
            await asyncio.sleep(0)
