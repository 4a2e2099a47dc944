"""Undoes content codings of an origin's answer (RFC 9110, section 8.4)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Sequence

import httpx

from open_workshop_storage.utils.archives.decompression import (
    GZIP_WINDOW_BITS,
    Decompressor,
    ZlibStream,
    zstd,
    zstd_stream,
)
from open_workshop_storage.utils.archives.kinds import HEAD_BYTES, Kind, kind_of

_REGISTERED = frozenset(
    {
        "br",
        "compress",
        "dcb",
        "dcz",
        "deflate",
        "exi",
        "gzip",
        "pack200-gzip",
        "x-compress",
        "x-gzip",
        "zstd",
    }
)
_MOST_CODINGS = 2
_MAGICS = {
    "compress": b"\x1f\x9d",
    "x-compress": b"\x1f\x9d",
    "gzip": b"\x1f\x8b",
    "x-gzip": b"\x1f\x8b",
    "zstd": b"\x28\xb5\x2f\xfd",
}
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")
_ZSTD_WINDOW_LOG = 23
"""8 MiB, which senders keep to (RFC 9659)."""
_PACKED_BYTES = 16 * 1024
_UNPACKED_BYTES = 256 * 1024
_MAX_EXCESS_BYTES = 1024 * 1024
"""How much larger the packed data may be than the unpacked, besides one percent: gzip adds 0.05 % to noise."""


class UnknownCoding(Exception):
    """The answer has a content coding that we do not undo."""


class BrokenCoding(Exception):
    """What a content coding has to be undone of is broken, is cut off, or hardly anything comes of it."""


def codings_in(headers: httpx.Headers) -> Sequence[str]:
    """Return the content codings that an answer says it has, in the order in which they were applied.

    Names that no registry knows, such as `none`, `utf-8` or `aws-chunked`, mean nothing: many origins put a file's
    type or their own business there.
    """
    names = [name.strip().lower() for name in headers.get("content-encoding", "").split(",")]
    return [name for name in names if name in _REGISTERED]


def decoded(chunks: AsyncIterator[bytes], codings: Sequence[str]) -> AsyncIterator[bytes]:
    """Undo content codings, at most 256 KiB at a time; what does not begin like one of them has none.

    The iterator raises `BrokenCoding`, and `UnknownCoding` for what may have a coding that we do not undo.
    """
    if len(codings) > _MOST_CODINGS:
        raise UnknownCoding
    for coding in reversed(codings):
        chunks = _undone(chunks, coding)
    return chunks


async def _undone(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    head = b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    begin = _stream_of(coding, head)
    chunks = _joined(head, chunks)
    async for chunk in chunks if begin is None else _unpacked(chunks, begin):
        yield chunk


def _stream_of(coding: str, head: bytes) -> Callable[[], Decompressor] | None:
    """Return what undoes a coding of a body that begins so; `None` if it has not that coding.

    Raises:
        UnknownCoding: It may have one that we do not undo.
    """
    if coding in _MAGICS and not head.startswith(_MAGICS[coding]):
        return None
    if coding in ("gzip", "x-gzip"):
        return lambda: ZlibStream(GZIP_WINDOW_BITS)
    if coding == "zstd":
        return lambda: zstd_stream(_ZSTD_WINDOW_LOG)
    if kind_of(head) is not Kind.PLAIN or head.startswith(_PICTURES) or not head:
        # These codings have no mark of their own, but files have.
        return None
    # RFC 1950, section 2.2: the method, and a checksum of the first two bytes.
    if coding == "deflate" and head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0:
        return lambda: ZlibStream(zlib.MAX_WBITS)
    raise UnknownCoding


async def _joined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for chunk in rest:
        yield chunk


async def _unpacked(chunks: AsyncIterator[bytes], begin: Callable[[], Decompressor]) -> AsyncIterator[bytes]:
    stream, begun = begin(), False
    excess: float = -_MAX_EXCESS_BYTES
    try:
        async for packed in _slices(chunks):
            excess += len(packed)
            while packed or begun:
                unpacked = stream.decompress(packed, _UNPACKED_BYTES)
                packed, begun = b"", not stream.eof
                excess -= len(unpacked) * 1.01
                if unpacked:
                    yield unpacked
                if stream.eof:
                    packed, stream = stream.unused_data, begin()
                elif stream.needs_input and len(unpacked) < _UNPACKED_BYTES:
                    break
            if excess > 0:
                raise BrokenCoding("empty streams without end")
    except (zlib.error, zstd.ZstdError) as error:
        raise BrokenCoding(str(error)) from error
    if begun:
        raise BrokenCoding("cut off")


async def _slices(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut chunks up: one chunk may hold thousands of gzip members, and each member copies the rest of its chunk."""
    async for chunk in chunks:
        for start in range(0, len(chunk), _PACKED_BYTES):
            yield chunk[start : start + _PACKED_BYTES]
            await asyncio.sleep(0)
