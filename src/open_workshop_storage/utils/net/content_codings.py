"""Undoes content codings of an origin's answer (RFC 9110, section 8.4)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

import httpx

_GZIP_CODINGS = frozenset({"gzip", "x-gzip"})
_OTHER_CODINGS = frozenset({"br", "compress", "dcb", "dcz", "deflate", "exi", "pack200-gzip", "x-compress", "zstd"})
_GZIP_WINDOW_BITS = 31
_GZIP_MAGIC = b"\x1f\x8b"
_PACKED_BYTES = 16 * 1024
_UNPACKED_BYTES = 256 * 1024
_MAX_EXCESS_BYTES = 1024 * 1024
"""How much larger the packed data may be than the unpacked, besides one percent: gzip adds 0.05 % to noise."""


class UnknownCoding(Exception):
    """The answer has a content coding that we do not undo."""


def is_gzipped(headers: httpx.Headers) -> bool:
    """Return whether an answer says that gzip, and nothing else, has to be undone.

    Names that no registry knows, such as `none`, `utf-8` or `aws-chunked`, mean nothing: many origins put a file's
    type or their own business there.

    Raises:
        UnknownCoding: Another coding has to be undone, or gzip more than once.
    """
    names = [name.strip().lower() for name in headers.get("content-encoding", "").split(",")]
    codings = [name for name in names if name in _GZIP_CODINGS | _OTHER_CODINGS]
    if len(codings) > 1 or not _OTHER_CODINGS.isdisjoint(codings):
        raise UnknownCoding
    return bool(codings)


async def gunzipped(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Undo gzip, of one member or several, at most 256 KiB at a time; what does not begin like gzip stays as it is.

    Raises:
        zlib.error: The data is broken, is cut off, or hardly anything comes of it.
    """
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= len(_GZIP_MAGIC):
            break
    if head.startswith(_GZIP_MAGIC):
        chunks = _unpacked(_joined(head, chunks))
    else:
        chunks = _joined(head, chunks)
    async for chunk in chunks:
        yield chunk


async def _joined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk


async def _unpacked(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
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
